"""The five most probable classes of every image, in memory and on disk."""

import dataclasses
import json

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from car_ext.errors import InputError
from car_ext.metrics import predictions_file
from car_ext.metrics.predictions import TOP, Predictions, largest
from car_ext.metrics.predictions_file import COLUMNS, PredictionsFile
from car_ext.metrics.scoring import Scoring

NAMES = ("Ente", "Käuzchen", "<b>", "d", "e", "f", "g")


@given(st.integers(0, 9), st.integers(1, 12), st.integers(0, 999))
@settings(deadline=None)
def test_of_equal_values_the_first_leads(rows, columns, seed):
    values = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(float)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :TOP]
    assert largest(values, TOP).tolist() == expected.tolist()


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(9, 7)) * 3 + 800  # a softmax without care would overflow


TARGETS = np.array([0, 1, 2, 3, 4, 5, 6, 0, 1])


@pytest.mark.parametrize("keep_logits", [False, True])
def test_predictions_by_hand(logits, keep_logits):
    scoring = Scoring(7, keep_logits)
    scoring.update(logits[:5], TARGETS[:5])
    scoring.update(logits[5:], TARGETS[5:])
    found = scoring.predictions
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    for row in range(9):
        order = sorted(range(7), key=lambda label: -odds[row, label])[:TOP]
        assert found.top[row].tolist() == order
        assert found.probabilities[row] == pytest.approx(odds[row, order])
        assert found.loss[row] == pytest.approx(-np.log(odds[row, TARGETS[row]]))
    assert found.correct.tolist() == (logits.argmax(axis=1) == TARGETS).tolist()
    assert len(found) == 9
    if keep_logits:
        assert found.logits.dtype == np.float32
        np.testing.assert_allclose(found.logits, logits, rtol=1e-6)
    else:
        assert found.logits is None


@pytest.fixture
def both(logits):
    """Test images without names and validation images with them."""
    test = Predictions.of(logits, TARGETS, keep_logits=True)
    files = ("val/Ente/1.png", "val/Ente/n\udce9.png", 'val/"x",\n.png')
    return {"test": test, "val": dataclasses.replace(Predictions.of(logits[:3], TARGETS[:3], True), files=files)}


def test_the_file_holds_every_image(both, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_file, "GROUP", 4)  # several groups of rows
    path = tmp_path / "a=1" / "p.parquet"  # which some readers take for a column of the table
    path.parent.mkdir()
    PredictionsFile(NAMES, both).write(path)
    first = path.read_bytes()
    PredictionsFile(NAMES, both).write(path)
    assert path.read_bytes() == first
    names, splits = PredictionsFile.read(path)
    assert (names, list(splits)) == (NAMES, ["test", "val"])
    for name, held in both.items():
        read = splits[name]
        for key in ("targets", "top", "predicted", "logits"):
            assert getattr(read, key).tolist() == getattr(held, key).tolist()
        for key in ("probabilities", "loss"):
            np.testing.assert_allclose(getattr(read, key), getattr(held, key), rtol=1e-6)
    assert splits["test"].files == tuple(f"test/{number}" for number in range(9))
    assert splits["val"].files == ("val/Ente/1.png", "val/Ente/n\\udce9.png", 'val/"x",\n.png')
    assert [*path.parent.iterdir()] == [path]


def test_the_columns_are_plain_for_other_readers(both, tmp_path):
    del both["val"]
    both["test"] = dataclasses.replace(both["test"], logits=None)
    PredictionsFile(NAMES, both).write(tmp_path / "p.parquet")
    table = parquet.read_table(tmp_path / "p.parquet")
    assert tuple(table.column_names) == COLUMNS
    kinds = [str(field.type).replace("element", "item") for field in table.schema]
    assert kinds == ["string"] * 4 + ["list<item: string>", "list<item: float>", "float"]
    row = table.to_pylist()[1]
    assert (row["file"], row["split"], row["true"]) == ("test/1", "test", "Käuzchen")
    assert row["predicted"] == row["top_classes"][0] == NAMES[both["test"].predicted[1]]
    assert len(row["top_classes"]) == len(row["top_probabilities"]) == TOP
    assert PredictionsFile.read(tmp_path / "p.parquet").splits["test"].logits is None


def test_few_classes_and_many_need_little(tmp_path):
    two = Predictions.of(np.array([[0.0, 1.0]]), np.array([0]))
    PredictionsFile(("a", "b"), {"test": two}).write(tmp_path / "p.parquet")
    assert PredictionsFile.read(tmp_path / "p.parquet").splits["test"].top.tolist() == [[1, 0]]
    many = Predictions.of(np.random.default_rng(0).normal(size=(300, 3000)), np.zeros(300, int))
    held = sum(array.nbytes for array in vars(many).values() if isinstance(array, np.ndarray))
    assert held < 300 * 100


def changed(path, **columns):
    table = parquet.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    parquet.write_table(table, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "there is no file of predictions .*--predictions"),
        (lambda path: path.write_bytes(b"file,split"), "no parquet file, or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "no parquet file, or damaged"),
        (lambda path: parquet.write_table(pyarrow.table({"file": ["a"]}), path), "has no column 'split'"),
        (
            lambda path: parquet.write_table(parquet.read_table(path).replace_schema_metadata(), path),
            "its classes",
        ),
        (lambda path: changed(path, true=pyarrow.array(["Ente", "Uhu"])), "no class"),
        (lambda path: changed(path, loss=pyarrow.array([1.0, None])), "a value is missing"),
        (lambda path: changed(path, top_classes=pyarrow.array([["Ente"], ["Ente"]])), "top_classes are not 5 an image"),
        (lambda path: changed(path, predicted=pyarrow.array(["<b>", "<b>"])), "not the most probable"),
        (lambda path: changed(path, top_probabilities=pyarrow.array([["x"] * 5] * 2)), "is damaged"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, damage, words):
    path = tmp_path / "p.parquet"
    held = Predictions.of(np.arange(14).reshape(2, 7), np.array([0, 1]))
    PredictionsFile(NAMES, {"test": held}).write(path)
    assert json.loads(parquet.read_schema(path).metadata[predictions_file.CLASSES]) == list(NAMES)
    damage(path)
    with pytest.raises(InputError, match=words):
        PredictionsFile.read(path)


def test_findings_name_the_files_of_their_mistakes(logits):
    scoring = Scoring(7)
    scoring.update(logits, TARGETS)
    images = np.zeros((9, 2, 2, 3), np.uint8)
    found = scoring.findings(images, tuple(f"{number}.png" for number in range(9)))
    assert found.files == tuple(f"{number}.png" for number in found.examples["image"])
    assert len(found.files) > 3
    assert scoring.findings(images).files == ()
