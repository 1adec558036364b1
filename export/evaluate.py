#!/usr/bin/env python
"""`car-ext evaluate`, from a clone."""

import sys

from car_ext.cli import exits
from car_ext.commands import evaluate, program


def main() -> int:
    """As `car_ext.commands.program.alone`."""
    return program.alone(evaluate, "python export/evaluate.py")


if __name__ == "__main__":
    sys.exit(exits.run(main))
