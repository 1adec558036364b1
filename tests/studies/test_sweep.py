"""A sweep goes on after any interruption to the same table, and says what its scores are of."""

import dataclasses
import importlib.util
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from hears import Hears

from car_ext.config.config import CAROptions, Config
from car_ext.config.recipe import read_recipe
from car_ext.datasets import load
from car_ext.errors import InputError
from car_ext.metrics.summary import summarize
from car_ext.metrics.vocabulary import scores
from car_ext.metrics.worst_tenth import smoothed_worst_tenth
from car_ext.priors import spectral_weights
from car_ext.recipes import SWEEPS
from car_ext.run.lock import alone
from car_ext.studies.space import Range, Space

optuna = pytest.importorskip("optuna", reason="needs optuna (the extra sweep)")

import sqlalchemy  # noqa: E402

from car_ext.studies import storage  # noqa: E402
from car_ext.studies import sweep as module  # noqa: E402
from car_ext.studies.outcome import markdown  # noqa: E402
from car_ext.studies.sweep import sweep  # noqa: E402

TRAIN = Path(__file__).parents[2] / "train"
JOB = Config(epochs=2, batch_size=128)


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk():
    def hurry(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", hurry)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", hurry)


@pytest.fixture
def space(tmp_path):
    def space(text: str) -> Space:
        (tmp_path / "space.yaml").write_text(text)
        return Space.read("space", tmp_path)

    return space


TWO = "regularizer: [car]\ncar.absent: [decay, hold]\n"


def run(space: Space, out: Path, config: Config = JOB, **options) -> dict:
    return sweep(config, space, out, progress=False, **{"seeds": [0, 1], **options})


def fake(score, calls=None, split="test"):
    """Training in no time: ``score(config, epoch)`` is the worst class."""

    def train(config, *, progress, callbacks):
        if calls is not None:
            calls.append(config)
        for epoch in range(1, config.epochs + 1):
            row = {"epoch": epoch} | {f"{split}_{of.epoch}": score(config, epoch) for of in scores() if of.epoch}
            for callback in callbacks:
                callback.after_epoch(row)
        value = score(config, config.epochs)
        counts = {"test_counts": {"a": 100}, "per_class_accuracy": {"a": value}}
        return dict.fromkeys((of.key for of in scores()), value) | counts | {"data": "digits"}

    return train


def test_a_grid_is_the_mean_of_its_runs(space, tmp_path):
    table = run(space(TWO), tmp_path / "out", score="overall_accuracy")
    assert {row["method"] for row in table["trials"]} == {"car.absent=decay", "car.absent=hold"}
    for row in table["trials"]:
        runs = [tmp_path / "out" / f"{row['runs']}-seed{seed}" for seed in (0, 1)]
        scores = [json.loads((folder / "summary.json").read_text())["overall_accuracy"] for folder in runs]
        assert row["overall_accuracy"] == pytest.approx(statistics.mean(scores))
        assert row["overall_accuracy_std"] == pytest.approx(statistics.stdev(scores))
        assert read_recipe(runs[1] / "config.yaml").car.absent == row["parameters"]["car.absent"]
    means = [row["overall_accuracy"] for row in table["trials"]]
    assert means == sorted(means, reverse=True)
    assert json.loads((tmp_path / "out" / "sweep.json").read_text()) == table
    text = (tmp_path / "out" / "sweep.md").read_text()
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert text == markdown(table)
    assert "Scored on the test set" in text
    assert text.count("| car.absent=") == 2


def test_an_interrupted_sweep_ends_in_the_same_table(space, tmp_path, monkeypatch):
    whole = run(space(TWO), tmp_path / "whole" / "out")
    train, epochs = module.train, []

    def dies(config, *, progress, callbacks):
        def after(row):
            epochs.append((config.car.absent, config.seed, row["epoch"]))
            if len(epochs) == 3:
                raise SystemExit

        return train(config, progress=progress, callbacks=[Hears(after)])

    monkeypatch.setattr(module, "train", dies)
    with pytest.raises(SystemExit):
        run(space(TWO), tmp_path / "broken" / "out")
    again = run(space(TWO), tmp_path / "broken" / "out")
    # No epoch was trained twice: a finished run was read, and an interrupted one went on from its checkpoint.
    assert sorted(epochs) == [
        (absent, seed, epoch) for absent in ("decay", "hold") for seed in (0, 1) for epoch in (1, 2)
    ]
    assert again == whole
    assert again["unfinished"] == 0


