"""Which epoch's weights are kept, by the validation images, and when a run has seen enough."""

from collections.abc import Iterable, Mapping
from typing import Any

from car_ext.config.config import Config
from car_ext.errors import InputError, suggest
from car_ext.metrics.vocabulary import scores


class Selection:
    """The best epoch so far: the first of those with the highest `val_KEEP_BY`.

    A later epoch has to be better, so that a run ends no later than it must, and the same run keeps the same epoch.
    Without validation images nothing is selected: the last epoch counts, and no choice is made by the test images.

    Attributes:
        best: its number, from 1; None where the weights of the last epoch are kept, or there is none yet.

    Args:
        config: the job.
        validated: whether its data have validation images.
        rows: lines of metrics.jsonl so far.

    Raises:
        InputError: a choice that needs validation images where there are none, or an unknown score.
    """

    def __init__(self, config: Config, validated: bool, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        if not validated and (option := _that_needs_validation(config)):
            raise InputError(
                f"{option} needs validation images: a folder val/ beside test/, or --val-share to cut them from the "
                "training images. The test images only judge the finished model."
            )
        known = [score.epoch for score in scores() if score.epoch]
        if config.keep_by not in known:
            raise InputError(f"--keep-by {config.keep_by} is no score of an epoch{suggest(config.keep_by, known)}")
        self._key, self._patience = f"val_{config.keep_by}" if validated else None, config.patience
        self._keeps = validated and config.keep != "last"
        self._first, self._highest, self._last = 0, float("-inf"), 0
        for row in rows:
            self.add(row)

    @property
    def best(self) -> int | None:
        return self._first or None if self._keeps else None

    @property
    def ended(self) -> bool:
        """Whether `patience` epochs brought nothing better."""
        return self._patience is not None and self._last - self._first >= self._patience

    def add(self, row: Mapping[str, Any]) -> bool:
        """Adds the line of an epoch; whether its weights are to be kept.

        Raises:
            InputError: it has no such score.
        """
        if self._key is None:
            return False
        value, self._last = row[self._key], row["epoch"]
        if value is None:
            raise InputError(
                f"--keep-by {self._key.removeprefix('val_')} has no value on these validation images; give another."
            )
        if value > self._highest:
            self._first, self._highest = row["epoch"], value
        return self._keeps and self._first == row["epoch"]


def _that_needs_validation(config: Config) -> str | None:
    if config.patience:
        return f"--patience {config.patience}"
    return "--keep best" if config.keep == "best" else None
