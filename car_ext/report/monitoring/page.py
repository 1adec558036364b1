"""The page of a deployed model over time: what it is right about, how sure it is, and what it takes pictures for."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, FixedTicker, PlainText, Span
from bokeh.plotting import figure

from car_ext.metrics.intervals import wilson_interval
from car_ext.report.cells import difference, interval
from car_ext.report.frame import Figure, Line, page
from car_ext.report.monitoring.log import Log
from car_ext.report.monitoring.measures import (
    _before,
    _day,
    _first_name,
    _first_shares,
    _moment,
    _moves,
    _rarest,
    _shares,
    _shot_groups,
    _worst,
)
from car_ext.report.monitoring.tables import _batches, _classes
from car_ext.report.plot import LOOKS, NAMED, Look, empty, hover, short
from car_ext.text import percent, printable

LINES = 5  # classes that can be followed in one figure
EXPECTED = 3  # images of a class, whose absence is then no chance: e^-3 is 5 %


class Series(NamedTuple):
    """A line over time: (T,) fractions, NaN where undefined, with their bounds and a word for each where there are."""

    name: str
    values: np.ndarray
    look: Look
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    words: np.ndarray | None = None


def render(log: Log, name: str) -> str:
    """The page as one text; name is the log's."""
    labelled = log.true.any(axis=1)
    accuracies = _accuracies(log, labelled)
    sections = ["latest", *(["accuracy"] if accuracies else []), "predictions", "confidence", "batches"]
    times, batches = [batch.time for batch in log.batches], len(log.batches)
    return page(
        "monitoring.html",
        f"Monitoring: {printable(name)}",
        f"{batches} {'batch' if batches == 1 else 'batches'}, {log.predicted.sum():,} images, {_day(times[0])} to "
        f"{_day(times[-1])}, of {', '.join(dict.fromkeys(log.models))}. Times are in UTC."
        + (" At dotted lines the model changes." if len(set(log.models)) > 1 else ""),
        sections,
        leads=_leads(log, labelled),
        missing=_missing(log),
        interrupted=log.interrupted,
        accuracies=accuracies,
        predictions=[_latest(log, labelled), *_groups(log), _moved(log)],
        confidence=[_confidence(log), _images(log)],
        batches=_batches(log, labelled),
    )


def _leads(log: Log, labelled: np.ndarray) -> list[dict[str, Any]]:
    """The few numbers of the latest batch that a reader came for, against the first batches."""
    true, correct, predicted = log.true[-1], log.correct[-1], log.predicted[-1]
    numbers = []
    if labelled[-1]:
        worst, label = _worst(correct, true)
        bounds = interval(*wilson_interval(correct[label], true[label]))
        numbers = [
            (
                "worst class",
                worst,
                f"class {log.class_names[label]}, {true[label]:,} images",
                f"95 % interval {bounds} %",
            ),
            ("overall", correct.sum() / true.sum(), f"of {true.sum():,} images", ""),
        ]
    numbers.append(("mean confidence", log.confidence[-1], f"of {predicted.sum():,} images", ""))
    if rarest := _rarest(log):
        name, mask = rarest
        of = f"{mask.sum()} classes, {percent(_shares(log.training)[mask].sum())} % of the training images"
        numbers.append((f"taken for {name}-shot classes", _shares(predicted)[mask].sum(), of, ""))
    before = _before(log, labelled)
    return [
        {
            "name": f"{_moment(log.batches[-1].time)}, {log.models[-1]}",
            "numbers": [
                (title, percent(value), of, bounds, _against(value, before.get(title), log))
                for title, value, of, bounds in numbers
            ],
            "changes": "",
            "colour": LOOKS[0].colour,
        }
    ]


def _against(value: float, before: float | None, log: Log) -> str:
    change = difference(value, before, True)
    return f"{change} points against {_first_name(log)}" if change else ""


