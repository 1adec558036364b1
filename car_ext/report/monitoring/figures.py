"""The figures of the monitoring page."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from bokeh.models import ColumnDataSource, DatetimeTicker
from bokeh.plotting import figure

from car_ext.metrics.intervals import wilson_interval
from car_ext.report.monitoring.log import Log
from car_ext.report.monitoring.measures import Measures, parts
from car_ext.report.plot import BOUNDS, LOOKS, NAMED, Look, border, empty, hover, name_ticks, short, trace, whiskers

LATEST = LOOKS[0]


class Series(NamedTuple):
    """A line over time: (T,) values, NaN where undefined, with their bounds and a word for each where there are."""

    name: str
    values: np.ndarray
    look: Look
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    words: np.ndarray | None = None


def over_time(
    log: Log, label: str, series: Sequence[Series], height: int = 300, zooms: bool = False, scale: float = 100
) -> figure:
    """Lines over time; fractions are shown in per cent unless scale is 1, dotted lines say where the model changes."""
    times = np.array([batch.time.timestamp() * 1e3 for batch in log.batches])
    plot = _timeline(times, label, series, height, zooms, scale)
    for at, (before, after) in enumerate(pairwise(log.models)):
        if before != after:
            border(plot, (times[at] + times[at + 1]) / 2)
    every = {"model": np.array(log.models, object), "moment": np.array(log.moments, object)}
    for one in series:
        known = ~np.isnan(one.values)
        columns = _columns(one, times, every, scale)
        source = ColumnDataSource({key: column[known] for key, column in columns.items()})
        rows = [("", "@series"), ("at", "@moment"), ("model", "@model")]
        rows.append((label.removesuffix(", %"), "@value{0.0} %" if scale == 100 else "@value{0,0}"))
        if one.bounds:
            rows.append(BOUNDS)
            whiskers(plot, source, "time", line_color=one.look.colour, line_alpha=0.45)
        if one.words is not None:
            rows.append(("class", "@word"))
        hover(plot, trace(plot, source, "time", "value", one.look, 8 if known.sum() <= 60 else 4), rows)
    return plot


class Mark(NamedTuple):
    """What a class's share was elsewhere: (K,) fractions."""

    key: str
    text: str
    look: Look
    values: np.ndarray


def marks(measures: Measures) -> list[Mark]:
    """What there is to hold the latest shares against."""
    log = measures.log
    known = []
    if measures.first is not None:
        known.append(Mark("first", f"predictions of the {log.first_name}", LOOKS[1], measures.first))
    if log.labelled[-1]:
        known.append(Mark("true", "labels of the latest batch", LOOKS[2], parts(log.true[-1])))
    if measures.trained is not None:
        known.append(Mark("training", "training images", LOOKS[7], measures.trained))
    return known


def latest(measures: Measures, marks: Sequence[Mark]) -> figure:
    """Each class's share of the latest predictions as a bar, with marks of what it was and should be."""
    log = measures.log
    # By how far they moved where not all fit, in the order of the table either way.
    shown = np.sort(measures.movers[:NAMED])
    names = [short(log.class_names[label]) for label in shown]
    low, high = wilson_interval(log.predicted[-1], measures.images[-1])
    values = {"latest": measures.shares[-1], "low": low, "high": high, **{mark.key: mark.values for mark in marks}}
    source = ColumnDataSource(
        {"at": np.arange(len(shown)), "name": [log.class_names[label] for label in shown]}
        | {key: 100 * value[shown] for key, value in values.items()}
    )
    top = 105 * max(array[shown].max() for array in values.values())
    plot = empty("", "share of the images, %", (-0.6, len(shown) - 0.4), (0, top), height=380)
    plot.xgrid.visible = False
    name_ticks(plot.xaxis, names)
    if sum(len(name) + 2 for name in names) > 60:
        plot.xaxis.major_label_orientation = "vertical"
    bars = plot.vbar("at", 0.8, "latest", source=source, color=LATEST.colour, fill_alpha=0.5)
    whiskers(plot, source, "at", color=LATEST.colour)
    for mark in marks:
        colour, marker = mark.look
        plot.scatter("at", mark.key, source=source, marker=marker, color=colour, size=10, line_width=2)
    rows = [("class", "@name"), ("latest", "@latest{0.0} % (95 % interval @low{0.0} to @high{0.0} %)")]
    hover(plot, bars, [*rows, *((mark.text, f"@{mark.key}{{0.0}} %") for mark in marks)])
    return plot


def _timeline(
    times: np.ndarray, label: str, series: Sequence[Series], height: int, zooms: bool, scale: float
) -> figure:
    """Axes for lines over time."""
    room = max(0.03 * (times[-1] - times[0]), 60e3)
    highest = max(np.nanmax(one.bounds[1] if one.bounds else one.values) for one in series)
    top = min(104, 112 * highest or 1) if scale == 100 else 1.1 * highest
    plot = empty("", label, (times[0] - room, times[-1] + room), (0, top), height, zooms, x_axis_type="datetime")
    plot.xaxis.ticker = DatetimeTicker(num_minor_ticks=5, desired_num_ticks=5)
    return plot


def _columns(one: Series, times: np.ndarray, every: Mapping[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    columns = {"time": times, "value": scale * one.values, **every}
    columns["series"] = np.full(len(times), one.name, object)
    if one.bounds:
        columns["low"], columns["high"] = (scale * bound for bound in one.bounds)
    if one.words is not None:
        columns["word"] = one.words
    return columns
