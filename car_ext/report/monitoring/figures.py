"""The figures of the monitoring page."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from car_ext.metrics.intervals import wilson_interval
from car_ext.report.monitoring.log import Log
from car_ext.report.monitoring.measures import Measures, parts
from car_ext.report.plot import BOUNDS, LOOKS, NAMED, Axis, Border, Look, Plot, Series, series, short

LATEST = LOOKS[0]


class Course(NamedTuple):
    """A line over time: (T,) values, NaN where undefined, with their bounds and a word for each where there are."""

    name: str
    values: np.ndarray
    look: Look
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    words: np.ndarray | None = None


def over_time(log: Log, label: str, courses: Sequence[Course], height: int = 300, scale: float = 100) -> Plot:
    """Lines over time; fractions are shown in per cent unless scale is 1, dotted lines say where the model changes."""
    times = np.array([round(batch.time.timestamp() * 1e3) for batch in log.batches])
    changes = [at for at, (before, after) in enumerate(pairwise(log.models)) if before != after]
    borders = [Border(float(times[at] + times[at + 1]) / 2) for at in changes]
    plot = Plot(*_axes(times, label, courses, scale), height, borders=borders)
    for one in courses:
        known = ~np.isnan(one.values)
        columns = {"x": times, "y": scale * one.values, "model": np.array(log.models, object)}
        columns["moment"] = np.array(log.moments, object)
        tips = [("", "{line}"), ("at", "{moment}"), ("model", "{model}")]
        tips.append((label.removesuffix(", %"), "{y:1} %" if scale == 100 else "{y}"))
        options: dict[str, Any] = {"dash": "solid"}
        if one.bounds:
            columns["low"], columns["high"] = (scale * bound for bound in one.bounds)
            tips.append(BOUNDS)
            options["whiskers"] = one.look.colour
        if one.words is not None:
            columns["word"] = one.words
            tips.append(("class", "{word}"))
        data = {key: column[known] for key, column in columns.items()} | {"line": [one.name]}
        plot.series.append(series(data, one.look, 8 if known.sum() <= 60 else 4, tips, **options))
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


def latest(measures: Measures, marks: Sequence[Mark]) -> Plot:
    """Each class's share of the latest predictions as a bar, with marks of what it was and should be."""
    log = measures.log
    # By how far they moved where not all fit, in the order of the table either way.
    shown = np.sort(measures.movers[:NAMED])
    low, high = wilson_interval(log.predicted[-1], measures.images[-1])
    values = {"y": measures.shares[-1], "low": low, "high": high, **{mark.key: mark.values for mark in marks}}
    data = {"x": np.arange(len(shown)), "name": [log.class_names[label] for label in shown]}
    data |= {key: 100 * value[shown] for key, value in values.items()}
    top = 105 * max(array[shown].max() for array in values.values())
    names = [short(log.class_names[label]) for label in shown]
    plot = Plot(Axis("", -0.6, len(shown) - 0.4, names=names), Axis("share of the images, %", 0, top), 380)
    tips = [("class", "{name}"), ("latest", "{y:1} % (95 % interval {low:1} to {high:1} %)")]
    tips += [(mark.text, f"{{{mark.key}:1}} %") for mark in marks]
    plot.series.append(Series(data, LATEST.colour, bar=0.8, alpha=0.5, whiskers=LATEST.colour, tips=tips))
    for mark in marks:
        plot.series.append(series({"x": data["x"], "y": data[mark.key]}, mark.look, 10, []))
    return plot


def _axes(times: np.ndarray, label: str, courses: Sequence[Course], scale: float) -> tuple[Axis, Axis]:
    """Those of lines over time."""
    room = max(0.03 * float(times[-1] - times[0]), 60e3)
    highest = max(float(np.nanmax(one.bounds[1] if one.bounds else one.values)) for one in courses)
    top = min(104, 112 * highest or 1) if scale == 100 else 1.1 * highest
    return Axis("", round(times[0] - room), round(times[-1] + room), "time"), Axis(label, 0, top)
