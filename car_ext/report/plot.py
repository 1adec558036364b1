"""A figure as data: its axes and what is drawn between them. plot.js draws it, in the page's colours and width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

NAMED = 30  # classes up to which a figure has room for their names
INK = "currentColor"  # that of the text
BOUNDS = ("95 % interval", "{low:1} to {high:1} %")  # a tip that says what whiskers show
DIGITS = 6  # of a number in the file, significant ones: no screen shows more

Tips = Sequence[tuple[str, str]]  # label, and a text with {column}, or {column:digits} of a number


class Look(NamedTuple):
    """How a figure tells a run from the others: by colour, and by marker for who cannot tell the colours."""

    colour: str
    marker: str


# Okabe and Ito's colours, which the colour-blind can tell apart; those that show on white and on black.
LOOKS = tuple(
    Look(colour, marker)
    for colour, marker in zip(
        ("#0079bf", "#d55e00", "#009e73", "#c0649b", "#8a7a00", "#3fa9dd", "#7a6fd0", "#808080"),
        ("circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "cross"),
        strict=True,
    )
)


class Axis(NamedTuple):
    """From low, which is left or below, to high; time is in milliseconds since 1970."""

    label: str
    low: float
    high: float
    scale: Literal["linear", "log", "time"] = "linear"
    names: Sequence[str] = ()  # at 0, 1, 2 and so on, in place of numbers


class Series(NamedTuple):
    """Points that are drawn alike, in any of the ways that are given.

    Attributes:
        data: columns of one length: x, y, low and high where there are whiskers, and what tips show.
        colour: of all of it.
        marker, size: of its points, in pixels.
        dash: of a line through them, "solid" or "dashed".
        bar: width of bars from 0, on the axis.
        alpha: of points and bars.
        whiskers: colour of lines from low to high.
        labels: the column that is written beside the points, where it finds room.
        tips: what shows when a point or a bar is pointed at.
    """

    data: Mapping[str, Any]
    colour: str
    marker: str | None = None
    size: float = 8
    dash: str | None = None
    bar: float | None = None
    alpha: float = 1
    whiskers: str | None = None
    labels: str | None = None
    tips: Tips = ()


class Cells(NamedTuple):
    """What occurs in a confusion matrix, by place on its axes: (N,) int64 each; (K,) images of the class of a place."""

    true: np.ndarray
    predicted: np.ndarray
    counts: np.ndarray
    images: np.ndarray
    names: Sequence[str]
    colours: tuple[str, str]  # of right and of wrong
    written: bool  # whether a cell has room for its number


class Border(NamedTuple):
    """A dotted line from top to bottom."""

    at: float
    colour: str = INK


@dataclass(frozen=True)
class Plot:
    """A figure; one with cells is as high as wide."""

    x: Axis
    y: Axis
    height: int = 300
    series: list[Series] = field(default_factory=list)
    borders: Sequence[Border] = ()
    cells: Cells | None = None

    def item(self) -> dict[str, Any]:
        """What plot.js reads, ready for JSON."""
        return {
            "x": _plain(self.x._asdict()),
            "y": _plain(self.y._asdict()),
            "height": self.height,
            "series": [_plain(one._asdict()) for one in self.series],
            "borders": [border._asdict() for border in self.borders],
            "cells": self.cells and _plain(self.cells._asdict()),
        }


def series(
    data: Mapping[str, Any], look: Look, size: float, tips: Tips, run: str | None = None, **options: Any
) -> Series:
    """Points in the look of a run, whose name the tips begin with where there are several."""
    if run is not None:
        tips = [("run", "{run}"), *tips]
        data = {**data, "run": [run]}
    return Series(data, look.colour, look.marker, size, tips=tips, **options)


def short(name: str) -> str:
    """Without its middle where it is long: names of a kind differ at the end as often as at the start."""
    return name if len(name) <= 12 else f"{name[:6]}…{name[-5:]}"


def _plain(value: Any) -> Any:
    """Arrays as lists, numbers as short as their digits."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(inner) for inner in value.tolist()]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.{DIGITS}g}")
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
