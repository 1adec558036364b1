#!/usr/bin/env python
"""`car-ext export`, from a clone."""

import sys

from car_ext.cli import exits
from car_ext.commands import export, program


def main() -> int:
    """As `car_ext.commands.program.alone`."""
    return program.alone(export, "python export/to_onnx.py")


if __name__ == "__main__":
    sys.exit(exits.run(main))
