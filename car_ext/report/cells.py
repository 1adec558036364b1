"""Tables as text: the template only lays them out."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from car_ext import text

LONGEST = 2000  # rows


class Cell(NamedTuple):
    text: str
    note: str = ""  # beside it, smaller
    best: bool = False  # of its row


class Table(NamedTuple):
    """The first column holds the headings of the rows; numbers, which are all others unless told, stand right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    text: frozenset[int] = frozenset()  # columns beside the first that hold words
    terms: Literal["", "rows", "columns"] = ""  # whose headings hold terms of the glossary


def percent(value: float | None) -> str:
    """As `text.percent`; NaN is undefined as well."""
    return text.percent(None if value is None or np.isnan(value) else value)


def number(value: float | None) -> str:
    """Three decimals, or none where it counts something."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def difference(value: float | None, base: float | None, fraction: bool = True) -> str:
    """With its sign, in points where it is a fraction; empty where undefined."""
    if value is None or base is None or np.isnan(value) or np.isnan(base):
        return ""
    change = value - base
    shown = f"{100 * change:+.1f}" if fraction else f"{change:+.3f}" if isinstance(change, float) else f"{change:+d}"
    return shown.replace("-", "\N{MINUS SIGN}")


def against(value: float | None, base: float | None, name: str) -> str:
    """The difference of a fraction to that of `name`, in words; empty where undefined."""
    change = difference(value, base)
    return f"{change} points against {name}" if change else ""


def cut(total: int, which: str = "first") -> str:
    """What a caption says of rows that a table has no room for."""
    return f" (the {which} {LONGEST} of {total})" if total > LONGEST else ""
