"""The command line: flags, tables, exit codes."""

from car_ext.cli.exits import run

__all__ = ["run"]
