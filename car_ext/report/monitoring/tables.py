"""The tables of the monitoring page."""

from collections.abc import Iterable

from car_ext.metrics.intervals import wilson_interval
from car_ext.report.cells import LONGEST, Table, cut, difference, interval, percent
from car_ext.report.monitoring.measures import Measures, parts


def classes(measures: Measures) -> Table:
    """Every class in the latest batch."""
    log, first, latest = measures.log, measures.first, measures.shares[-1]
    columns: dict[str, Iterable[str]] = {"class": log.class_names}
    if log.training is not None and measures.trained is not None:
        columns |= {"training images": map(str, log.training), "of them, %": map(percent, measures.trained)}
    if first is not None:
        columns[f"{log.first_name}, %"] = map(percent, first)
    columns["latest, %"] = map(percent, latest)
    columns["95 % interval"] = map(interval, *wilson_interval(log.predicted[-1], measures.images[-1]))
    if first is not None:
        columns["points"] = map(difference, latest, first)
    if log.labelled[-1]:
        true, correct = log.true[-1], log.correct[-1]
        columns["labels, %"] = map(percent, parts(true))
        columns["accuracy, %"] = (percent(c / t if t else None) for c, t in zip(correct, true, strict=True))
    rows = [list(row) for row in zip(*columns.values(), strict=True)][:LONGEST]
    return Table(f"Shares of the predictions, every class{cut(len(log.classes))}", list(columns), rows)


def batches(measures: Measures) -> Table:
    """Everything over time, latest first."""
    log, rarest = measures.log, measures.rarest
    labels = ["worst class, %", "95 % interval", "which one", "overall, %"] if log.labelled.any() else []
    columns = [
        "time",
        *labels,
        "mean confidence, %",
        *([f"taken for {rarest.name}-shot classes, %"] if rarest else []),
        "images",
        "model",
    ]
    total = len(log.batches)
    rows = [
        [
            log.moments[at],
            *(_accuracies(measures, at) if log.labelled[at] else ["-"] * len(labels)),
            percent(log.confidence[at]),
            *([percent(measures.shares[at, rarest.classes].sum())] if rarest else []),
            f"{measures.images[at]:,}",
            log.models[at],
        ]
        for at in reversed(range(max(total - LONGEST, 0), total))
    ]
    words = frozenset(columns.index(name) for name in ("which one", "model") if name in columns)
    return Table(f"Every batch, latest first{cut(total, 'latest')}", columns, rows, words)


def _accuracies(measures: Measures, at: int) -> list[str]:
    worst, low, high = (values[at] for values in measures.worst)
    name = measures.log.class_names[measures.worst_labels[at]]
    return [percent(worst), interval(low, high), name, percent(measures.overall.values[at])]
