"""The tables of a report, as text: the template only lays them out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from car_ext.metrics.mistakes import IMAGES_PER_PAIR, PAIRS, confused_pairs
from car_ext.metrics.vocabulary import SPEEDS
from car_ext.metrics.vocabulary import speeds as measured
from car_ext.priors import shot_groups
from car_ext.report.cells import LONGEST, Cell, Table, difference, interval
from car_ext.report.runs import Run
from car_ext.text import percent, printable

MADE = (
    "model",
    "format",
    "provider",
    "images",
    "batch_size",
    "parameters",
    "seconds",
    "augment",
    "amp",
)  # of the summary, beside the options
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


def scores(runs: Sequence[Run]) -> Table:
    """Every score of every run, with its difference to the first."""
    rows = []
    for key, name, fraction, more in SCORES:
        values = [_lookup(run.summary, key) for run in runs]
        same = key.endswith("pct") and values == [run.summary.get("worst_class_accuracy") for run in runs]
        if all(value is None for value in values) or same:  # one per cent of ten classes is the worst class
            continue
        show = percent if fraction else _number
        shown = [show(value) for value in values]
        defined = [value for value in values if value is not None]
        best = show((max if more else min)(defined)) if len(set(shown)) > 1 else None
        rows.append(
            [
                name + (", %" if fraction else ""),
                "more" if more else "less",
                *(
                    Cell(text, difference(value, values[0], fraction) if number else "", text == best)
                    for number, (text, value) in enumerate(zip(shown, values, strict=True))
                ),
            ]
        )
        if key == "worst_class_accuracy":
            worst = [worst_name(run) for run in runs]
            rows.append(["which class that is", "", *worst])
    caption = "Scores on the test images" + (f"; small: points above or below {runs[0].name}" if len(runs) > 1 else "")
    return Table(caption, ["", "better if", *(run.name for run in runs)], rows, frozenset([1]))


def speeds(runs: Sequence[Run]) -> Table | None:
    """Of the runs that are evaluations; None where none is."""
    rows = [[run.name, *measured(run.summary)] for run in runs if "latency_ms" in run.summary]
    return Table("Speed of the model's calls", ["", *SPEEDS], rows, frozenset([1])) if rows else None


def worst_name(run: Run) -> str:
    worst = worst_class(run)
    return "-" if worst is None else run.class_names[worst]


def worst_class(run: Run) -> int | None:
    """Its label, the first of equals as `metrics.summarize` has it."""
    return None if np.isnan(run.accuracies).all() else int(np.nanargmin(run.accuracies))


def classes(runs: Sequence[Run]) -> Table:
    """Every class, rarest last."""
    first = runs[0]
    # Interval of one run, differences of several: both at once are more than a row can hold.
    alone = len(runs) == 1 and first.intervals
    same = all((run.class_counts == first.class_counts).all() for run in runs)
    columns = [
        "class",
        *(["training images"] if same else [f"{run.name}: training images" for run in runs]),
        *(["test images"] if first.findings else []),
        *(["accuracy, %"] if len(runs) == 1 else [f"{run.name}: accuracy, %" for run in runs]),
        *(["95 % interval"] if alone else []),
    ]
    rows = []
    for label in np.argsort(-first.class_counts, kind="stable")[:LONGEST]:
        row: list[str | Cell] = [first.class_names[label]]
        row += [str(run.class_counts[label]) for run in (runs[:1] if same else runs)]
        if first.findings:
            row.append(str(first.test_counts[label]))
        for run in runs:
            accuracy = run.accuracies[label]
            change = difference(accuracy, first.accuracies[label], True) if run is not first else ""
            row.append(Cell(_percent(accuracy), change))
        if alone:
            row.append(interval(*(bound[label] for bound in first.intervals)))
        rows.append(row)
    return Table("Every class, most training images first" + _cut(first.accuracies.size, LONGEST), columns, rows)


def groups(runs: Sequence[Run]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, Table]:
    """Overall, many, medium, few and worst class: names, accuracies and bounds (R, G), and the same as a table."""
    names = ["all classes", "many", "medium", "few", "worst class"]
    values, low, high = np.full((3, len(runs), len(names)), np.nan)
    several, known, rows = len(runs) > 1, any(run.findings for run in runs), []
    for number, run in enumerate(runs):
        masks = {"all classes": np.ones(len(run.class_names), bool), **shot_groups(run.class_counts)}
        if (worst := worst_class(run)) is not None:
            masks["worst class"] = np.arange(len(run.class_names)) == worst
        for at, name in enumerate(names):
            tested = masks.get(name, np.zeros(1, bool)) & ~np.isnan(run.accuracies)
            if not tested.any():
                continue
            values[number, at] = run.accuracies[tested].mean()
            if bounds := run.mean_interval(tested):
                low[number, at], high[number, at] = bounds
            row = [name, *([run.name] if several else []), str(int(tested.sum())), _percent(values[number, at])]
            rows.append([*row, interval(low[number, at], high[number, at])] if known else row)
    kept = ~np.isnan(values).all(axis=0)
    columns = [
        "group",
        *(["run"] if several else []),
        "classes",
        "mean accuracy, %",
        *(["95 % interval"] if known else []),
    ]
    table = Table("Mean accuracy of groups of classes", columns, rows, frozenset([1] if several else []))
    return (
        [name for name, keep in zip(names, kept, strict=True) if keep],
        *(array[:, kept] for array in (values, low, high)),
        table,
    )


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
            _percent(first.accuracies[label]),
            _percent(run.accuracies[label]),
            difference(run.accuracies[label], first.accuracies[label], True),
        ]
        for label in (*gained, *reversed(lost))
    ]
    columns = ["class", "training images", f"{first.name}, %", f"{run.name}, %", "points"]
    return Table(f"Classes that {run.name} changes most against {first.name}", columns, rows)


def confusions(run: Run) -> Table:
    """The whole matrix where it can be read, else the pairs that are confused most."""
    confusion, names = run.findings.confusion, run.class_names
    if len(names) <= 15:
        rows = [[name, *map(str, row)] for name, row in zip(names, confusion, strict=True)]
        return Table(
            f"{run.name}: test images by predicted class (rows) and true class (columns)",
            ["predicted \\ true", *names],
            rows,
        )
    rows = [
        [names[true], names[predicted], str(confusion[predicted, true]), _percent(_share(run, predicted, true))]
        for predicted, true in confused_pairs(confusion, 100)
    ]
    columns = ["true class", "taken for", "images", "of the class, %"]
    return Table(f"{run.name}: the 100 most confused pairs", columns, rows, frozenset([1]))


class Pair(NamedTuple):
    true: str
    predicted: str
    share: str
    elsewhere: list[tuple[str, str]]  # (run, share) in the other runs
    examples: list[int]  # places in findings.examples


def pairs(run: Run, runs: Sequence[Run]) -> list[Pair]:
    """What is confused most, with the images kept of it."""
    findings, found = run.findings, []
    for predicted, true in confused_pairs(findings.confusion, PAIRS):
        of_pair = (findings.examples["predicted"] == predicted) & (findings.examples["true"] == true)
        count, images = findings.confusion[predicted, true], run.test_counts[true]
        found.append(
            Pair(
                run.class_names[true],
                run.class_names[predicted],
                f"{_percent(count / images)} % of the class ({count} of {images} images)",
                [
                    (other.name, _percent(_share(other, predicted, true)))
                    for other in runs
                    if other is not run and other.findings
                ],
                np.flatnonzero(of_pair)[:IMAGES_PER_PAIR].tolist(),
            )
        )
    return found


def epochs(run: Run) -> Table:
    """metrics.jsonl, thinned evenly where it is long."""
    rows = [
        run.history[at]
        for at in np.unique(np.linspace(0, len(run.history) - 1, min(len(run.history), 100)).astype(int))
    ]
    keys = [key for key in run.history[0] if any(row.get(key) is not None for row in run.history)]
    text = [[f"{row[key]:.4g}" if row.get(key) is not None else "-" for key in keys] for row in rows]
    return Table(f"{run.name}: epochs", [key.replace("_", " ") for key in keys], text)


def bins(run: Run) -> Table:
    held = run.findings.reliability
    rows = [
        [
            f"{100 * low:.0f} to {100 * high:.0f} %",
            str(count),
            _percent(confidence),
            _percent(accuracy),
        ]
        for low, high, count, confidence, accuracy in zip(
            held["edges"], held["edges"][1:], held["count"], held["confidence"], held["accuracy"], strict=False
        )
    ]
    return Table(
        f"{run.name}: bins of the confidence", ["confidence", "images", "mean confidence, %", "accuracy, %"], rows
    )


def averages(runs: Sequence[Run]) -> Table | None:
    """How far CAR's moving average is from the whole training set; None where no run has one."""
    rows = [
        [run.name, *(_number(held[key]) for key in ("sigma", "full_sigma", "distance"))]
        for run in runs
        if (held := run.summary.get("moving_average"))
    ]
    columns = ["run", "sigma of the moving average", "sigma over all training images", "relative distance"]
    return (
        Table("The moving average that CAR presses on, against the same matrix over all training images", columns, rows)
        if rows
        else None
    )


