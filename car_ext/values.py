"""Words of a command line and scalars of a YAML file, as values of a known type."""

from collections.abc import Sequence
from typing import Any

from car_ext.errors import InputError

_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}
_NOUN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def convert(value: Any, kind: type, where: str) -> Any:
    """`value` as a `kind`, which is bool, int, float or str.

    Raises:
        InputError: it is not one; the message begins with `where`.
    """
    text = str(value).strip()
    try:
        if kind is bool:
            return _bool(text)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        if kind is int and isinstance(value, float):
            return _whole(value)
        # PyYAML reads 1e-3 (no dot) as a string, so numbers are parsed from text in every case.
        return kind(text)
    except ValueError:
        raise InputError(f"{where} is {value!r}, but must be {_NOUN[kind]}.") from None


def check(name: str, value: Any, valid: bool, domain: str) -> None:
    """Refuse the option `name` unless `valid`; `domain` says what would be.

    Raises:
        InputError: it is not.
    """
    if not valid:
        raise InputError(f"{name} must be {domain}, got {value!r}")


def distinct(given: Sequence[Any], where: str) -> None:
    """Refuse a list that is empty or holds something twice; `where` is what it was given as, such as `--seeds`.

    Raises:
        InputError: it is one.
    """
    if not given or len(set(given)) != len(given):
        raise InputError(f"{where} {' '.join(map(str, given))}: give one or more, each once.")


def _bool(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError
    return text.lower() in _TRUE


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)
