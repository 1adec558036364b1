"""A command line that says in one sentence what is wrong with it, and imports nothing before it is needed."""

import argparse
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

from car_ext.errors import InputError, suggest
from car_ext.values import convert


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser`, but every mistake raises `InputError`, and a misspelt flag never means another one.

    Args:
        fill: adds the arguments, once they are needed: a program with many commands fills only the one it runs.
        options: as of `argparse.ArgumentParser`.
    """

    def __init__(self, *, fill: Callable[["Parser"], object] | None = None, **options: typing.Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._fill = fill

    def fill(self) -> None:
        """Adds the arguments, unless that was done."""
        fill, self._fill = self._fill, None
        if fill:
            fill(self)

    def parse_known_args(self, args=None, namespace=None):
        self.fill()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            raise InputError(f"{unknown[0]} is not an option{suggest(unknown[0].split('=')[0], flags)}")
        return found, unknown

    def error(self, message: str) -> typing.NoReturn:
        raise InputError(f"{message}; run with --help for the options.")


class Words(tuple[str, ...]):
    """Words for a shell to complete, as `choices` of an option that takes others too, or that is checked later."""

    def __contains__(self, word: object) -> bool:
        return True


class Number(argparse.Action):
    """Stores one number, or several with `nargs`.

    Args:
        kind: int or float.
        low: the least that is allowed.
        options: as of `argparse.Action`.
    """

    def __init__(self, *, kind: type[int] | type[float] = int, low: float | None = None, **options: typing.Any) -> None:
        super().__init__(**options)
        self.kind, self.low = kind, low

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[typing.Any] | None,
        option_string: str | None = None,
    ) -> None:
        where = option_string or self.dest
        several = isinstance(values, list)
        numbers = [convert(value, self.kind, where) for value in (values if isinstance(values, list) else [values])]
        for number in numbers:
            if self.low is not None and number < self.low:
                raise InputError(f"{where} is {number}, but must be at least {self.low}.")
        setattr(namespace, self.dest, numbers if several else numbers[0])


class OutputFile(argparse.Action):
    """Stores the path of a file to write, whose folder exists."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[typing.Any] | None,
        option_string: str | None = None,
    ) -> None:
        path = Path(str(values))
        if not path.absolute().parent.is_dir():
            raise InputError(f"{option_string} {path}: its folder does not exist; create it or name another file.")
        setattr(namespace, self.dest, path)
