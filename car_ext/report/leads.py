"""The few numbers of a run that a reader came for, those of the worst classes first."""

from collections.abc import Sequence

import numpy as np

from car_ext.report import figures
from car_ext.report.cells import against, interval, percent
from car_ext.report.frame import Lead, Number
from car_ext.report.runs import Run

LISTED = 3  # classes that a line has room to name


def lead(run: Run, first: Run) -> Lead:
    """Of one run, with its differences to the first."""
    better, worse = ((sign * (run.accuracies - first.accuracies) > 0).sum() for sign in (1, -1))
    return Lead(
        run.name,
        [
            _at_zero(run, first),
            # Of up to ten classes the worst tenth is the worst class.
            *([_worst_tenth(run, first)] if run.worst_tenth.sum() > 1 else []),
            _worst_class(run, first),
            _overall(run, first),
        ],
        figures.look(run).colour,
        f"{better} classes better than {first.name}, {worse} worse" if run is not first else "",
    )


def _at_zero(run: Run, first: Run) -> Number:
    """The classes of which nothing is right: where the worst class is 0, this is what still moves."""
    zeros = [run.class_names[label] for label in run.at_zero]
    more = f" and {len(zeros) - LISTED} more" if len(zeros) > LISTED else ""
    change = len(zeros) - len(first.at_zero)
    than = f"{abs(change)} {'fewer' if change < 0 else 'more'} than {first.name}" if change else f"as in {first.name}"
    return Number(
        "classes at 0 %",
        str(len(zeros)),
        ", ".join(zeros[:LISTED]) + more,
        against="" if run is first else than,
        unit=f"of {len(run.worst_first):,}",
    )


def _worst_tenth(run: Run, first: Run) -> Number:
    value = _mean(run, run.worst_tenth)
    return Number(
        "worst tenth",
        percent(value),
        f"mean of the worst {run.worst_tenth.sum():,} of {len(run.worst_first):,} classes",
        _interval(run.mean_interval(run.worst_tenth)),
        _against(run, first, value, _mean(first, first.worst_tenth)),
    )


def _worst_class(run: Run, first: Run) -> Number:
    label = run.worst_class
    value, before = (None if one.worst_class is None else one.accuracies[one.worst_class] for one in (run, first))
    if label is None:
        return Number("worst class", percent(value), "")
    of, bounds = f"class {run.worst_name}, {run.class_counts[label]:,} training images", ""
    if run.intervals is not None and run.test_counts is not None:
        right = run.found.confusion.right[label]
        low, high = run.intervals
        # That of the lowest accuracy, as the terminal has it; older runs have only the one of the class.
        noted = (run.summary.get("intervals") or {}).get("worst_class_accuracy") or (low[label], high[label])
        bounds = f"{right:,} of {run.test_counts[label]:,} test images, {_interval(noted)}"
    return Number("worst class", percent(value), of, bounds, _against(run, first, value, before))


def _overall(run: Run, first: Run) -> Number:
    return Number(
        "overall",
        percent(run.overall),
        "of the test images" if run.test_counts is None else f"of {run.test_counts.sum():,} test images",
        against=_against(run, first, run.overall, first.overall),
    )


def _mean(run: Run, classes: np.ndarray) -> float | None:
    return float(run.accuracies[classes].mean()) if classes.any() else None


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"95 % interval {interval(*bounds)} %"


def _against(run: Run, first: Run, value: float | None, before: float | None) -> str:
    return "" if run is first else against(value, before, first.name)
