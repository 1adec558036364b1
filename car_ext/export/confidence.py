"""Probabilities that are as often right as they say, and sets that hold the true class as often as was asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.export.held_out import held_out, logits_of
from car_ext.metrics.conformal import fit_thresholds, softmax
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.temperature import fit_group_temperatures, fit_temperature, of_classes, tempered
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.text import listed, percent
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
                run.temper([float(self.temperature)], {"all": float(self.temperature)})
            return
        split = held_out(run, self.held_out, self.data, self.data_root)
        logits, targets = logits_of(run, split)
        temperatures = np.ones(1)
        if self.temperature is not None:
            temperatures, facts = self._temperatures(run, logits, targets)
            run.temper(temperatures.tolist(), facts)
        if self.conformal is not None:
            thresholds = fit_thresholds(softmax(tempered(logits, temperatures)), targets, self.conformal)
            names = [run.class_names[label] for label in thresholds.pooled]
            if names:
                tell(
                    f"{len(names)} of {len(run.class_names)} classes have fewer held-out images than sets of "
                    f"--conformal {self.conformal:g} need of a class, and share a threshold: {listed(names)}"
                )
            run.facts["conformal"] = {
                "alpha": self.conformal,
                "thresholds": thresholds.values.tolist(),
                "images": len(targets),
                "pooled": names,
            }

    def _temperatures(
        self, run: FinishedRun, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """(1,) or (K,) temperatures, and what the file says of them."""
        if self.temperature not in FITTED:
            return np.array([float(self.temperature or 1)]), {"all": float(self.temperature or 1)}
        if self.temperature == "auto":
            found = {"all": fit_temperature(logits, targets)}
            values = np.array([*found.values()])
        else:
            found, notes = fit_group_temperatures(logits, targets, run.class_counts)
            for note in notes:
                tell(note)
            values = of_classes(found, run.class_counts)
        before, after = (_measured(of, targets) for of in (logits, tempered(logits, values)))
        tell(
            f"temperature {', '.join(f'{value:.4g} ({group})' for group, value in found.items())}, fitted on "
            f"{len(targets)} held-out images: their negative log-likelihood goes from {before['nll']:.4f} to "
            f"{after['nll']:.4f}, their calibration error from {percent(before['ece'])} to {percent(after['ece'])} %"
        )
        return values, {**found, "images": len(targets), "before": before, "after": after}


def _measured(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    statistics = ScoreStatistics(logits.shape[1])
    statistics.update(logits, targets)
    found = statistics.summary()
    return {"nll": found["nll"], "ece": found["ece"]}
