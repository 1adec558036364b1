"""One option: a field of a dataclass that knows its help and its limits."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from car_ext.errors import InputError, suggest
from car_ext.values import convert

SWITCH = {"true": True, "false": False}  # as YAML writes them


def option(
    default: Any,
    group: str,
    help: str | Callable[[], str],
    *,
    choices: Iterable[str] = (),
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
    changes_result: bool = True,
    alone: str | None = None,
) -> Any:
    """A field with this default, listed with its help under `group`.

    Allowed are `choices`, if there are any, or finite numbers >= `low`, > `above`, < `below` and <= `high`; and None
    where it is the default. `changes_result`: whether a run could end differently by it. A help that is a function is
    called when it is read, see `help_text`. `alone`: what the flag without a value, and `true`, stand for; `false` is
    None then.
    """
    limits = {">=": low, ">": above, "<": below, "<=": high}
    metadata = {
        "group": group,
        "help": help,
        "choices": tuple(choices),
        "limits": {sign: limit for sign, limit in limits.items() if math.isfinite(limit)},
        "changes_result": changes_result,
        "alone": alone,
    }
    return dataclasses.field(default=default, metadata=metadata)


def kind(field: dataclasses.Field) -> type:
    """The type of a value: `float` for a field annotated `float | None`."""
    if isinstance(field.type, types.UnionType):
        return next(part for part in typing.get_args(field.type) if part is not types.NoneType)
    assert isinstance(field.type, type), f"{field.name} is annotated by a string"
    return field.type


def help_text(field: dataclasses.Field) -> str:
    """What the option is for, a line."""
    text = field.metadata["help"]
    return text() if callable(text) else text


def domain(field: dataclasses.Field) -> str:
    """What is allowed, such as `a finite number >= 0 and < 1`; empty where every value of its type is."""
    if choices := field.metadata["choices"]:
        return f"one of {', '.join(choices)}"
    limits = " and ".join(f"{sign} {limit:g}" for sign, limit in field.metadata["limits"].items())
    return f"a finite number {limits}".rstrip() if kind(field) in (int, float) else ""


def is_allowed(field: dataclasses.Field, value: Any) -> bool:
    """Whether `value`, of the field's type, is among its choices and within its limits."""
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    if choices:
        return value in choices
    if kind(field) not in (int, float):
        return True
    inside = value >= limits.get(">=", value) and value > limits.get(">", -math.inf)
    inside = inside and value <= limits.get("<=", value) and value < limits.get("<", math.inf)
    return bool(inside and -math.inf < value < math.inf)


def field_value(field: dataclasses.Field, value: Any, where: str) -> Any:
    """A raw value (a command-line string or a YAML scalar) as the field's type.

    Raises:
        InputError: a wrong type, or a value that is not allowed; the message begins with `where`.
    """
    text = str(value).strip()
    if field.default is None and (value is None or text.lower() == "none"):
        return None
    if (alone := field.metadata["alone"]) and text.lower() in SWITCH:
        return alone if SWITCH[text.lower()] else None
    result = convert(value, kind(field), where)
    if not is_allowed(field, result):
        if choices := field.metadata["choices"]:
            raise InputError(f"{where} is {result!r}, but must be {domain(field)}{suggest(result, choices)}")
        raise InputError(f"{where} is {result}, but must be {domain(field)}.")
    return result


def check_fields(options: Any, prefix: str = "") -> None:
    """Check the options of a frozen dataclass, each called `prefix` and its name.

    Raises:
        InputError: as `field_value`.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.metadata and not (value is None and field.default is None):
            # The dataclass is frozen; this turns an int given for a float into that float.
            object.__setattr__(options, field.name, field_value(field, value, prefix + field.name))
