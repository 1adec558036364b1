"""Probabilities that are as often right as they say, and sets that hold the true class as often as was asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.export.held_out import held_out, logits_of
from car_ext.metrics.conformal import fit_thresholds, softmax
from car_ext.metrics.temperature import balanced_loss, fit_group_temperatures, fit_temperature, of_classes, tempered
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.text import listed
from car_ext.values import convert

FITTED = ("auto", "groups")


@dataclass(frozen=True)
class Confidence:
    """What an export does about a model that is too sure of itself. Predictions stay the same.

    Both are fitted on the same held-out images; strictly, the promise of the sets wants others than the temperature's,
    but one number fitted on many images moves it little.

    Attributes:
        temperature: "auto" for the one that fits held-out images (`fit_temperature`), "groups" for one of each of the
            many-, medium- and few-shot classes (`fit_group_temperatures`), a number, or None for none.
        conformal: how often a set may miss the true class of each class (`fit_thresholds`); None for no sets.
        held_out: where the held-out images are; the run's own validation images by default.
        data, data_root: where the run's own data lie now.
    """

    temperature: str | float | None = None
    conformal: float | None = None
    held_out: str | None = None
    data: str | None = None
    data_root: str | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and self.temperature not in FITTED:
            value = convert(self.temperature, float, "--temperature, unless auto or groups,")
            if not 0 < value < float("inf"):
                raise InputError(f"--temperature is {value:g}: give a positive number, auto or groups.")
        if self.conformal is not None and not 0 < self.conformal < 1:
            raise InputError(f"--conformal is {self.conformal:g}: give how often a set may miss, such as 0.1.")
        if self.held_out and not self.fits:
            raise InputError("--held-out is what --temperature auto and --conformal are fitted on: add one of them.")

    @property
    def fits(self) -> bool:
        """Whether held-out images are needed."""
        return self.temperature in FITTED or self.conformal is not None

    def apply(self, run: FinishedRun) -> None:
        """Builds it into a run, which then says so in its facts.

        Raises:
            InputError: as `held_out` and the fits.
        """
        if not self.fits:
            if self.temperature is not None:
                run.temper({"all": float(self.temperature)})
            return
        logits, targets = logits_of(run, held_out(run, self.held_out, self.data, self.data_root))
        if self.temperature is not None:
            found = self._found(run, logits, targets)
            logits = tempered(logits, of_classes(found, run.class_counts))
            run.temper(found)
        if self.conformal is not None:
            run.facts["conformal"] = self._sets(run, logits, targets, self.conformal)

    def _found(self, run: FinishedRun, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Group, or "all", to temperature."""
        if self.temperature not in FITTED:
            return {"all": float(self.temperature or 1)}
        if self.temperature == "auto":
            found = {"all": fit_temperature(logits, targets)}
        else:
            found, notes = fit_group_temperatures(logits, targets, run.class_counts)
            for note in notes:
                tell(note)
        cooled = tempered(logits, of_classes(found, run.class_counts))
        before, after = (balanced_loss(np.asarray(of, np.float64), targets) for of in (logits, cooled))
        tell(
            f"temperature {', '.join(f'{value:.4g} ({group})' for group, value in found.items())}, fitted on "
            f"{len(targets)} held-out images: their negative log-likelihood, each class weighing the same, goes from "
            f"{before:.4f} to {after:.4f}"
        )
        run.facts["temperature_fit"] = {"images": len(targets), "loss": [before, after]}
        return found

    def _sets(self, run: FinishedRun, logits: np.ndarray, targets: np.ndarray, alpha: float) -> dict[str, Any]:
        thresholds = fit_thresholds(softmax(logits), targets, alpha)
        names = [run.class_names[label] for label in thresholds.pooled]
        if names:
            tell(
                f"{len(names)} of {len(run.class_names)} classes have fewer held-out images than sets of --conformal "
                f"{alpha:g} need of a class, and share a threshold: {listed(names)}"
            )
        values = thresholds.values.tolist()
        return {"alpha": alpha, "thresholds": values, "images": len(targets), "pooled": names}
