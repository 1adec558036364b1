"""The page of a deployed model over time: what it is right about, how sure it is, and what it takes pictures for."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from car_ext.report.cells import against, interval, percent
from car_ext.report.frame import Figure, Lead, Line, Number, page
from car_ext.report.monitoring import tables
from car_ext.report.monitoring.figures import LATEST, Course, latest, marks, over_time
from car_ext.report.monitoring.log import Log
from car_ext.report.monitoring.measures import Measures
from car_ext.report.plot import LOOKS, NAMED
from car_ext.text import printable

LINES = 5  # classes that can be followed in one figure
LISTED = 10  # classes that a sentence can name
SHARE = "share of the predictions, %"


def render(log: Log, name: str) -> str:
    """The page as one text; name is the log's."""
    measures = Measures(log)
    labelled = bool(log.labelled.any())
    return page(
        "monitoring.html",
        f"Monitoring: {printable(name)}",
        _data(measures),
        ["latest", *(["accuracy"] if labelled else []), "predictions", "confidence", "batches"],
        leads=[_lead(measures)],
        missing=_missing(measures),
        interrupted=log.interrupted,
        accuracies=_accuracies(measures) if labelled else None,
        predictions=[
            _latest(measures),
            *([_groups(measures)] if len(measures.shot_groups) > 1 else []),
            _moved(measures),
        ],
        confidence=[_confidence(measures), _images(measures)],
        batches=tables.batches(measures),
    )


def _data(measures: Measures) -> str:
    log = measures.log
    batches = len(log.batches)
    return (
        f"{batches} {'batch' if batches == 1 else 'batches'}, {measures.images.sum():,} images, "
        f"{_day(log.batches[0].time)} to {_day(log.batches[-1].time)}, of {', '.join(dict.fromkeys(log.models))}. "
        "Times are in UTC." + (" At dotted lines the model changes." if len(set(log.models)) > 1 else "")
    )


def _lead(measures: Measures) -> Lead:
    """The latest batch against the first ones."""
    log, before, rarest = measures.log, measures.before, measures.rarest
    numbers = _accuracy_numbers(measures) if log.labelled[-1] else []
    confidence = log.confidence[-1]
    numbers.append(
        Number(
            "mean confidence",
            percent(confidence),
            f"of {measures.images[-1]:,} images",
            against=_against(confidence, before.confidence, log),
        )
    )
    if rarest and measures.trained is not None:
        share = measures.shares[-1, rarest.classes].sum()
        trained = percent(measures.trained[rarest.classes].sum())
        numbers.append(
            Number(
                f"taken for {rarest.name}-shot classes",
                percent(share),
                f"{rarest.classes.sum()} classes, {trained} % of the training images",
                against=_against(share, before.rarest, log),
            )
        )
    return Lead(f"{log.moments[-1]}, {log.models[-1]}", numbers, LATEST.colour)


def _accuracy_numbers(measures: Measures) -> list[Number]:
    log, before = measures.log, measures.before
    worst, low, high = (values[-1] for values in measures.worst)
    overall, label = measures.overall.values[-1], measures.worst_labels[-1]
    return [
        Number(
            "worst class",
            percent(worst),
            f"class {log.class_names[label]}, {log.true[-1, label]:,} images",
            f"95 % interval {interval(low, high)} %",
            _against(worst, before.worst, log),
        ),
        Number(
            "overall",
            percent(overall),
            f"of {log.true[-1].sum():,} images",
            against=_against(overall, before.overall, log),
        ),
    ]


def _against(value: float, before: float | None, log: Log) -> str:
    return against(value, before, f"the {log.first_name}")