def spectrum(runs: Sequence[Run], values: Sequence[tuple[np.ndarray, np.ndarray]]) -> Table:
    columns = ["number", *(f"{run.name}, {what}" for run in runs for what in ("plain", "weighted"))]
    stacked = np.stack([array for pair in values for array in pair], axis=1)
    rows = [[str(number), *map(_number, row)] for number, row in enumerate(stacked, 1)]
    return Table("Singular values of the confusion matrix without its diagonal", columns, rows)


def setup(runs: Sequence[Run]) -> Table:
    """What made the runs; options that differ between them first."""
    held = [
        _flat(run.config)
        | {key: run.summary[key] for key in MADE if run.summary.get(key) is not None}
        | _flat(run.summary.get("environment", {}))
        | _flat(run.summary.get("hardware", {}))
        for run in runs
    ]
    keys = list(dict.fromkeys(key for values in held for key in values))
    texts = {key: [_plain(values.get(key)) for values in held] for key in keys}
    order = sorted(keys, key=lambda key: len(set(texts[key])) == 1)
    return Table(
        "Options, versions and hardware" + ("; what differs stands first" if len(runs) > 1 else ""),
        ["", *(run.name for run in runs)],
        [[printable(key), *texts[key]] for key in order],
        frozenset(range(1, len(runs) + 1)),
    )


def _share(run: Run, predicted: int, true: int) -> float:
    images = run.test_counts[true]
    return run.findings.confusion[predicted, true] / images if images else np.nan


def _lookup(summary, key: str):
    for part in key.split("."):
        summary = (summary or {}).get(part)
    return summary


def _percent(value: float) -> str:
    return percent(None if np.isnan(value) else value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _flat(values) -> dict:
    return {
        f"{key}.{inner}" if inner else key: item
        for key, value in values.items()
        for inner, item in (value.items() if isinstance(value, dict) else [("", value)])
    }


def _plain(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def _cut(total: int, shown: int) -> str:
    return f" (the first {shown} of {total})" if total > shown else ""