@pytest.mark.parametrize("death", [KeyboardInterrupt, SystemExit])  # Optuna notes the first, and nothing of the second
def test_a_search_goes_on_and_proposes_what_one_without_a_break_does(space, tmp_path, monkeypatch, death):
    text, calls = "lr: [1e-4, 1.0, log]\ncar.absent: [decay, hold]\nepochs: [2, 5, linear]\n", []

    def score(config, epoch):
        return 1 / (1 + abs(np.log10(config.lr) + 2))

    monkeypatch.setattr(module, "train", fake(score, calls))
    whole = run(space(text), tmp_path / "whole", trials=12, prune=False)
    assert len(calls) == 24
    assert all(1e-4 <= config.lr <= 1 and config.epochs in (2, 3, 4, 5) for config in calls)
    assert len(run(space(text), tmp_path / "parts", trials=4, prune=False)["trials"]) == 4
    died = []

    def dies(config, epoch):
        if len(calls) == 24 + 8 + 5 and not died:
            died.append(config)
            raise death
        return score(config, epoch)

    monkeypatch.setattr(module, "train", fake(dies, calls))
    with pytest.raises(death):
        run(space(text), tmp_path / "parts", trials=12, prune=False)
    assert died
    assert run(space(text), tmp_path / "parts", trials=12, prune=False) == whole


def test_by_default_the_images_of_all_seeds_are_counted_together(space, tmp_path, monkeypatch):
    right = {0.1: {0: [0, 9, 20], 1: [0, 11, 20]}, 0.2: {0: [0, 19, 20], 1: [0, 19, 20]}}  # the worst class is 0 in all

    def train(config, *, progress, callbacks):
        summaries = []
        for images in ([5, 20, 20], [30, 30, 30]):  # validation and test
            confusion = np.diag(np.minimum(right[config.lr][config.seed], images))
            confusion[2] += images - np.diag(confusion)
            summaries.append(summarize(confusion, [9, 9, 9], list("abc")) | {"data": "digits"})
        return summaries[1] | {"validation": summaries[0]}

    monkeypatch.setattr(module, "train", train)
    table = run(space("lr: [0.1, 0.2]\n"), tmp_path / "out")
    assert table["score"] == "smoothed_worst_10pct"
    for row, (lr, counts) in zip(table["trials"], [(0.2, [0, 38, 40]), (0.1, [0, 20, 40])], strict=True):
        assert row["parameters"] == {"lr": lr}
        assert row["smoothed_worst_10pct"] == smoothed_worst_tenth(np.array(counts), np.array([10, 40, 40])) > 0
        assert row["worst_class_accuracy"] == 0
        assert row["overall_accuracy"] == pytest.approx(sum(counts) / 90), "of the validation images"
    text = (tmp_path / "out" / "sweep.md").read_text()
    assert "images counted together over seeds 0, 1" in text
    assert "| method | n | smoothed_worst_10pct | classes at 0 % |" in text


def test_validation_images_are_said_to_be_scored():
    data = load("digits")
    text = module._scored_on(Config(), dataclasses.replace(data, val=data.test))
    assert text.startswith("the 700 validation images, on which no run trained")


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_is_below_the_median_is_pruned(space, tmp_path, monkeypatch, split):
    calls = []
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: config.lr * epoch / 8, calls, split))
    lines = "lr: [0.5, 0.4, 0.6, 0.3, 0.7, 0.1, 0.9]\n"
    table = run(space(lines), tmp_path / "out", Config(epochs=8), prune=True)
    assert [row["method"] for row in table["trials"]] == [f"lr={lr}" for lr in (0.9, 0.7, 0.6, 0.5, 0.4, 0.3)]
    (pruned,) = table["pruned"]
    assert (pruned["method"], pruned["epoch"], pruned["seed"]) == ("lr=0.1", 2, 0)
    assert "pruned at epoch 2 of seed 0: lr=0.1" in markdown(table)
    assert len(calls) == 13  # two seeds each, but for the pruned one
    assert len(run(space(lines), tmp_path / "all", Config(epochs=8))["trials"]) == 7  # a grid is not pruned unasked


