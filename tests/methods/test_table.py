"""Every name on the command line: it trains, it is documented, and a second stage leaves the network alone."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from car_ext import InputError
from car_ext.cli.flags import parse
from car_ext.config.config import Config
from car_ext.datasets import load
from car_ext.export import to_onnx
from car_ext.methods import registry, table
from car_ext.methods.heads.nearest_mean import NearestClassMean
from car_ext.run.classifier import load_run
from car_ext.training.train import train

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"
SECOND_STAGE_HEADS = {"ncm", "finished", "lws", "disalign", "tau_norm", "logit_adjusted"}


def names(kind: str) -> list[str]:
    return list(registry.methods(kind))


ONE_STAGE = [
    *({"loss": name, "head": "cosine" if name == "ldam" else "linear"} for name in names("loss")),
    {"loss": "ldam+drw", "head": "cosine", "drw_epoch": 2},
    *({"regularizer": f"car+{name}"} for name in names("regularizer") if name != "car"),
    *({"head": name} for name in names("head") if name not in SECOND_STAGE_HEADS),
    *({"sampler": name} for name in names("sampler")),
    *({"mix": name, "regularizer": "car"} for name in names("mix")),
    *({"contrast": name} | ({"mix": name} if name == "concutmix" else {}) for name in names("contrast")),
]


@pytest.mark.parametrize("options", ONE_STAGE, ids=lambda options: "+".join(map(str, options.values())))
def test_every_method_trains_and_resumes_to_the_same_bits(tmp_path, options):
    config = Config(epochs=2, batch_size=70, imbalance_ratio=20, out=str(tmp_path / "run"), **options)
    train(config, progress=False)
    assert all(tensor.isfinite().all() for tensor in load_run(config.run_dir)[0].state_dict().values())
    rows = [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows[1]["loss"] != rows[0]["loss"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    config = Config(epochs=6, out=str(tmp_path_factory.mktemp("stage") / "first"), regularizer="car")
    return config, train(config, progress=False)


@pytest.mark.parametrize("name", names("stage2"))
def test_every_second_stage_trains_the_head_alone(first, name):
    config, _ = first
    job = parse(["--stage2", config.out, "--retrain", name])
    assert (job.data, job.model, job.seed) == (config.data, config.model, config.seed)
    assert job.run_dir.name == f"first-{name}"
    summary = train(job, progress=False)
    before, after = load_run(config.run_dir)[0], load_run(job.run_dir)[0]
    for key, tensor in before.backbone.state_dict().items():
        assert torch.equal(tensor, after.backbone.state_dict()[key])
    assert summary["method"] == name
    # What it scored on cached features is what the whole network scores.
    data = load("digits")
    predicted = after(torch.from_numpy(data.test.images)).argmax(1).numpy()
    assert summary["overall_accuracy"] == pytest.approx((predicted == data.test.targets).mean(), abs=1e-3)


def test_a_second_stage_exports_repeats_and_can_be_built_upon(first, tmp_path):
    config, _ = first
    job = parse(["--stage2", config.out, "--retrain", "crt", "--epochs", "4", "--out", str(tmp_path / "crt")])
    summary = train(job, progress=False)
    whole = load_run(job.run_dir)[0].state_dict()
    assert to_onnx(job.run_dir).exists()

    again = dataclasses.replace(job, out=str(tmp_path / "again"))
    assert train(again, progress=False)["per_class_accuracy"] == summary["per_class_accuracy"]
    same = load_run(again.run_dir)[0].state_dict()
    assert all(torch.equal(whole[key], same[key]) for key in whole)

    third = parse(["--stage2", str(job.run_dir), "--retrain", "tau_norm", "--out", str(tmp_path / "tau")])
    train(third, progress=False)
    assert load_run(third.run_dir)[1]["heads"] == ["linear", "linear", "tau_norm"]


def test_batch_normalisation_may_go_on_learning_its_averages(first, tmp_path):
    config, _ = first
    job = parse(
        ["--stage2", config.out, "--retrain", "los", "--bn", "train", "--epochs", "2", "--out", str(tmp_path / "a")]
    )
    train(job, progress=False)
    before, after = (load_run(run)[0].backbone for run in (config.run_dir, job.run_dir))
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before.buffers(), after.buffers(), strict=True))


def test_the_nearest_class_mean_is_the_mean_of_the_training_features(first, tmp_path):
    config, _ = first
    job = parse(["--stage2", config.out, "--retrain", "ncm", "--out", str(tmp_path / "ncm")])
    train(job, progress=False)
    head = load_run(job.run_dir)[0].head
    assert isinstance(head, NearestClassMean)
    assert head.weight.isfinite().all()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--retrain", "crt"], "no --stage2 RUN"),
        (["--stage2", "{first}", "--retrain", "ctr"], "did you mean crt"),
        (["--stage2", "/nowhere", "--retrain", "crt"], "/nowhere/config.yaml cannot be read"),
        (["--stage2", "{first}", "--retrain", "crt", "--mix", "mixup"], "add --bn train"),
        (["--stage2", "{first}", "--head", "linear", "--imbalance-ratio", "3"], "not those that the run"),
        (["--head", "lws"], "starts from a finished head"),
    ],
)
def test_what_cannot_be_is_said(first, tmp_path, flags, words):
    flags = [flag.replace("{first}", first[0].out) for flag in flags]
    with pytest.raises(InputError, match=words):
        train(parse([*flags, "--out", str(tmp_path / "run")]), progress=False)
    assert not (tmp_path / "run").exists()


def test_the_document_lists_what_there_is():
    assert DOCUMENT.read_text(encoding="utf-8").endswith(table.markdown()), (
        "docs/methods.md is behind the code; python -m car_ext methods --write docs/methods.md brings it up to date"
    )


def test_the_tests_that_the_document_names_exist():
    named = {*table.TESTS.values(), *table.CAR_TESTS.split(", ")}
    assert all((DOCUMENT.parents[1] / name).is_file() for name in named)
    assert set(table.TESTS) == set(table.FLAGS)


def test_the_list_is_printed():
    done = subprocess.run([sys.executable, "-m", "car_ext", "methods"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for kind in table.FLAGS for name in names(kind))
