"""Every class, groups of them, and those that a run changes most."""

from collections.abc import Sequence

import numpy as np

from car_ext.report.cells import LONGEST, Cell, Table, cut, difference, interval, percent
from car_ext.report.groups import Groups
from car_ext.report.runs import Run


def table(runs: Sequence[Run]) -> Table:
    """Every class, rarest last."""
    first, several = runs[0], len(runs) > 1
    # Interval of one run, differences of several: both at once are more than a row can hold.
    bounds = None if several else first.intervals
    counted = runs if any((run.class_counts != first.class_counts).any() for run in runs) else runs[:1]
    columns = [
        "class",
        *(f"{run.name}: training images" if len(counted) > 1 else "training images" for run in counted),
        *(["test images"] if first.findings else []),
        *(f"{run.name}: accuracy, %" if several else "accuracy, %" for run in runs),
        *(["95 % interval"] if bounds else []),
    ]
    rows = []
    for label in np.argsort(-first.class_counts, kind="stable")[:LONGEST]:
        row: list[str | Cell] = [first.class_names[label]]
        row += [str(run.class_counts[label]) for run in counted]
        if first.test_counts is not None:
            row.append(str(first.test_counts[label]))
        row.append(Cell(percent(first.accuracies[label])))
        row += [Cell(percent(run.accuracies[label]), _change(run, first, label)) for run in runs[1:]]
        if bounds:
            row.append(interval(*(bound[label] for bound in bounds)))
        rows.append(row)
    return Table("Every class, most training images first" + cut(first.accuracies.size), columns, rows)


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
    for number, run in enumerate(runs):
        for name, size, value, low, high in zip(found.names, *(array[number] for array in found[1:]), strict=True):
            if size:
                row = [name, *([run.name] if several else []), str(size), percent(value)]
                rows.append([*row, interval(low, high)] if found.known else row)
    return Table("Mean accuracy of groups of classes", columns, rows, frozenset([1] if several else []))


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
