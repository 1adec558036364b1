"""Two processes never write one run."""

import dataclasses
import subprocess
import sys

import pytest
from filelock import FileLock

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.run.lock import alone
from car_ext.studies.comparison import compare
from car_ext.training.train import train

HOLDS = """
import sys
from pathlib import Path
from car_ext.run.lock import alone
with alone(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""
QUICK = Config(epochs=1, batch_size=256)


@pytest.fixture
def held(tmp_path):
    """A folder that another process is at work in."""
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        yield folder
        other.stdin.close()


def test_a_second_process_gets_one_sentence(held):
    for resume in (False, True):
        with pytest.raises(InputError, match=r"another process is at work in .*run; wait until it ends"):
            train(dataclasses.replace(QUICK, out=str(held), resume=resume), progress=False)
    assert not list(held.iterdir())


def test_a_killed_process_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        other.kill()
    with alone(tmp_path / "run"), alone(tmp_path / "run"):  # and the holder may come again
        pass


def test_a_folder_in_one_that_may_not_be_written_holds_its_own_lock(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    folder = tmp_path / "run"
    folder.mkdir()
    train(dataclasses.replace(QUICK, out=str(folder)), progress=False)
    with FileLock(folder / ".lock"):
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (folder / "again").mkdir()
    (folder / "again" / ".lock").touch()  # of a process that was killed before it wrote anything
    train(dataclasses.replace(QUICK, out=str(folder / "again")), progress=False)


def test_a_run_that_came_in_between_is_met(tmp_path, monkeypatch):
    config = dataclasses.replace(QUICK, out=str(tmp_path / "run"))
    monkeypatch.setattr(
        "car_ext.training.train.Job", lambda config, *_: (config.run_dir / "theirs").mkdir(parents=True)
    )
    with pytest.raises(InputError, match="is not empty"):
        train(config, progress=False)


def test_one_of_many_processes_is_refused_by_what_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"WORLD_SIZE is 2, but a comparison is one process; .*without torchrun"):
        compare(QUICK, {"ce": {}}, [0], tmp_path / "run")
    with pytest.raises(InputError, match=r"WORLD_SIZE is 2, but nothing says where the other processes are"):
        train(dataclasses.replace(QUICK, out=str(tmp_path / "run")))
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "1")
    train(dataclasses.replace(QUICK, out=str(tmp_path / "run")), progress=False)