def _missing(measures: Measures) -> str:
    names = [measures.log.class_names[label] for label in measures.missing]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _accuracies(measures: Measures) -> Figure:
    log = measures.log
    words = np.array(log.class_names, object)[measures.worst_labels]
    (overall, *bounds), (worst, *worst_bounds) = measures.overall, measures.worst
    series = [
        Course("overall", overall, LOOKS[0], (bounds[0], bounds[1])),
        Course("worst class", worst, LOOKS[1], (worst_bounds[0], worst_bounds[1]), words),
    ]
    return Figure(
        "Accuracy of every batch with labels",
        f"Two lines over time. {_ends(series)}.",
        over_time(log, "accuracy, %", series, 380),
        "Vertical lines are 95 % Wilson intervals. The worst class was picked after looking, so its own interval lies "
        "somewhat too low, and of few images it means little.",
        legend=_legend(series),
        zooms=True,
    )


def _latest(measures: Measures) -> Figure:
    """Where each class's share of the predictions lies against what it was, and against what it should be."""
    log, held = measures.log, marks(measures)
    many = len(log.classes) > NAMED
    return Figure(
        "What the latest batch was taken for" + (f": the {NAMED} classes that changed most" if many else ""),
        f"Bars of each class's share of the predictions, with marks of what it was. {_moves(measures)}.",
        latest(measures, held),
        ("Most training images first. " if log.training is not None else "")
        + "Vertical lines are 95 % Wilson intervals of the latest shares. Where the first classes grow and the last "
        "ones shrink, frequent classes swallow rare ones: unless the labels do the same.",
        [tables.classes(measures)],
        [
            Line("predictions of the latest batch", LATEST.colour, "area"),
            *(Line(mark.text, *mark.look) for mark in held),
        ],
    )


def _groups(measures: Measures) -> Figure:
    series = [
        Course(f"{name} ({classes.sum()} classes)", measures.shares[:, classes].sum(axis=1), look)
        for (name, classes), look in zip(measures.shot_groups, LOOKS, strict=False)
    ]
    return Figure(
        "Predictions by training images of the class",
        f"A line for each group of classes over time, its share of the predictions. {_ends(series)}.",
        over_time(measures.log, SHARE, series),
        "Classes with over 100 (many), 20 to 100 (medium) and under 20 (few) training images.",
        legend=_legend(series),
    )


def _moved(measures: Measures) -> Figure:
    log = measures.log
    series = [
        Course(log.class_names[label], measures.shares[:, label], look)
        for label, look in zip(measures.movers[:LINES], LOOKS, strict=False)
    ]
    every = len(log.classes) <= LINES
    return Figure(
        "Predictions by class" if every else f"The {LINES} classes whose share changed most",
        f"A line for each class over time, its share of the predictions. {_moves(measures)}.",
        over_time(log, SHARE, series),
        f"Between the {log.first_name} and the latest." if len(log.batches) > 1 else "Of one batch.",
        legend=_legend(series),
    )


def _confidence(measures: Measures) -> Figure:
    log = measures.log
    return Figure(
        "Mean confidence",
        f"A line over time, from {_span(log.confidence)}.",
        over_time(log, "mean confidence, %", [Course("mean confidence", log.confidence, LOOKS[0])]),
        "The mean of the largest probability. Where it sinks, pictures are unlike those of before.",
    )


def _images(measures: Measures) -> Figure:
    images = measures.images
    return Figure(
        "Images",
        f"A line over time, from {images[0]:,} to {images[-1]:,} images.",
        over_time(measures.log, "images of the batch", [Course("images", images, LOOKS[0])], scale=1),
        "Of few images every share and every accuracy above is uncertain.",
    )


def _moves(measures: Measures) -> str:
    """The shares that moved most."""
    names, first, now = measures.log.class_names, measures.first, measures.shares[-1]
    return "; ".join(
        f"{names[label]}: "
        + (f"{percent(first[label])} % before, " if first is not None else "")
        + f"{percent(now[label])} % now"
        for label in measures.movers[:LINES]
    )


def _ends(series: Iterable[Course]) -> str:
    return "; ".join(f"{one.name} from {_span(one.values)}" for one in series)


def _span(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return f"{percent(known[0])} % to {percent(known[-1])} %"


def _day(time: datetime) -> str:
    return f"{time.day} {time:%B %Y}"


def _legend(series: Sequence[Course]) -> list[Line]:
    return [Line(one.name, *one.look) for one in series]
