"""One option: a field of a dataclass that knows its help and its limits."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

from car_ext.errors import InputError, suggest
from car_ext.values import convert


def option(
    default: Any,
    group: str,
    help: str,
    *,
    choices: Sequence[str] = (),
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
    changes_result: bool = True,
) -> Any:
    """A field with this default, listed with its help under ``group``.

    Allowed are ``choices``, if there are any, or finite numbers >= ``low``, > ``above``, < ``below`` and <= ``high``;
    and None where it is the default. ``changes_result``: whether a run could end differently by it.
    """
    limits = {">=": low, ">": above, "<": below, "<=": high}
    metadata = {
        "group": group,
        "help": help,
        "choices": tuple(choices),
        "limits": {sign: limit for sign, limit in limits.items() if math.isfinite(limit)},
        "changes_result": changes_result,
    }
    return dataclasses.field(default=default, metadata=metadata)


def kind(field: dataclasses.Field) -> type:
    """The type of a value: ``float`` for a field annotated ``float | None``."""
    if isinstance(field.type, types.UnionType):
        return next(part for part in typing.get_args(field.type) if part is not types.NoneType)
    return field.type


def field_value(field: dataclasses.Field, value: Any, where: str) -> Any:
    """A raw value (a command-line string or a YAML scalar) as the field's type.

    Raises :class:`InputError` that begins with ``where`` for a wrong type, or a value that is not allowed.
    """
    text = str(value).strip()
    if field.default is None and (value is None or text.lower() == "none"):
        return None
    result = convert(value, kind(field), where)
    _check(field, result, where)
    return result


def check_fields(options: Any, prefix: str = "") -> None:
    """Check the options of a frozen dataclass; raises as :func:`field_value`, each called ``prefix`` and its name."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.metadata and not (value is None and field.default is None):
            # The dataclass is frozen; this turns an int given for a float into that float.
            object.__setattr__(options, field.name, field_value(field, value, prefix + field.name))


def _check(field: dataclasses.Field, value: Any, where: str) -> None:
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    if choices and value not in choices:
        raise InputError(f"{where} is {value!r}, but must be one of {', '.join(choices)}{suggest(value, choices)}")
    if kind(field) in (int, float):
        inside = {">=": value >= limits.get(">=", value), ">": value > limits.get(">", -math.inf)}
        inside |= {"<=": value <= limits.get("<=", value), "<": value < limits.get("<", math.inf)}
        if not (-math.inf < value < math.inf and all(inside.values())):
            allowed = " and ".join(f"{sign} {limit:g}" for sign, limit in limits.items())
            raise InputError(f"{where} is {value}, but must be a finite number{allowed and ' ' + allowed}.")
