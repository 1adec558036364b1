"""One model on one test set, as the report sees it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.bounds import singular_values
from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.counts import worst_first
from car_ext.metrics.intervals import wilson_interval
from car_ext.metrics.summary import R0
from car_ext.priors import spectral_weights
from car_ext.text import nfc, printable

if TYPE_CHECKING:
    from car_ext.metrics.findings import Findings


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained or an exported model.

    Attributes:
        name: what the report calls it.
        summary: of `summary.json`, or of `car_ext.evaluation.evaluate.evaluate`.
        findings: the rest of what a test set showed; without them there are no intervals, confusions, calibration.
        history: the lines of `metrics.jsonl`; without them there are no training curves.
        config: the options it was trained with.
        number: its place in the report, from 0; it gives the colour and the marker.
    """

    name: str
    summary: Mapping[str, Any]
    findings: "Findings | None" = None
    history: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        if missing := [key for key in ("class_counts", "per_class_accuracy") if key not in self.summary]:
            raise InputError(f"the summary of {self.name!r} has no {missing[0]}; train or evaluate it again.")
        if self.findings and len(self.findings.confusion) != len(self.class_names):
            raise InputError(
                f"the findings of {self.name!r} are of {len(self.findings.confusion)} classes, its summary of "
                f"{len(self.class_names)}; train or evaluate it again."
            )

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Reads the run in a folder.

        Raises:
            InputError: it holds no finished run, or a damaged file.
        """
        # Imported here, with Pillow: who gives summaries of their own, or reports on a log, reads no folder.
        import yaml

        from car_ext.run.folder import RunFolder

        folder = RunFolder(path)
        try:
            summary, history, config = folder.read_summary(), folder.read_metrics(), folder.read_config()
        except (ValueError, yaml.YAMLError) as error:
            raise InputError(f"a file of the run {path} is damaged ({error}); train again.") from error
        if summary is None:
            raise InputError(f"{path} holds no summary.json; give the --out folder of a finished run.")
        return cls(
            summary.get("method", path.name), summary, folder.read_findings(), history, config | {"out": str(path)}
        )

    @cached_property
    def class_names(self) -> list[str]:
        return [printable(nfc(name)) for name in self.summary["class_counts"]]

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Training images a class, (K,) int64."""
        return np.array([*self.summary["class_counts"].values()], np.int64)

    @cached_property
    def accuracies(self) -> np.ndarray:
        """(K,) float64 fractions, NaN for a class without test images."""
        values = self.summary["per_class_accuracy"]
        return np.array([values[name] for name in self.summary["class_counts"]], np.float64)

    @cached_property
    def worst_first(self) -> list[int]:
        """The labels of the classes with test images; of equals the one that `metrics.summarize` names leads."""
        return worst_first(self.accuracies, self.class_counts, [*self.summary["class_counts"]])

    @property
    def worst_class(self) -> int | None:
        """Its label; None without test images."""
        return next(iter(self.worst_first), None)

    @cached_property
    def worst_tenth(self) -> np.ndarray:
        """The ceil(G / 10) worst of the G classes with test images, (K,) bool."""
        tenth = np.zeros(len(self.class_names), bool)
        tenth[self.worst_first[: -(-len(self.worst_first) // 10)]] = True
        return tenth

    @property
    def at_zero(self) -> list[int]:
        """The labels of the classes of which no test image is right."""
        return [label for label in self.worst_first if self.accuracies[label] == 0]

    @property
    def overall(self) -> float | None:
        """The fraction of the test images that are right, if known."""
        known = self.summary.get("overall_accuracy")
        if known is None and self.test_counts is not None and self.test_counts.any():
            known = float(self.found.confusion.right.sum() / self.test_counts.sum())
        return known

    @property
    def worst_name(self) -> str:
        return "-" if self.worst_class is None else self.class_names[self.worst_class]

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights the scores are of, where it was chosen by validation images."""
        return self.summary.get("kept_epoch")

    @property
    def found(self) -> "Findings":
        """The findings, for what is shown only of runs that have them.

        Raises:
            ValueError: it has none.
        """
        if self.findings is None:
            raise ValueError(f"{self.name!r} has no findings")
        return self.findings

    @cached_property
    def test_counts(self) -> np.ndarray | None:
        """Test images a class, (K,) int64, if known."""
        return None if self.findings is None else self.findings.confusion.images

    @cached_property
    def class_report(self) -> ClassReport | None:
        """Precision, recall and F1 of every class, if known."""
        if self.findings is None:
            return None
        confusion = self.findings.confusion
        return ClassReport(confusion.right, confusion.taken, confusion.images)

    @cached_property
    def intervals(self) -> tuple[np.ndarray, np.ndarray] | None:
        """95 % Wilson interval of every class's accuracy, if known."""
        return None if self.test_counts is None else wilson_interval(self.found.confusion.right, self.test_counts)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Largest singular values of the confusions, and of those with the classes weighted by rarity."""
        confusion, weights = self.found.confusion, spectral_weights(self.class_counts, R0)
        return singular_values(confusion, np.ones_like(weights)), singular_values(confusion, weights)

    def mean_interval(self, classes: np.ndarray) -> tuple[float, float] | None:
        """95 % interval of the mean accuracy of some classes, if known.

        Wilson's, for an accuracy over G^2 / sum_c (1 / n_c) images: as many as a plain accuracy needs for the variance
        of this mean where the classes are equally hard, and all of them where the classes have equally many. Classes
        that differ make the mean more certain than that, so the interval errs on the wide side. Kish, Survey Sampling,
        1965 (effective sample size).

        Args:
            classes: (K,) bool; those without test images do not count.
        """
        if self.test_counts is None or not (tested := classes & (self.test_counts > 0)).any():
            return None
        images = tested.sum() ** 2 / (1 / self.test_counts[tested]).sum()
        low, high = wilson_interval(self.accuracies[tested].mean() * images, images)
        return float(low), float(high)


def arranged(runs: Sequence[Run]) -> list[Run]:
    """The runs numbered; those of one name get what sets them apart: seed, else folder, else their number."""
    names = [printable(str(run.name)) for run in runs]
    for marks in (
        [f"seed {run.summary['seed']}" if "seed" in run.summary else "" for run in runs],
        [Path(run.config.get("out", "")).name for run in runs],
        [f"#{number}" for number in range(1, len(runs) + 1)],
    ):
        several = Counter(names)
        names = [
            f"{name}, {printable(mark)}" if several[name] > 1 and mark else name
            for name, mark in zip(names, marks, strict=True)
        ]
    return [dataclasses.replace(run, name=names[at], number=at) for at, run in enumerate(runs)]