def _missing(log: Log) -> str:
    """Classes that no picture of the latest batch was taken for, though several should have been."""
    first = _first_shares(log)
    if first is None:
        return ""
    gone = (log.predicted[-1] == 0) & (first * log.predicted[-1].sum() >= EXPECTED)
    names = [log.class_names[label] for label in np.flatnonzero(gone)]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _accuracies(log: Log, labelled: np.ndarray) -> Figure | None:
    if not labelled.any():
        return None
    at = np.flatnonzero(labelled)
    labels = [_worst(log.correct[row], log.true[row])[1] for row in at]
    words = np.full(len(labelled), "", object)
    words[at] = [log.class_names[label] for label in labels]
    series = []
    for name, look, correct, images in (
        ("overall", LOOKS[0], log.correct[at].sum(axis=1), log.true[at].sum(axis=1)),
        ("worst class", LOOKS[1], log.correct[at, labels], log.true[at, labels]),
    ):
        values, low, high = np.full((3, len(labelled)), np.nan)
        values[at] = correct / images
        low[at], high[at] = wilson_interval(correct, images)
        series.append(Series(name, values, look, (low, high), words if name == "worst class" else None))
    said = "; ".join(f"{one.name} from {_span(one.values)}" for one in series)
    return Figure(
        "Accuracy of every batch with labels",
        f"Two lines over time. {said}.",
        json_item(_over_time(log, "accuracy, %", series, 380, zooms=True)),
        "Vertical lines are 95 % Wilson intervals. The worst class was picked after looking, so its own interval lies "
        "somewhat too low, and of few images it means little.",
        (),
        _legend(series),
        zooms=True,
    )


def _latest(log: Log, labelled: np.ndarray) -> Figure:
    """Where each class's share of the predictions lies against what it was, and against what it should be."""
    first, latest = _first_shares(log), _shares(log.predicted[-1])
    low, high = wilson_interval(log.predicted[-1], log.predicted[-1].sum())
    marks = [("first", LOOKS[1], f"predictions of {_first_name(log)}", first)] if first is not None else []
    if labelled[-1]:
        marks.append(("true", LOOKS[2], "labels of the latest batch", _shares(log.true[-1])))
    if log.training is not None:
        marks.append(("training", LOOKS[7], "training images", _shares(log.training)))
    # By how far they moved where not all fit, in the order of the table either way.
    shown = np.sort(np.argsort(-_moves(log), kind="stable")[:NAMED])
    columns = {"at": np.arange(len(shown)), "name": [log.class_names[label] for label in shown]}
    values = {"latest": latest, "low": low, "high": high, **{key: value for key, _, _, value in marks}}
    source = ColumnDataSource(columns | {key: 100 * value[shown] for key, value in values.items()})
    top = 105 * max(array[shown].max() for array in values.values())
    plot = empty("", "share of the images, %", (-0.6, len(shown) - 0.4), (0, top), height=380)
    plot.xgrid.visible = False
    plot.xaxis.ticker = FixedTicker(ticks=[*range(len(shown))])
    plot.xaxis.major_label_overrides = {at: PlainText(text=short(name)) for at, name in enumerate(columns["name"])}
    if sum(len(short(name)) + 2 for name in columns["name"]) > 60:
        plot.xaxis.major_label_orientation = "vertical"
    bars = plot.vbar("at", 0.8, "latest", source=source, color=LOOKS[0].colour, fill_alpha=0.5)
    plot.segment("at", "low", "at", "high", source=source, color=LOOKS[0].colour, line_width=2)
    for key, look, _, _ in marks:
        plot.scatter("at", key, source=source, marker=look.marker, color=look.colour, size=10, line_width=2)
    rows = [("class", "@name"), ("latest", "@latest{0.0} % (95 % interval @low{0.0} to @high{0.0} %)")]
    hover(plot, bars, [*rows, *((title, f"@{key}{{0.0}} %") for key, _, title, _ in marks)])
    legend = [Line("predictions of the latest batch", LOOKS[0].colour, "area")]
    legend += [Line(title, look.colour, look.marker) for _, look, title, _ in marks]
    many = len(log.classes) > NAMED
    return Figure(
        "What the latest batch was taken for" + (f": the {NAMED} classes that changed most" if many else ""),
        f"Bars of each class's share of the predictions, with marks of what it was. {_said(log, 5)}",
        json_item(plot),
        ("Most training images first. " if log.training is not None else "")
        + "Vertical lines are 95 % Wilson intervals of the latest shares. Where the first classes grow and the last "
        "ones shrink, frequent classes swallow rare ones: unless the labels do the same.",
        [_classes(log, labelled)],
        legend,
    )


def _groups(log: Log) -> list[Figure]:
    groups = _shot_groups(log)
    if len(groups) < 2:
        return []
    shares = _shares(log.predicted)
    series = [
        Series(f"{name} ({mask.sum()} classes)", shares[:, mask].sum(axis=1), look)
        for (name, mask), look in zip(groups.items(), LOOKS, strict=False)
    ]
    said = "; ".join(f"{one.name} from {_span(one.values)}" for one in series)
    return [
        Figure(
            "Predictions by training images of the class",
            f"A line for each group of classes over time, its share of the predictions. {said}.",
            json_item(_over_time(log, "share of the predictions, %", series, 300)),
            "Classes with over 100 (many), 20 to 100 (medium) and under 20 (few) training images.",
            (),
            _legend(series),
        )
    ]


