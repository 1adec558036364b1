"""`python -m car_ext`: the program `car-ext`."""

import sys

from car_ext.cli import exits
from car_ext.commands import program


def main() -> int:
    """As `car_ext.commands.program.main`."""
    return program.main("python -m car_ext")


if __name__ == "__main__":
    sys.exit(exits.run(main))
