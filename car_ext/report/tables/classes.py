"""Every class, groups of them, and those that a run changes most."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from car_ext.report.cells import LONGEST, Cell, Table, difference, interval, number, percent
from car_ext.report.groups import Groups
from car_ext.report.runs import Run

Column = tuple[str, Callable[[int], str | Cell]]  # heading, and what stands there of a label


def table(runs: Sequence[Run]) -> Table:
    """Every class, rarest last; where there is no room for all, the worst ones."""
    first = runs[0]
    columns = [*_images(runs), *_accuracies(runs), *(column for run in runs for column in _precision(run, runs))]
    labels = np.argsort(-first.class_counts, kind="stable")
    caption = "Every class, most training images first"
    if labels.size > LONGEST:
        worst = first.worst_first[:LONGEST]
        labels = labels[np.isin(labels, worst)]
        caption = (
            f"The {len(worst):,} of {first.accuracies.size:,} classes with the lowest accuracy"
            f"{f' of {first.name}' if len(runs) > 1 else ''}, most training images first; summary.json has all"
        )
    rows = [[first.class_names[label], *(cell(label) for _, cell in columns)] for label in labels.tolist()]
    return Table(caption, ["class", *(heading for heading, _ in columns)], rows, terms="columns")


def _images(runs: Sequence[Run]) -> list[Column]:
    first = runs[0]
    alike = all((run.class_counts == first.class_counts).all() for run in runs)
    columns: list[Column] = [
        ("training images" if alike else f"{run.name}: training images", _texts(map(str, run.class_counts)))
        for run in (runs[:1] if alike else runs)
    ]
    tested = first.test_counts
    return [*columns, ("test images", _texts(map(str, tested)))] if tested is not None else columns


def _accuracies(runs: Sequence[Run]) -> list[Column]:
    """The interval of one run, or differences of several: both at once are more than a row can hold."""
    first, several = runs[0], len(runs) > 1
    columns: list[Column] = [(_heading("accuracy, %", first, runs), _texts(map(percent, first.accuracies)))]
    for run in runs[1:]:
        columns.append((_heading("accuracy, %", run, runs), partial(_changed, run, first)))
    if first.intervals and not several:
        columns.append(("95 % interval", _texts(map(interval, *first.intervals))))
    return columns


def _precision(run: Run, runs: Sequence[Run]) -> list[Column]:
    """How much of what is taken for the class is of it; recall is the accuracy."""
    columns: list[Column] = []
    if report := run.class_report:
        columns += [
            (_heading("precision, %", run, runs), _texts(map(percent, report.precision))),
            (_heading("F1, %", run, runs), _texts(map(percent, report.f1))),
        ]
    margins = (run.summary.get("scores") or {}).get("loma")
    if margins and len(runs) == 1:
        columns.append(("margin (LoMa)", _texts(number(margins.get(name)) for name in run.summary["class_counts"])))
    return columns


def _heading(what: str, run: Run, runs: Sequence[Run]) -> str:
    return f"{run.name}: {what}" if len(runs) > 1 else what


def _texts(texts: Iterable[str]) -> Callable[[int], str]:
    return list(texts).__getitem__


def _changed(run: Run, first: Run, label: int) -> Cell:
    return Cell(percent(run.accuracies[label]), _change(run, first, label))


def groups(runs: Sequence[Run], found: Groups) -> Table:
    """Mean accuracies of groups of classes."""
    several = len(runs) > 1
    columns = [
        "group",
        *(["run"] if several else []),
        "classes",
        "mean accuracy, %",
        *(["95 % interval"] if found.known else []),
    ]
    rows = []
    for at, run in enumerate(runs):
        for name, size, value, low, high in zip(found.names, *(array[at] for array in found[1:]), strict=True):
            if size:
                row = [name, *([run.name] if several else []), str(size), percent(value)]
                rows.append([*row, interval(low, high)] if found.known else row)
    return Table("Mean accuracy of groups of classes", columns, rows, frozenset([1] if several else []), "rows")


def changes(run: Run, first: Run, most: int = 5) -> Table | None:
    """The classes that gained and lost most against the first run."""
    change = run.accuracies - first.accuracies
    order = np.argsort(change, kind="stable")  # NaN last
    order = order[~np.isnan(change[order])]
    lost = [label for label in order[:most] if change[label] < 0]
    gained = [label for label in order[::-1][:most] if change[label] > 0]
    if not gained and not lost:
        return None
    rows = [
        [
            run.class_names[label],
            str(run.class_counts[label]),
            percent(first.accuracies[label]),
            percent(run.accuracies[label]),
            _change(run, first, label),
        ]
        for label in (*gained, *reversed(lost))
    ]
    columns = ["class", "training images", f"{first.name}, %", f"{run.name}, %", "points"]
    return Table(f"Classes that {run.name} changes most against {first.name}", columns, rows)


def _change(run: Run, first: Run, label: int) -> str:
    return difference(run.accuracies[label], first.accuracies[label])