def _moved(log: Log) -> Figure:
    shares, labels = _shares(log.predicted), np.argsort(-_moves(log), kind="stable")[:LINES]
    series = [
        Series(log.class_names[label], shares[:, label], look) for label, look in zip(labels, LOOKS, strict=False)
    ]
    every = len(log.classes) <= LINES
    return Figure(
        "Predictions by class" if every else f"The {LINES} classes whose share changed most",
        f"A line for each class over time, its share of the predictions. {_said(log, LINES)}",
        json_item(_over_time(log, "share of the predictions, %", series, 300)),
        f"Between {_first_name(log)} and the latest." if len(log.batches) > 1 else "Of one batch.",
        (),
        _legend(series),
    )


def _confidence(log: Log) -> Figure:
    series = [Series("mean confidence", log.confidence, LOOKS[0])]
    return Figure(
        "Mean confidence",
        f"A line over time, from {_span(log.confidence)}.",
        json_item(_over_time(log, "mean confidence, %", series, 300)),
        "The mean of the largest probability. Where it sinks, pictures are unlike those of before.",
        (),
    )


def _images(log: Log) -> Figure:
    images = log.predicted.sum(axis=1)
    series = [Series("images", images, LOOKS[0])]
    return Figure(
        "Images",
        f"A line over time, from {images[0]:,} to {images[-1]:,} images.",
        json_item(_over_time(log, "images of the batch", series, 300, scale=1)),
        "Of few images every share and every accuracy above is uncertain.",
        (),
    )


def _over_time(
    log: Log, label: str, series: Sequence[Series], height: int, zooms: bool = False, scale: float = 100
) -> figure:
    times = np.array([batch.time.timestamp() * 1e3 for batch in log.batches])
    room = max(0.03 * (times[-1] - times[0]), 60e3)
    highest = max(np.nanmax(one.bounds[1] if one.bounds else one.values) for one in series)
    top = min(104, 112 * highest or 1) if scale == 100 else 1.1 * highest
    plot = empty("", label, (times[0] - room, times[-1] + room), (0, top), height, zooms, x_axis_type="datetime")
    plot.xaxis.ticker.desired_num_ticks = 5
    for at, (before, after) in enumerate(pairwise(log.models)):
        if before != after:
            location = (times[at] + times[at + 1]) / 2
            plot.add_layout(Span(location=location, dimension="height", line_dash="dotted", css_classes=["border"]))
    for one in series:
        known = ~np.isnan(one.values)
        values = {"time": times, "value": scale * one.values, "model": np.array(log.models, object)}
        values |= {"moment": np.array([_moment(batch.time) for batch in log.batches], object)}
        values |= {"series": np.full(len(times), one.name, object)}
        rows = [("", "@series"), ("at", "@moment"), ("model", "@model")]
        rows.append((label.removesuffix(", %"), "@value{0.0} %" if scale == 100 else "@value{0,0}"))
        if one.bounds:
            values["low"], values["high"] = (scale * bound for bound in one.bounds)
            rows.append(("95 % interval", "@low{0.0} to @high{0.0} %"))
        if one.words is not None:
            values["word"] = one.words
            rows.append(("class", "@word"))
        source = ColumnDataSource({key: value[known] for key, value in values.items()})
        if one.bounds:
            plot.segment(
                "time", "low", "time", "high", source=source, color=one.look.colour, line_alpha=0.45, line_width=2
            )
        plot.line("time", "value", source=source, color=one.look.colour, line_width=2)
        size = 8 if known.sum() <= 60 else 4
        points = plot.scatter("time", "value", source=source, marker=one.look.marker, color=one.look.colour, size=size)
        hover(plot, points, rows)
    return plot


def _said(log: Log, most: int) -> str:
    first, latest = _first_shares(log), _shares(log.predicted[-1])
    labels = np.argsort(-_moves(log), kind="stable")[:most]
    return (
        "; ".join(
            f"{log.class_names[label]}: "
            + (f"{percent(first[label])} % before, " if first is not None else "")
            + f"{percent(latest[label])} % now"
            for label in labels
        )
        + "."
    )


def _legend(series: Sequence[Series]) -> list[Line]:
    return [Line(one.name, *one.look) for one in series]


def _span(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return f"{percent(known[0])} % to {percent(known[-1])} %"
