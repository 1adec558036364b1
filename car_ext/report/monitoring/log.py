"""The log of a deployed model: a line of JSON for each batch of pictures, as examples/monitor.py appends them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.errors import InputError
from car_ext.text import nfc, printable, short_names

FIRST = 5  # batches that the latest is compared with
LARGEST_COUNT = 2**53  # a file's own numbers may not overflow ours


@dataclass(frozen=True)
class Batch:
    """A line of the log.

    Attributes:
        time: in UTC.
        model: path of the model's file.
        predicted: class name to how many pictures were taken for it.
        true, correct: class name to pictures with that label, and how many of them were recognised; empty without
            labels.
        class_counts: class name to training images; empty where unknown.
        mean_confidence: fraction.
    """

    time: datetime
    model: str
    predicted: Mapping[str, int]
    true: Mapping[str, int]
    correct: Mapping[str, int]
    class_counts: Mapping[str, int]
    mean_confidence: float

    @classmethod
    def from_json(cls, text: str) -> "Batch":
        """A line of the log.

        Raises:
            ValueError, TypeError, KeyError, OverflowError, RecursionError: it is another kind of line.
        """
        line = json.loads(text)
        if not isinstance(line, dict):
            raise TypeError("it is no JSON object")
        predicted, *others = (_counts(line, key) for key in ("predicted", "true", "correct", "class_counts"))
        true, correct, class_counts = others
        confidence, model = line["mean_confidence"], line["model"]
        if not sum(predicted.values()):
            raise ValueError("predicted holds no image")
        labelled = sum(predicted.values()) - _count(line.get("unlabelled", 0), "unlabelled")
        if true and (sum(true.values()) != labelled or not true.keys() <= predicted.keys()):
            raise ValueError("true and predicted are not of the same images")
        if any(hits > min(true.get(name, 0), predicted.get(name, 0)) for name, hits in correct.items()):
            raise ValueError("more images are correct than were predicted or true")
        if class_counts and (class_counts.keys() != predicted.keys() or not all(class_counts.values())):
            raise ValueError("class_counts and predicted are not of the same classes")
        if type(confidence) not in (int, float) or not 0 <= confidence <= 1:
            raise ValueError(f"mean_confidence is {confidence!r}")
        if not isinstance(model, str):
            raise TypeError(f"model is {model!r}")
        time = datetime.fromisoformat(line["time"])
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return cls(time, model, predicted, true, correct, class_counts, float(confidence))


@dataclass(frozen=True)
class Log:
    """Batches in the order of their times, and whether the last line was interrupted and is left out."""

    batches: Sequence[Batch]
    interrupted: bool = False

    @classmethod
    def read(cls, path: Path) -> "Log":
        """Reads a log.

        A last line that does not end is what a kill leaves of a batch, and only that batch is lost.

        Raises:
            InputError: no such file, no line, or one that is not of a batch.
        """
        if not path.is_file():
            raise InputError(f"there is no log {str(path)!r}; give the --log file of examples/monitor.py.")
        *lines, rest = path.read_bytes().split(b"\n")
        batches = [_batch(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
        interrupted = False
        if rest.strip():
            try:
                json.loads(rest)
            except (ValueError, RecursionError):
                interrupted = True
            else:
                batches.append(_batch(rest, path, len(lines) + 1))
        if not batches:
            raise InputError(f"{path} holds no whole line; score a batch with examples/monitor.py first.")
        return cls(sorted(batches, key=lambda batch: batch.time), interrupted)

    @cached_property
    def class_counts(self) -> dict[str, int]:
        """Training images a class as the latest line says that knows; empty where none does."""
        return next((dict(batch.class_counts) for batch in reversed(self.batches) if batch.class_counts), {})

    @cached_property
    def classes(self) -> list[str]:
        """As the lines name them: most training images first, then those of other models."""
        known = sorted(self.class_counts, key=lambda name: -self.class_counts[name])
        return list(dict.fromkeys([*known, *(name for batch in reversed(self.batches) for name in batch.predicted)]))

    @cached_property
    def class_names(self) -> list[str]:
        return [printable(name) for name in self.classes]

    @cached_property
    def models(self) -> list[str]:
        """What to call the model of each batch."""
        paths = list(dict.fromkeys(batch.model for batch in self.batches))
        names = dict(zip(paths, map(printable, short_names(paths)), strict=True))
        return [names[batch.model] for batch in self.batches]

    @cached_property
    def predicted(self) -> np.ndarray:
        """(T, K) int64 images by predicted class."""
        return self._table([batch.predicted for batch in self.batches])

    @cached_property
    def true(self) -> np.ndarray:
        """(T, K) int64 images by label; rows of batches without labels are 0."""
        return self._table([batch.true for batch in self.batches])

    @cached_property
    def correct(self) -> np.ndarray:
        """(T, K) int64 images recognised, by label."""
        return self._table([batch.correct for batch in self.batches])

    @cached_property
    def labelled(self) -> np.ndarray:
        """(T,) bool, whether a batch has labels."""
        return self.true.sum(axis=1) > 0

    @cached_property
    def confidence(self) -> np.ndarray:
        """(T,) mean confidences."""
        return np.array([batch.mean_confidence for batch in self.batches])

    @cached_property
    def training(self) -> np.ndarray | None:
        """(K,) training images, 0 for classes of other models; None where unknown."""
        return self._table([self.class_counts])[0] if self.class_counts else None

    @cached_property
    def moments(self) -> list[str]:
        """When each batch was, without a place for a line to end."""
        times = [batch.time for batch in self.batches]
        return [f"{time.day} {time:%b %Y %H:%M}".replace(" ", "\N{NO-BREAK SPACE}") for time in times]

    @property
    def first(self) -> slice:
        """The batches that the latest is compared with: the first FIRST, never itself."""
        return slice(0, min(FIRST, len(self.batches) - 1))

    @property
    def first_name(self) -> str:
        return "first batch" if self.first.stop == 1 else f"first {self.first.stop} batches"

    def _table(self, rows: Sequence[Mapping[str, int]]) -> np.ndarray:
        return np.array([[row.get(name, 0) for name in self.classes] for row in rows], np.int64)


def _batch(line: bytes, path: Path, number: int) -> Batch:
    try:
        return Batch.from_json(line.decode("utf-8"))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path}, line {number}, is not one that examples/monitor.py writes ({problem}); repair or delete it."
        ) from error


def _counts(line: Mapping[str, Any], key: str) -> dict[str, int]:
    counts = line[key] if key == "predicted" else line.get(key, {})
    if not isinstance(counts, dict):
        raise TypeError(f"{key} is {counts!r:.40}, but must be class names with counts")
    for name, count in counts.items():
        _count(count, key, f" for {name!r:.40}")
    # Models of before told classes in the form in which their names were found.
    composed: dict[str, int] = {}
    for name, count in counts.items():
        composed[nfc(name)] = composed.get(nfc(name), 0) + count
    return composed


def _count(count: Any, key: str, where: str = "") -> int:
    if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
        raise ValueError(f"{key} holds {count!r:.40}{where}")
    return count
