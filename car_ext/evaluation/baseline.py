"""An earlier evaluation, out of the JSON it left."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.evaluation.outcome import Outcome
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.text import nfc

NEEDED = {"model", "per_class_accuracy", "class_counts", "test_counts"}


def read_baseline(path: str | Path) -> Outcome:
    """What `car-ext evaluate MODEL --json` wrote of one model, with the predictions of its images if they are there.

    The predictions are `NAME.predictions.parquet` beside `NAME.json`, or what the JSON names, beside it or where it
    says. Those of another evaluation are not taken. Without any, another sentence is told.

    Raises:
        InputError: no such file, no JSON of an evaluation, one of several models, or damaged predictions.
    """
    path = Path(path)
    try:
        summary: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--baseline {path} cannot be read ({error}); give what car-ext evaluate --json wrote."
        ) from error
    if isinstance(summary, list):
        raise InputError(
            f"--baseline {path} holds {len(summary)} evaluations; give the JSON of an evaluation of one model."
        )
    if not isinstance(summary, dict) or not summary.keys() >= NEEDED:
        raise InputError(f"--baseline {path} is no evaluation; give what car-ext evaluate MODEL --json wrote.")
    for file in _places(path, summary):
        if file.is_file() and (found := _paired(summary, file)):
            return found
    tell(
        f"the predictions that belong to --baseline {path} are not beside it, so falls are tested as if the two models "
        "had seen different images, which misses more of them"
    )
    return Outcome(summary)


def _places(path: Path, summary: Mapping[str, Any]) -> Iterator[Path]:
    yield path.with_suffix(".predictions.parquet")
    if named := summary.get("predictions"):
        yield path.with_name(Path(str(named)).name)
        yield Path(str(named))


def _paired(summary: Mapping[str, Any], file: Path) -> Outcome | None:
    """The outcome with the predictions of a file, unless they are of another evaluation."""
    names, splits = PredictionsFile.read(file)
    if "test" not in splits or [*map(nfc, names)] != [*map(nfc, summary["class_counts"])]:
        return None
    outcome = Outcome.of(summary, splits["test"])
    images = np.bincount(splits["test"].targets, minlength=len(names))
    right = np.bincount(splits["test"].targets[splits["test"].correct], minlength=len(names))
    counted = (images.tolist(), right.tolist())
    return outcome if counted == ([*outcome.images.values()], [*outcome.right.values()]) else None
