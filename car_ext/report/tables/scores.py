"""The scores of every run, and how fast it is."""

from collections.abc import Sequence

from car_ext.metrics.vocabulary import SPEEDS
from car_ext.metrics.vocabulary import speeds as measured
from car_ext.report.cells import Cell, Table, difference, number, percent
from car_ext.report.runs import Run

SCORES = (  # key of the summary, what it is called, whether it is a fraction, whether more of it is better
    ("overall_accuracy", "overall accuracy", True, True),
    ("balanced_accuracy", "balanced accuracy (mean over the classes)", True, True),
    ("worst_class_accuracy", "worst class", True, True),
    ("worst_1pct", "mean of the worst 1 % of the classes", True, True),
    ("worst_5pct", "mean of the worst 5 % of the classes", True, True),
    ("worst_10pct", "mean of the worst 10 % of the classes", True, True),
    ("rarest_three_accuracy", "mean of the three rarest classes", True, True),
    ("many", "mean of many-shot classes (over 100 training images)", True, True),
    ("medium", "mean of medium-shot classes (20 to 100)", True, True),
    ("few", "mean of few-shot classes (under 20)", True, True),
    ("harmonic_mean", "harmonic mean of the classes", True, True),
    ("geometric_mean", "geometric mean of the classes", True, True),
    ("macro_f1", "macro F1", True, True),
    ("worst_class_ratio", "worst class, test over training", True, True),
    ("scores.ece", "expected calibration error", True, False),
    ("scores.brier", "Brier score, 0 to 2", False, False),
    ("scores.nll", "negative log-likelihood, nats", False, False),
    ("wce", "weighted worst-class error", False, False),
    ("confusion_norm", "spectral norm of the confusions", False, False),
    ("weighted_confusion_norm", "spectral norm, classes weighted by rarity", False, False),
)


def table(runs: Sequence[Run]) -> Table:
    """Every score of every run, with its difference to the first."""
    rows: list[list[str | Cell]] = []
    for key, name, fraction, more in SCORES:
        values = [_lookup(run.summary, key) for run in runs]
        same = key.endswith("pct") and values == [run.summary.get("worst_class_accuracy") for run in runs]
        if all(value is None for value in values) or same:  # one per cent of ten classes is the worst class
            continue
        rows.append([name + (", %" if fraction else ""), "more" if more else "less", *_cells(values, fraction, more)])
        if key == "worst_class_accuracy":
            rows.append(["which class that is", "", *(run.worst_name for run in runs)])
    caption = "Scores on the test images" + (f"; small: points above or below {runs[0].name}" if len(runs) > 1 else "")
    return Table(caption, ["", "better if", *(run.name for run in runs)], rows, frozenset([1]))


def speeds(runs: Sequence[Run]) -> Table | None:
    """Of the runs that are evaluations; None where none is."""
    rows = [[run.name, *measured(run.summary)] for run in runs if "latency_ms" in run.summary]
    return Table("Speed of the model's calls", ["", *SPEEDS], rows, frozenset([1])) if rows else None


def _cells(values: Sequence[float | None], fraction: bool, more: bool) -> list[Cell]:
    """One score of every run, the best marked unless all look alike."""
    show = percent if fraction else number
    shown = [show(value) for value in values]
    defined = [value for value in values if value is not None]
    best = show((max if more else min)(defined)) if len(set(shown)) > 1 else None
    changes = ["", *(difference(value, values[0], fraction) for value in values[1:])]
    return [Cell(text, change, text == best) for text, change in zip(shown, changes, strict=True)]


def _lookup(summary, key: str):
    for part in key.split("."):
        summary = (summary or {}).get(part)
    return summary
