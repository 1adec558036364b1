"""The tables of the monitoring page."""

import numpy as np

from car_ext.metrics.intervals import wilson_interval
from car_ext.report.cells import LONGEST, Table, difference, interval
from car_ext.report.monitoring.log import Log
from car_ext.report.monitoring.measures import _first_name, _first_shares, _moment, _rarest, _shares, _worst
from car_ext.text import percent


def _classes(log: Log, labelled: np.ndarray) -> Table:
    """Every class in the latest batch."""
    first, latest, images = _first_shares(log), _shares(log.predicted[-1]), log.predicted[-1].sum()
    training = None if log.training is None else _shares(log.training)
    low, high = wilson_interval(log.predicted[-1], images)
    columns = {"class": log.class_names}
    if training is not None:
        columns |= {"training images": map(str, log.training), "of them, %": map(percent, training)}
    if first is not None:
        columns[f"{_first_name(log).removeprefix('the ')}, %"] = map(percent, first)
    columns["latest, %"] = map(percent, latest)
    columns["95 % interval"] = map(interval, low, high)
    if first is not None:
        columns["points"] = (difference(*pair, True) for pair in zip(latest, first, strict=True))
    if labelled[-1]:
        true, correct = log.true[-1], log.correct[-1]
        columns["labels, %"] = map(percent, _shares(true))
        columns["accuracy, %"] = (percent(c / t if t else None) for c, t in zip(correct, true, strict=True))
    cut = f" (the first {LONGEST} of {len(log.classes)})" if len(log.classes) > LONGEST else ""
    rows = [list(row) for row in zip(*columns.values(), strict=True)][:LONGEST]
    return Table(f"Shares of the predictions, every class{cut}", list(columns), rows)


def _batches(log: Log, labelled: np.ndarray) -> Table:
    """Everything over time, latest first."""
    rarest, shares = _rarest(log), _shares(log.predicted)
    columns = ["time"]
    columns += ["worst class, %", "95 % interval", "which one", "overall, %"] if labelled.any() else []
    columns += ["mean confidence, %"]
    columns += [f"taken for {rarest[0]}-shot classes, %"] if rarest else []
    columns += ["images", "model"]
    rows = []
    for at in reversed(range(len(log.batches))):
        row = [_moment(log.batches[at].time)]
        if labelled[at]:
            true, correct = log.true[at], log.correct[at]
            worst, label = _worst(correct, true)
            bounds = interval(*wilson_interval(correct[label], true[label]))
            row += [percent(worst), bounds, log.class_names[label], percent(correct.sum() / true.sum())]
        elif labelled.any():
            row += ["-"] * 4
        row.append(percent(log.confidence[at]))
        row += [percent(shares[at, rarest[1]].sum())] if rarest else []
        rows.append([*row, f"{log.predicted[at].sum():,}", log.models[at]])
    cut = f" (the latest {LONGEST} of {len(rows)})" if len(rows) > LONGEST else ""
    words = frozenset(columns.index(name) for name in ("which one", "model") if name in columns)
    return Table(f"Every batch, latest first{cut}", columns, rows[:LONGEST], words)
