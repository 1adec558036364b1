"""The scores: what each is called wherever it is shown, and its formula. A new one is one `Score` more."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.counts import Counts, lowest, mean, number, ratio
from car_ext.metrics.worst_tenth import smoothed_worst_tenth
from car_ext.plugins import of_other_packages
from car_ext.text import percent

LEAST_ACCURACY = 1e-5  # the harmonic mean's; without it one class at 0 would be all it shows


@dataclass(frozen=True)
class Score:
    """One score of a model on a test set.

    Attributes:
        key: in `summary.json`; `scores.ece` lies one level down.
        name: in a report.
        formula: its value, a float or None where undefined; None where something else computes it.
        short: in the tables of a terminal and of a comparison; None keeps it out of both.
        compact: whether it is shown where there is room for a few scores only.
        fraction: whether it is shown in per cent.
        more_is_better: False for errors.
        gate: its word in `--gate`.
        epoch: `test_EPOCH` is its key in a line of `metrics.jsonl`; it must be cheap then.
    """

    key: str
    name: str
    formula: Callable[[Counts], float | None] | None = None
    short: str | None = None
    compact: bool = False
    fraction: bool = True
    more_is_better: bool = True
    gate: str | None = None
    epoch: str | None = None

    def of(self, summary: Mapping[str, Any]) -> Any:
        """Its value in a summary; None where it has none."""
        value: Any = summary
        for part in self.key.split("."):
            value = (value or {}).get(part)
        return value

    def text(self, mean: float | None, deviation: float | None = None) -> str:
        """A value for a table, or its mean over runs: as `text.percent`, or a plain number where it is no fraction."""
        if self.fraction or mean is None:
            return percent(mean, deviation)
        if deviation is None:
            return f"{mean:.0f}" if float(mean).is_integer() else f"{mean:.4g}"  # a count has all its digits
        return f"{mean:.1f} ± {deviation:.1f}"


def _overall(counts: Counts) -> float | None:
    return number(ratio(counts.right.sum(), counts.images.sum()))


def _classes_at_zero(counts: Counts) -> int | None:
    return int((counts.rising == 0).sum()) if counts.rising.size else None


def _worst(counts: Counts) -> float | None:
    return lowest(counts.accuracies)


def _worst_share(percent: int) -> Callable[[Counts], float | None]:
    return lambda counts: mean(counts.rising[: -(-percent * counts.rising.size // 100)])


def _rarest_three(counts: Counts) -> float | None:
    return mean(counts.accuracies[counts.rarest_first[:3]])


def _group(name: str) -> Callable[[Counts], float | None]:
    return lambda counts: mean(counts.accuracies[counts.shot_groups[name]])


def _harmonic_mean(counts: Counts) -> float | None:
    if not counts.rising.size:
        return None
    return float(counts.rising.size / (1 / np.maximum(counts.rising, LEAST_ACCURACY)).sum())


def _geometric_mean(counts: Counts) -> float | None:
    if not counts.rising.size:
        return None
    return float(np.exp(np.log(counts.rising).mean())) if counts.rising.all() else 0.0


def _macro(measure: str) -> Callable[[Counts], float | None]:
    return lambda counts: ClassReport.of(counts).macro(measure)


def _weighted(measure: str) -> Callable[[Counts], float | None]:
    return lambda counts: ClassReport.of(counts).weighted(measure)


def _worst_class_ratio(counts: Counts) -> float | None:
    worst, trained = _worst(counts), counts.train_worst_class_accuracy
    return worst / trained if worst is not None and trained else None


AT_ZERO = Score(
    "classes_at_zero",
    "classes of which no image is recognised",
    _classes_at_zero,
    short="classes at 0 %",
    compact=True,
    fraction=False,
    more_is_better=False,
    epoch="classes_at_zero",
)
WORST = Score(
    "worst_class_accuracy", "worst class", _worst, short="worst class", compact=True, gate="worst", epoch="worst"
)
SMOOTHED = Score(
    "smoothed_worst_10pct",
    "mean of the worst 10 % of the classes, smoothed (posterior means)",
    lambda counts: smoothed_worst_tenth(counts.right, counts.images),
    epoch="smoothed_worst_10pct",
)
_scores = [
    AT_ZERO,
    Score(
        "worst_10pct",
        "mean of the worst 10 % of the classes",
        _worst_share(10),
        "worst 10 %",
        True,
        gate="worst_10pct",
        epoch="worst_10pct",
    ),
    WORST,
    Score("overall_accuracy", "overall accuracy", _overall, "overall", True, gate="overall", epoch="overall"),
    Score(
        "balanced_accuracy",
        "balanced accuracy (mean over the classes)",
        lambda counts: mean(counts.accuracies),
        "balanced",
        gate="balanced",
        epoch="balanced",
    ),
    Score("worst_1pct", "mean of the worst 1 % of the classes", _worst_share(1)),
    Score("worst_5pct", "mean of the worst 5 % of the classes", _worst_share(5)),
    SMOOTHED,
    Score(
        "rarest_three_accuracy", "mean of the three rarest classes", _rarest_three, "rarest three", True, gate="rarest"
    ),
    Score(
        "many",
        "mean of many-shot classes (over 100 training images)",
        _group("many"),
        "many",
        True,
        gate="many",
        epoch="many",
    ),
    Score(
        "medium",
        "mean of medium-shot classes (20 to 100)",
        _group("medium"),
        "medium",
        True,
        gate="medium",
        epoch="medium",
    ),
    Score("few", "mean of few-shot classes (under 20)", _group("few"), "few", True, gate="few", epoch="few"),
    Score("harmonic_mean", "harmonic mean of the classes", _harmonic_mean),
    Score("geometric_mean", "geometric mean of the classes", _geometric_mean),
    Score("macro_precision", "macro precision", _macro("precision")),
    Score("macro_recall", "macro recall", _macro("recall")),
    Score("macro_f1", "macro F1", _macro("f1")),
    Score("weighted_precision", "precision, classes weighted by their test images", _weighted("precision")),
    Score("weighted_f1", "F1, classes weighted by their test images", _weighted("f1")),
    Score("worst_class_ratio", "worst class, test over training", _worst_class_ratio, "worst-class ratio"),
    Score("scores.ece", "expected calibration error", more_is_better=False),
    Score("scores.brier", "Brier score, 0 to 2", fraction=False, more_is_better=False),
    Score("scores.nll", "negative log-likelihood, nats", fraction=False, more_is_better=False),
    Score("wce", "weighted worst-class error", fraction=False, more_is_better=False),
    Score("confusion_norm", "spectral norm of the confusions", fraction=False, more_is_better=False),
    Score(
        "weighted_confusion_norm",
        "spectral norm, classes weighted by rarity",
        fraction=False,
        more_is_better=False,
    ),
]
_found_outside = False

SPEEDS = ("runs in", "images/s", "ms a batch, p50, p95", "ms an image, p50, p95")


def register(score: Score) -> Score:
    """Adds a score behind all others: to summaries, tables, reports, comparisons and, where it says so, gates.

    Another package can do so when it is installed, by an entry point of the group `car_ext.metrics` that names a
    `Score`.

    Raises:
        InputError: its key, gate word or epoch key is taken.
    """
    for field in ("key", "gate", "epoch"):
        value = getattr(score, field)
        if value is not None and value in [getattr(other, field) for other in _scores]:
            raise InputError(f"the {field} {value!r} of a score is taken; give another.")
    _scores.append(score)
    return score


def scores() -> tuple[Score, ...]:
    """Every score there is, in the order in which they are shown."""
    global _found_outside
    if not _found_outside:
        _found_outside = True
        for score in of_other_packages("car_ext.metrics"):
            register(score)
    return tuple(_scores)


def objectives() -> dict[str, Score]:
    """What settings can be chosen by: the scores of every epoch of which more is better, by their keys."""
    return {score.key: score for score in scores() if score.epoch and score.more_is_better}


def shown(summaries: Iterable[Mapping[str, Any]]) -> list[Score]:
    """The scores without those that would be said twice, as the worst tenth of ten classes is the worst class."""
    summaries = list(summaries)

    def said_twice(score: Score) -> bool:
        return all(score.of(summary) in (None, WORST.of(summary)) for summary in summaries)

    return [score for score in scores() if not (score.key.endswith("pct") and said_twice(score))]


def speeds(summary: Mapping[str, Any]) -> list[str]:
    """What `SPEEDS` names, of a summary of an evaluation."""
    calls = [summary["latency_ms"][kind] for kind in ("batch", "single")]
    return [
        summary["provider"].removesuffix("ExecutionProvider"),
        f"{summary['images_per_second']:.0f}",
        *(
            ", ".join(f"{spent[key]:{'.3g' if spent[key] < 1000 else '.0f'}}" for key in ("p50", "p95"))
            for spent in calls
        ),
    ]