def test_failed_trials_are_told_with_their_reason(space, tmp_path, monkeypatch):
    def score(config, epoch):
        if config.lr > 0.5:
            raise InputError("the loss is not finite")
        return 0.5

    monkeypatch.setattr(module, "train", fake(score))
    table = run(space("lr: [0.1, 0.9]\n"), tmp_path / "out")
    assert [row["method"] for row in table["trials"]] == ["lr=0.1"]
    assert [(row["method"], row["reason"]) for row in table["failed"]] == [("lr=0.9", "the loss is not finite")]
    with pytest.raises(InputError, match="every trial failed, the first with: the loss is not finite"):
        run(space("lr: [0.8, 0.9]\n"), tmp_path / "none")
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: None))
    with pytest.raises(InputError, match="few is not defined on digits; choose another --score"):
        run(space("lr: [0.1, 0.9]\n"), tmp_path / "undefined", score="few")


def test_the_ablation_keeps_the_strength(tmp_path, monkeypatch):
    ablation, jobs = Space.read("car_ablation", SWEEPS), []
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: 0.5, jobs))
    table = run(ablation, tmp_path / "out", Config(car=CAROptions(alpha=2.0)), seeds=[0])
    assert len(table["trials"]) == len(ablation.cases) == len(jobs)
    by_case = dict(zip(ablation.cases, jobs, strict=True))
    counts = load("digits").class_counts
    strength = 2.0 * spectral_weights(counts, 0.2).mean()
    for name, job in by_case.items():
        reference = job.car.variant == "reference-code"
        mean = 1.0 if reference else spectral_weights(counts, job.car.r0).mean()
        factor = 0.125 if "half" in name else 1.0
        assert job.car.alpha * mean == pytest.approx(factor * strength, rel=1e-5), name
    assert by_case["cross-entropy"].regularizer == "none"
    assert by_case["no-ema"].car.beta == 0
    flat = spectral_weights(counts, by_case["no-lambda"].car.r0)
    assert flat.max() / flat.min() < 1 + 1e-6


def test_the_strength_is_kept_where_the_word_says_it(tmp_path, monkeypatch):
    space, jobs = Space({"car.r0": [0.2, 0.8]}, {}, matched_strength=True), []
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: 0.5, jobs))
    run(space, tmp_path / "out", Config(regularizer="car:alpha=2"), seeds=[0])
    counts = load("digits").class_counts
    strengths = [job.car.alpha * spectral_weights(counts, job.car.r0).mean() for job in jobs]
    assert strengths == pytest.approx([2.0 * spectral_weights(counts, 0.2).mean()] * 2, rel=1e-5)
    assert [job.regularizer for job in jobs] == ["car", "car"]


def test_two_processes_never_train_the_same_run_at_once(tmp_path):
    other = FileLock(tmp_path / ".run.lock", timeout=0)
    with alone(tmp_path / "run"), pytest.raises(Timeout):
        other.acquire()
    other.acquire()
    other.release()


def test_held_out_images_are_said_to_be_scored(space, tmp_path):
    table = run(space(TWO), tmp_path / "out", Config(epochs=1, holdout=0.2), seeds=[0], score="balanced_accuracy")
    assert "0.2 of each class's training images" in markdown(table)
    summary = json.loads((tmp_path / "out" / f"{table['trials'][0]['runs']}-seed0" / "summary.json").read_text())
    assert "scored on 0.2" in summary["data"]


def test_another_sweep_in_the_folder_is_refused(space, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: 0.5))
    run(space(TWO), tmp_path / "out")
    with pytest.raises(InputError, match="began with other epochs, lr, seeds; give those"):
        run(space(TWO), tmp_path / "out", Config(epochs=3, batch_size=128, lr=0.1), seeds=[0])
    with pytest.raises(InputError, match="began with other space;"):
        run(space("car.beta: [0, 0.5]\n"), tmp_path / "out")


