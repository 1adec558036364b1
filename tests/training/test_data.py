"""What a run makes of data that are moved, lack test images or have names in another spelling."""

import dataclasses
import json
import shutil
import unicodedata

import pytest
from pictures import pets, save

from car_ext import InputError, report
from car_ext.config.config import Config
from car_ext.evaluation.evaluate import evaluate
from car_ext.export.own_data import own_data
from car_ext.run.folder import RunFolder
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.training.data import load_data
from car_ext.training.plan import plan
from car_ext.training.train import train

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def config(root, out, **options):
    return Config(data=str(root), out=str(out), **{"epochs": 1, "device": "cpu", **options})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A finished run and its data."""
    folder = tmp_path_factory.mktemp("begun")
    root = pets(folder / "pets", classes=(NFC, "bee"))
    job = config(root, folder / "run")
    return job, train(job, progress=False)


@pytest.fixture
def moved(begun, tmp_path):
    """The job with its data and its run elsewhere."""
    job, _ = begun
    shutil.copytree(job.run_dir, tmp_path / "run")
    shutil.copytree(job.data, tmp_path / "moved")
    return config(tmp_path / "moved", tmp_path / "run", resume=True)


def test_a_run_goes_on_with_its_data_elsewhere(begun, moved):
    assert train(moved, progress=False) == begun[1]
    (moved.run_dir / "summary.json").unlink()
    again = train(moved, progress=False)
    assert again["overall_accuracy"] == begun[1]["overall_accuracy"]
    assert RunFolder(moved.run_dir).read_config()["data"] == moved.data
    with pytest.raises(InputError, match=r"differ in data, seed;"):
        train(dataclasses.replace(moved, data=begun[0].data, seed=3), progress=False)


@pytest.mark.parametrize("place", ["moved", "same"])
def test_a_run_does_not_go_on_with_other_images(moved, place, tmp_path):
    if place == "same":
        (moved.run_dir / "summary.json").unlink()
        train(moved, progress=False)  # which notes the new place
        (moved.run_dir / "summary.json").unlink()
    save(tmp_path / "moved" / "test" / "bee" / "0.png", 50, 60, 70)
    with pytest.raises(InputError, match=r"images of .*moved are not those that this --out began with"):
        train(moved, progress=False)


def test_an_older_checkpoint_cannot_tell_moved_data(moved):
    (state,) = moved.run_dir.glob("checkpoint-*/state.json")
    content = json.loads(state.read_text())
    del content["data_fingerprint"]
    state.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"differ in data;"):
        train(moved, progress=False)


@pytest.mark.parametrize(("own", "other"), [(NFC, NFD), (NFD, NFC)])
def test_a_model_knows_its_classes_in_either_spelling(begun, moved, tmp_path, own, other):
    (state,) = moved.run_dir.glob("checkpoint-*/state.json")
    content = json.loads(state.read_text())
    content["class_names"] = ["bee", own]
    state.write_text(json.dumps(content))
    data = pets(tmp_path / "other", train=None, classes=(other, "bee"))
    summary, *_ = evaluate(moved.run_dir, str(data), progress=False)
    assert set(summary["per_class_accuracy"]) == {NFC, "bee"}
    (moved.run_dir / "summary.json").unlink()
    assert train(moved, progress=False)["overall_accuracy"] == begun[1]["overall_accuracy"]


def test_a_class_without_test_images_is_not_measured(tmp_path):
    root = pets(tmp_path / "pets")
    save(root / "train" / "cow" / "0.png", 9, 9, 9)
    summary = train(config(root, tmp_path / "run"), progress=False)
    assert summary["per_class_accuracy"]["cow"] is None
    assert summary["worst_class"] in ("ant", "bee")
    measured = [summary["per_class_accuracy"][name] for name in ("ant", "bee")]
    assert summary["balanced_accuracy"] == pytest.approx(sum(measured) / 2)
    assert summary["rarest_three_accuracy"] == pytest.approx(sum(measured) / 2)
    (note,) = summary["data_notes"]
    assert note == "1 of 3 classes has no test image in pets, so no score measures it: 'cow'"
    report.write([tmp_path / "run"], tmp_path / "report.html")
    assert "cow" in (tmp_path / "report.html").read_text()
    scores, *_ = evaluate(tmp_path / "run", str(root), progress=False)
    assert scores["per_class_accuracy"]["cow"] is None
    assert scores["data_notes"] == [note]


def test_training_images_alone_with_a_part_held_out(tmp_path):
    root = pets(tmp_path / "pets", test=None)
    summary = train(config(root, tmp_path / "run", test_share=0.0, holdout=0.3), progress=False)
    assert summary["class_counts"] == {"ant": 2, "bee": 2}
    assert len(own_data(FinishedRun(tmp_path / "run", "cpu"), None, None).train) == 4


def test_held_out_images_are_none_of_the_test_images(tmp_path):
    """A sweep chooses by the ones what the others judge."""
    root = pets(tmp_path / "pets", test=None, each=5)
    judged = set(load_data(config(root, tmp_path))[0].test.files)
    chosen_by = load_data(config(root, tmp_path, holdout=0.3))[0]
    assert judged.isdisjoint(chosen_by.train.files + chosen_by.test.files)
    assert len(judged) == 2


def test_a_plain_folder_is_the_same_run_again(tmp_path):
    """Its split is written down, and resuming and training on that list find the same images."""
    root = pets(tmp_path / "pets", train=None, test=".", each=10)
    job = config(root, tmp_path / "run", val_share=0.2)
    first = train(job, progress=False)
    assert first["class_counts"] == {"ant": 6, "bee": 6}
    (tmp_path / "run" / "summary.json").unlink()
    again = train(dataclasses.replace(job, resume=True), progress=False)
    assert again["per_class_accuracy"] == first["per_class_accuracy"]
    listed = train(config(tmp_path / "run" / "split.csv", tmp_path / "list", data_root=str(root)), progress=False)
    assert listed["class_counts"] == first["class_counts"]
    written = [(tmp_path / name / "split.csv").read_text() for name in ("run", "list")]
    assert written[0] == written[1]
    assert [line.rsplit(",", 1)[1] for line in written[0].splitlines()] == (
        ["split", *["train"] * 12, *["val"] * 4, *["test"] * 4]
    )


def test_options_of_a_draw_that_is_not_made_are_refused(tmp_path):
    root = pets(tmp_path / "pets")
    for options in ({"split_seed": 1}, {"groups": "[0-9]"}):
        with pytest.raises(InputError, match="have splits of their own"):
            load_data(config(root, tmp_path / "run", **options))
    assert load_data(config(root, tmp_path / "run", split_seed=1, val_share=0.3))[0].val is not None


def test_a_plan_without_the_files_counts_what_is_set_aside():
    assert plan(Config(data="cifar10", img_size=32, val_share=0.2)).counts.largest == 4000
    assert plan(Config(data="cifar10", img_size=32, val_share=0.2, holdout=0.5)).counts.largest == 2000
    with pytest.raises(InputError, match="what --val-share leaves of imagenet_lt only its files can tell"):
        plan(Config(data="imagenet_lt", val_share=0.2))
