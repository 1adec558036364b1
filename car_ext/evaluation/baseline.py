"""An earlier evaluation, out of the JSON it left."""

import json
from pathlib import Path
from typing import Any

from car_ext.errors import InputError
from car_ext.evaluation.outcome import Outcome

NEEDED = {"model", "per_class_accuracy", "class_counts", "test_counts"}


def read_baseline(path: str | Path) -> Outcome:
    """What `car-ext evaluate MODEL --json` wrote of one model.

    Raises:
        InputError: no such file, no JSON of an evaluation, or one of several models.
    """
    try:
        summary: Any = json.loads(Path(path).read_text(encoding="utf-8"))
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
    return Outcome(summary)