def test_bad_input_leaves_no_folder(space, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--seeds 1 1"):
        run(space(TWO), tmp_path / "out", seeds=[1, 1])
    with pytest.raises(InputError, match="photos"):
        run(space(TWO), tmp_path / "out", Config(data="photos"))
    with pytest.raises(InputError, match=r"lr is a range, .*\[0.1, 1, log, 5\]; or search with tpe"):
        run(space("lr: [0.1, 1.0, log]\n"), tmp_path / "out", search="grid")
    monkeypatch.setattr(storage, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'car-ext\[sweep\]'"):
        run(space(TWO), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_space_by_hand(space):
    read = space(
        "lr: [1e-4, 1e-2, log, 3]\nepochs: [10, 40, linear, 4]\ncar.debias: [true, false]\nbatch_size: [32]\n"
        "a: {car: {beta: 0}}\nb: {loss: focal}\n"
    )
    assert read.options == {
        "lr": Range(1e-4, 1e-2, True, 3),
        "epochs": Range(10, 40, False, 4),
        "car.debias": [True, False],
        "batch_size": [32],
    }
    assert not read.finite
    points = list(read.grid())
    assert len(points) == 2 * 3 * 4 * 2
    assert {point["lr"] for point in points} == {1e-4, 1e-3, 1e-2}
    assert {point["epochs"] for point in points} == {10, 20, 30, 40}
    point = {"case": "b", "lr": 0.001, "epochs": 20, "car.debias": True, "batch_size": 32}
    assert point in points
    job = read.job(Config(seed=7), point)
    assert job == Config(seed=7, lr=0.001, epochs=20, car=CAROptions(debias=True), batch_size=32, loss="focal")
    assert read.label(point) == "b lr=0.001 epochs=20 car.debias=True"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("car.alhpa: [1]\n", ["car.alhpa in", "did you mean car.alpha?"]),
        ("car.alpha: 1\n", ["car.alpha in", "must be a list of values"]),
        ("car.alpha: []\n", ["must be a list of values"]),
        ("car.alpha: [1, 0.1, log]\n", ["two rising numbers"]),
        ("car.alpha: [0, 1, log]\n", ["above 0 for log"]),
        ("car.absent: [decay, hold, log]\n", ["two rising numbers"]),
        ("car.debias: [false, true, linear]\n", ["two rising numbers"]),
        ("car.alpha: [0.1, 1, log, 1]\n", ["ends in 1", "from 2 on"]),
        ("car.beta: [0, 2]\n", ["car.beta in", "2", "< 1"]),
        ("seed: [0, 1]\n", ["seed in", "nothing a sweep can vary"]),
        ("x: {retrain: crt}\n", ["retrain in", "nothing a sweep can vary"]),
        ("matched_strength: 3\nlr: [1]\n", ["matched_strength in", "true or false"]),
        ("matched_strength: true\n", ["varies nothing"]),
    ],
)
def test_bad_spaces_are_named_with_the_fix(space, text, words):
    with pytest.raises(InputError) as error:
        space(text)
    assert all(word in str(error.value) for word in words), error.value


def test_bad_cases_are_named(space, tmp_path):
    with pytest.raises(InputError, match="lose in case 'x' is not an option; did you mean loss"):
        run(space("x: {lose: focal}\n"), tmp_path / "out")


def test_the_script(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("sweep_script", TRAIN / "sweep.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(module, "train", fake(lambda config, epoch: config.car.alpha / 10))
    flags = f"--space car_alpha --search grid --seeds 0 --epochs 3 --sweep-out {tmp_path / 'out'}"
    monkeypatch.setattr(sys, "argv", ["sweep.py", *flags.split()])
    script.main()
    text = capsys.readouterr().out
    assert text.count("| car.alpha=") == 12
    assert text.index("car.alpha=5 ") < text.index("car.alpha=0.1 ")
    assert (tmp_path / "out" / "sweep.db").exists()
