"""One training on many processes: it ends where one process does, and one of them speaks."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from torch.nn import BatchNorm2d, SyncBatchNorm

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.machine.processes import Processes
from car_ext.models.classifier import build_model
from car_ext.run import checkpoint
from car_ext.training.forward import synced
from car_ext.training.train import train

ROOT = Path(__file__).parents[2]
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def launch(processes: int, *command: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    options = [str(processes), "--max-restarts", str(restarts)]
    return subprocess.run(
        [*LAUNCHER, *options, *map(str, command)], capture_output=True, text=True, check=False, timeout=300
    )


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error:")]


@pytest.mark.parametrize("processes", [2, 4])
def test_they_end_where_one_process_does(processes):
    done = launch(processes, ROOT / "tests/helpers/together.py", *(["car"] if processes == 2 else []))
    assert done.returncode == 0, done.stderr[-2000:]
    every = json.loads(done.stdout.splitlines()[-1])
    assert len(every) == processes
    for found in every:
        in_float32 = {"the head alone": 1e-6}
        assert {name: far for name, (far, _) in found.items() if not far < in_float32.get(name, 1e-12)} == {}
        assert len({total for _, total in found.values()}) == len(found)  # each case does something of its own


def test_a_run_is_whole_and_one_process_speaks(tmp_path):
    out = tmp_path / "run"
    command = ["-m", "car_ext", "train", "--epochs", 2, "--val-share", 0.2, "--sampler", "class_balanced", "--out", out]
    done = launch(2, *command)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("written to") == done.stderr.count("training images a class") == 1
    assert "Warning" not in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["hardware"]["processes"] == 2
    train(Config(epochs=1, val_share=0.2, out=str(tmp_path / "alone")), progress=False)
    ours, theirs = (parquet.read_table(path / "predictions.parquet") for path in (out, tmp_path / "alone"))
    assert ours.num_rows == theirs.num_rows > 700
    for column in ("split", "true"):  # every image once, in order
        assert ours[column].to_pylist() == theirs[column].to_pylist()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    epoch, tensors, _ = checkpoint.load_latest(out)
    assert epoch == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    # Another number of processes goes on with it, here one with a run that is done.
    again = train(Config(epochs=2, val_share=0.2, sampler="class_balanced", out=str(out), resume=True), progress=False)
    assert again == summary


def test_a_killed_process_ends_all_with_one_sentence_and_a_restart_goes_on(tmp_path):
    done = launch(2, ROOT / "tests/helpers/fails.py", "killed", tmp_path / "run", restarts=1)
    assert done.returncode == 0, done.stderr[-2000:]
    (sentence,) = told(done)
    assert sentence.startswith("error: one of the 2 processes of this job has died")
    assert "Traceback" not in done.stderr
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert checkpoint.load_latest(tmp_path / "run")[0] == 2


def test_what_one_process_refuses_ends_all_and_is_said_once(tmp_path):
    done = launch(2, ROOT / "tests/helpers/fails.py", "refused", tmp_path / "run")
    assert done.returncode != 0
    assert told(done) == ["error: a file that only this process reads is broken; bring it back."]
    assert checkpoint.load_latest(tmp_path / "run")[0] == 1


def test_what_all_refuse_is_said_once(tmp_path):
    done = launch(2, "-m", "car_ext", "train", "--batch-size", 1, "--out", tmp_path / "run")
    assert told(done) == ["error: --batch-size is 1 for 2 processes; raise it, or start fewer."]
    assert not list(tmp_path.glob("run/*"))


def test_batch_normalisation_over_processes_is_for_gpus(monkeypatch):
    model = build_model("convnet", [5, 3], 8, 1, [0.5], [0.5])
    names = [*model.state_dict()]
    machine = Machine("cpu", "none", Processes(0, 2))
    with pytest.raises(InputError, match="--sync-bn is for GPUs"):
        synced(model, machine)
    monkeypatch.setattr(Machine, "on_cuda", True)
    synced(model, machine)
    kinds = [type(module) for module in model.modules()]
    assert SyncBatchNorm in kinds
    assert BatchNorm2d not in kinds
    assert [*model.state_dict()] == names
