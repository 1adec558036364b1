"""Tables as text: the template only lays them out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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


def interval(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def difference(value: float | None, base: float | None, fraction: bool) -> str:
    """With its sign, in points where it is a fraction; empty where undefined."""
    if value is None or base is None or np.isnan(value) or np.isnan(base):
        return ""
    text = f"{100 * (value - base):+.1f}" if fraction else f"{value - base:+.3f}"
    return text.replace("-", "\N{MINUS SIGN}")
