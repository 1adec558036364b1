#!/usr/bin/env python
"""`car-ext sweep`, from a clone."""

import sys

from car_ext.cli import exits
from car_ext.commands import program, sweep


def main() -> int:
    """As `car_ext.commands.program.alone`."""
    return program.alone(sweep, "python train/sweep.py")


if __name__ == "__main__":
    sys.exit(exits.run(main))
