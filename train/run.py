#!/usr/bin/env python
"""`car-ext train`, from a clone."""

import sys

from car_ext.cli import exits
from car_ext.commands import program, train


def main() -> int:
    """As `car_ext.commands.program.alone`."""
    return program.alone(train, "python train/run.py")


if __name__ == "__main__":
    sys.exit(exits.run(main))
