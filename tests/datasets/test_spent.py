"""A finished model is never scored on an image that it was trained on."""

import base64
import json
import shutil

import numpy as np
import pytest
from pictures import pets, save

from car_ext import InputError
from car_ext.config.config import Config
from car_ext.datasets import DataOptions, LazyImages, load
from car_ext.datasets.spent import described, identities, without
from car_ext.datasets.tree import FolderTree, ZipTree
from car_ext.evaluation.evaluate import evaluate, evaluate_all
from car_ext.export import export_run
from car_ext.export.own_data import own_data
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.training.train import train


def plain(root):
    for label, name in enumerate(("ant", "bee")):
        for number in range(15):
            save(root / name / f"{number}.png", 100 * label, number)
    return root


def config(root, out, **options):
    return Config(data=str(root), out=str(out), epochs=1, device="cpu", **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run on a folder of classes alone, its summary, and an exported file."""
    folder = tmp_path_factory.mktemp("begun")
    root = plain(folder / "pets")
    summary = train(config(root, folder / "run", val_share=0.2), progress=False)
    return folder, summary, export_run(folder / "run", ["fp32", "torchscript"])


def test_what_was_held_out_is_scored_alone(begun, capsys):
    folder, training, files = begun
    for model in (folder / "run", *files.values()):
        summary, *_ = evaluate(model, str(folder / "pets"), progress=False)
        assert summary["images"] == 6
        assert summary["per_class_accuracy"] == training["per_class_accuracy"]
        assert any(
            "24 of 30 images of pets belong to what the model was trained on" in s for s in summary["data_notes"]
        )
    assert "the other 6 are" in capsys.readouterr().err


def test_images_are_known_elsewhere_by_other_names(begun, tmp_path):
    folder, _, files = begun
    shutil.copytree(folder / "pets", tmp_path / "pets")
    for path in sorted((tmp_path / "pets" / "ant").iterdir()):
        path.rename(path.with_name(f"new-{path.name}"))
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets")
    for data in (tmp_path / "pets", archive):
        assert evaluate(files["fp32"], str(data), progress=False)[0]["images"] == 6


def test_a_folder_that_has_changed_is_told(begun, tmp_path):
    folder, _, files = begun
    shutil.copytree(folder / "pets", tmp_path / "pets")
    save(tmp_path / "pets" / "ant" / "new.png", 7, 7, 7)
    summary, *_ = evaluate(files["fp32"], str(tmp_path / "pets"), progress=False)
    assert summary["images"] == 7
    assert any("it had 6 images besides" in note and "has 7 now" in note for note in summary["data_notes"])


def test_several_models_are_scored_on_the_same_images(begun, tmp_path):
    folder, _, files = begun
    train(config(folder / "pets", tmp_path / "other", split_seed=1), progress=False)
    found = evaluate_all([files["fp32"], tmp_path / "other"], str(folder / "pets"), progress=False)
    (images,) = {summary["images"] for summary, *_ in found}
    assert images < 6


def test_training_images_alone_measure_nothing(tmp_path):
    root = pets(tmp_path / "pets")
    train(config(root, tmp_path / "run"), progress=False)
    with pytest.raises(InputError, match="all 6 images of data 'train' belong to what the model was trained on"):
        evaluate(tmp_path / "run", str(root / "train"), progress=False)
    summary, *_ = evaluate(tmp_path / "run", str(root / "test"), progress=False)
    assert (summary["images"], summary["data_notes"]) == (6, [])


def test_an_older_model_says_nothing_of_it(begun, tmp_path):
    folder, *_ = begun
    shutil.copytree(folder / "run", tmp_path / "run")
    for state in (tmp_path / "run").glob("*/state.json"):  # of the last epoch and of the kept one
        content = json.loads(state.read_text())
        del content["spent"]
        state.write_text(json.dumps(content))
    summary, *_ = evaluate(tmp_path / "run", str(folder / "pets"), progress=False)
    assert summary["images"] == 30
    assert any("cannot say which images they were trained on" in note for note in summary["data_notes"])


def test_calibration_sees_no_held_out_image(begun):
    folder, *_ = begun
    images = own_data(FinishedRun(folder / "run", "cpu"), None, None).train
    assert len(images) == 30 - 6 - 4
    test = load(folder / "pets").test.files
    assert {*test}.isdisjoint(images.files)


def test_an_identity_is_of_the_content(tmp_path):
    contents = {"a": b"x" * 9000, "b": b"x" * 9000, "c": b"x" * 9001, "d": b"y" + b"x" * 8998 + b"y", "e": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    numbers = identities(LazyImages(FolderTree(tmp_path), [*contents], 8)).tolist()
    assert numbers[0] == numbers[1]
    assert len({*numbers}) == 4
    archive = shutil.make_archive(str(tmp_path.parent / "zipped"), "zip", tmp_path)
    zipped = ZipTree(tmp_path.parent / "zipped.zip")
    assert identities(LazyImages(zipped, [*contents], 8)).tolist() == numbers
    assert archive.endswith("zipped.zip")


def test_the_notes_are_small_and_only_of_what_is_known(tmp_path):
    data = load(plain(tmp_path / "pets"), options=DataOptions(val_share=0.1))
    note = json.loads(json.dumps(described(data.spent)))
    assert len(base64.b64decode(note["images"])) == 6 * 24
    assert note["others"] == 6
    assert described(load("digits").spent) == {"images": "", "others": None, "groups": None}
    whole = load(tmp_path / "pets", splits=("test",), cache_bytes=0)
    left = without(whole, [note])
    assert {*left.test.files} == {*data.test.files}
    assert np.array_equal(left.test.targets, data.test.targets)


@pytest.mark.parametrize("of", ["path", "column"])
def test_new_images_of_a_group_that_was_seen_are_left_out(tmp_path, of):
    root, rows = tmp_path / "pets", ["path,label,patient"]

    def add(name, patient, number):
        save(root / name / f"p{patient}-{number}.png", 100 * (name == "ant"), number)
        rows.append(f"{name}/p{patient}-{number}.png,{name},{patient}")
        (tmp_path / "list.csv").write_text("\n".join(rows))

    for number in range(12):
        add("ant", number // 2, number)
        add("bee", number // 2, number)
    data, groups, place = (root, "/(p[0-9]+)-", None) if of == "path" else (tmp_path / "list.csv", "patient", root)
    trained = load(data, options=DataOptions(place, groups=groups))
    for patient in range(6):
        add("ant", patient, 100 + patient)
    models = [described(trained.spent)]
    scored = load(data, splits=("test",), options=DataOptions(place), trained=models).test.files
    patients = [{file[4:6] for file in files} for files in (trained.train.files, trained.test.files, scored)]
    assert patients[2] == patients[1]
    assert patients[2].isdisjoint(patients[0])
    assert len(scored) == len(trained.test) + len(patients[1])
