#!/usr/bin/env python
"""`car-ext compare`, from a clone."""

import sys

from car_ext.cli import exits
from car_ext.commands import compare, program


def main() -> int:
    """As `car_ext.commands.program.alone`."""
    return program.alone(compare, "python train/compare.py")


if __name__ == "__main__":
    sys.exit(exits.run(main))
