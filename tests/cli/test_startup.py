"""What a command imports before it has work to do. Modules are held, not seconds: those depend on the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "pandas",
    "scipy",
    "sklearn",
    "tensorboard",
    "timm",
    "torchvision",
}
LOADED = """
import json, runpy, sys
sys.argv = sys.argv[1:]
try:
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif sys.argv[0] == "-c":
        exec(sys.argv[1])
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
else:
    code = None
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
LINE = {
    "time": "2026-01-01T00:00:00",
    "model": "m.onnx",
    "predicted": {"cat": 3, "dog": 1},
    "mean_confidence": 0.9,
    "class_counts": {"cat": 9, "dog": 2},
}


def loaded(*command: object, cwd: Path, code: int | None) -> set[str]:
    """Top-level modules that a command has imported when it ends with this code."""
    arguments = [sys.executable, "-c", LOADED, *map(str, command)]
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=True)
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == code, done.stdout + done.stderr
    return set(modules)


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps(LINE) + "\n")
    return tmp_path / "log.jsonl"


def test_the_package_itself_needs_no_torch(tmp_path):
    modules = loaded("-c", "import car_ext", cwd=tmp_path, code=None)
    assert not modules & {*HEAVY, "torch", "numpy", "yaml"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["monitor", "--help"], ["trian"]])
def test_help_of_the_program_needs_no_torch(arguments, tmp_path):
    modules = loaded("-m", "car_ext", *arguments, cwd=tmp_path, code=2 if arguments == ["trian"] else 0)
    assert not modules & {*HEAVY, "torch", "numpy", "yaml"}


def test_monitoring_needs_no_torch(tmp_path, log):
    modules = loaded("-m", "car_ext", "monitor", log, cwd=tmp_path, code=0)
    assert (tmp_path / "monitor.html").exists()
    assert not modules & {"torch", "timm", "torchvision", "sklearn", "scipy", "onnx", "onnxruntime", "matplotlib"}


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--epoch", "3"], 2), (["--epochs", "many"], 2), (["--loss"], 2)]
)
@pytest.mark.parametrize("script", ["train/run.py", "train/compare.py"])
def test_nothing_is_trained_for_a_question_or_a_mistake(script, arguments, code, tmp_path):
    modules = loaded(ROOT / script, *arguments, cwd=tmp_path, code=code)
    assert not modules & HEAVY


@pytest.mark.parametrize("arguments", [["export", "--help"], ["evaluate", "--help"], ["sweep", "--help"]])
def test_nor_for_the_help_of_other_commands(arguments, tmp_path):
    modules = loaded("-m", "car_ext", *arguments, cwd=tmp_path, code=0)
    assert not modules & HEAVY
