"""An earlier evaluation, read again."""

import json
from dataclasses import replace

import numpy as np
import pytest
from outcomes import NAMES, outcome

from car_ext.errors import InputError
from car_ext.evaluation.baseline import read_baseline
from car_ext.metrics.predictions import Predictions
from car_ext.metrics.predictions_file import PredictionsFile


@pytest.fixture
def last(tmp_path):
    """The JSON of an evaluation, and its predictions."""
    known = outcome(9, 7, 5, images=10)
    wrong = (known.targets + 1) % 3
    logits = np.eye(3)[np.where(known.correct, known.targets, wrong)]
    predictions = Predictions.of(logits, known.targets)
    files = tuple(f"{index}.png" for index in range(30))
    predictions = replace(predictions, files=files)
    (tmp_path / "last.json").write_text(json.dumps(known.summary | {"predictions": "elsewhere/any.parquet"}))
    return tmp_path / "last.json", PredictionsFile(tuple(NAMES), {"test": predictions}), known


@pytest.mark.parametrize("name", ["last.predictions.parquet", "any.parquet"])
def test_predictions_lie_beside_it(name, last):
    path, predictions, known = last
    predictions.write(path.with_name(name))
    found = read_baseline(path)
    assert found.correct.tolist() == known.correct.tolist()
    assert found.targets.tolist() == known.targets.tolist()
    assert found.files[29] == "29.png"
    assert (found.images, found.right) == (dict.fromkeys(NAMES, 10), dict(zip(NAMES, (9, 7, 5), strict=True)))


def test_those_of_another_evaluation_are_not_taken(last, capsys):
    path, predictions, known = last
    of = predictions.splits["test"]
    other = replace(of, top=of.top[::-1])
    for wrong in (PredictionsFile(tuple(NAMES), {"test": other}), PredictionsFile(("a", "b", "c"), {"test": of})):
        wrong.write(path.with_name("last.predictions.parquet"))
        found = read_baseline(path)
        assert found.correct is None
        assert found.right == known.right
    assert "the predictions that belong to --baseline" in capsys.readouterr().err


def test_damaged_predictions_are_refused(last):
    path, _, _ = last
    path.with_name("any.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match=r"any\.parquet"):
        read_baseline(path)
