"""One program of many commands, and the scripts that are one of them each."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import car_ext
from car_ext import __main__
from car_ext.cli.parser import Number, OutputFile, Parser
from car_ext.commands import program
from car_ext.errors import InputError
from car_ext.evaluation.evaluate import LARGEST_BATCH
from car_ext.recipes import METHODS, RECIPES, SWEEPS

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "train/run.py": "train",
    "train/compare.py": "compare",
    "train/sweep.py": "sweep",
    "export/to_onnx.py": "export",
    "export/evaluate.py": "evaluate",
}


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the program in this process; returns its exit code and what it printed."""

    def call(*arguments: object, main=program.car_ext_command) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["car-ext", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def test_the_help_has_every_command_and_an_example_of_it(call):
    code, text, _ = call("--help")
    assert code == 0
    for name in program.COMMANDS:
        assert re.search(rf"^    {name} ", text, re.M)
        assert f"\n  car-ext {name}" in text


@pytest.mark.parametrize("name", program.COMMANDS)
def test_the_help_of_a_command_has_examples_of_its_own(name, call):
    code, text, _ = call(name, "--help")
    assert code == 0
    assert text.startswith(f"usage: car-ext {name} ")
    assert "examples:\n  car-ext " + name in text
    assert "train/run.py" not in text
    assert program.COMMANDS[name].__doc__.strip() in text


@pytest.mark.parametrize(("script", "name"), SCRIPTS.items())
def test_a_script_is_the_command_under_its_own_name(script, name, capsys, call):
    source = (ROOT / script).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 20
    code, text, _ = call("--help", main=lambda: program.alone(program.COMMANDS[name], f"python {script}"))
    assert code == 0
    assert f'"python {script}"' in source
    assert text.startswith(f"usage: python {script} ")
    assert f"examples:\n  python {script}" in text
    options = re.findall(r"^  (--[\w-]+)", text, re.M)
    assert options == re.findall(r"^  (--[\w-]+)", call(name, "--help")[1], re.M)


def test_the_module_is_the_program(call):
    code, text, _ = call("--help", main=__main__.main)
    assert code == 0
    assert text.startswith("usage: python -m car_ext ")
    assert call("--version") == (0, f"car-ext {car_ext.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["info"]])
def test_without_a_command_it_is_the_information(arguments, call):
    code, text, _ = call(*arguments)
    assert code == 0
    assert text.startswith("car_ext ")
    assert call(*arguments, "--json")[1].startswith("{")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "train"]),
        (["--jsn"], ["--jsn is not an option", "did you mean --json?"]),
        (["train", "--dry-ru"], ["did you mean --dry-run?"]),
        (["train", "--no-downlod"], ["did you mean --no-download?"]),
        (["compare", "--method", "field"], ["did you mean --methods?"]),
        (["compare", "--seeds", "0", "one"], ["--seeds is 'one'", "whole number"]),
        (["compare", "--methods", "feld"], ["feld", "did you mean field?"]),
        (["sweep", "--space", "car_alpha", "--prun"], ["did you mean --prune?"]),
        (["sweep"], ["required: --space", "--help"]),
        (["export", "RUN", "--format", "fp23"], ["'fp23'", "fp32"]),
        (["export", "RUN", "--calibration-images", "0"], ["--calibration-images is 0", "at least 1"]),
        (["export", "RUN", "--tau-norm", "much"], ["--tau-norm is 'much'", "a number"]),
        (["evaluate", "x.onnx", "--data", "digits", "--workers", "0"], ["--workers is 0", "at least 1"]),
        (["evaluate", "x.onnx", "--data", "digits", "--worst", "1.5"], ["--worst is '1.5'", "whole number"]),
        (["report"], ["required: RUN"]),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, words, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, error = call(*arguments)
    assert (code, text) == (2, "")
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert all(word in error for word in words), error
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_checked_by_the_command_line():
    parser = Parser()
    parser.add_argument("--many", action=Number, nargs="+", low=1, default=[3])
    parser.add_argument("--rate", action=Number, kind=float)
    assert vars(parser.parse_args([])) == {"many": [3], "rate": None}
    assert vars(parser.parse_args(["--many", "2", "1", "--rate", "1e-3"])) == {"many": [2, 1], "rate": 1e-3}
    with pytest.raises(InputError, match="--many is 0, but must be at least 1"):
        parser.parse_args(["--many", "2", "0"])


def test_files_are_written_where_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = Parser()
    parser.add_argument("--json", action=OutputFile)
    assert parser.parse_args(["--json", "s.json"]).json == Path("s.json")
    with pytest.raises(InputError, match=r"--json no/s.json: its folder does not exist"):
        parser.parse_args(["--json", "no/s.json"])


def test_the_largest_batch_is_the_one_that_help_names(call):
    assert f"at most {LARGEST_BATCH})" in " ".join(call("evaluate", "--help")[1].split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_options_and_words(shell, call):
    code, script, _ = call("--print-completion", shell)
    assert code == 0
    for word in (*program.COMMANDS, "dry-run", "car-alpha", "calibration-images", "print-completion"):
        assert word in script
    for word in ("reference-code", "torchscript", "car_ablation", "cifar10_lt", "balanced_softmax"):
        assert word in script


def test_bash_completes(call, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash to complete with")
    (tmp_path / "car-ext.bash").write_text(call("--print-completion", "bash")[1])
    ask = (
        "source car-ext.bash; COMP_WORDS=(car-ext train --regul); COMP_CWORD=2; _shtab_car_ext; echo ${COMPREPLY[@]};"
        "complete -p car-ext"
    )
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "--regularizer"
    assert done.stdout.splitlines()[1].endswith(" car-ext")


def test_the_installed_command_and_its_files_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["scripts"]["car-ext"].partition(":")
    assert getattr(sys.modules[module], function) is program.car_ext_command
    patterns = project["tool"]["setuptools"]["package-data"]["car_ext.recipes"]
    packed = {path for pattern in patterns for path in RECIPES.glob(pattern)}
    for folder in (RECIPES, RECIPES / "parts", METHODS, SWEEPS):
        files = set(folder.glob("*.yaml"))
        assert files
        assert files <= packed


def test_every_command_is_the_module_of_its_name():
    for name, command in program.COMMANDS.items():
        assert command.__name__ == f"car_ext.commands.{name}"


def test_training_and_all_that_follows_from_any_folder(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out, recipe in (("a", []), ("b", ["--config", "digits", "--regularizer", "car"])):
        code, text, _ = call("train", *recipe, "--epochs", 1, "--out", out)
        assert code == 0
        assert "worst class" in text
    code, text, _ = call("export", "a", "--format", "torchscript")
    assert (code, text.split(":")[0]) == (0, str(Path("a", "model.pt")))
    assert call("evaluate", "a", "a/model.pt", "b", "--data", "digits", "--gate", "overall=1", "--no-report")[0] == 0
    assert call("report", "a", "b")[:2] == (0, "written to report.html\n")
    assert "report.html" in {path.name for path in tmp_path.iterdir()}
    code, text, _ = call("compare", "--epochs", 1, "--seeds", 0, "--methods", tmp_path / "two.yaml")
    assert code == 2
    (tmp_path / "two.yaml").write_text("ce: {}\ncar: {regularizer: car}\n")
    code, text, _ = call("compare", "--epochs", 1, "--seeds", 0, "--methods", tmp_path / "two.yaml")
    assert code == 0
    assert (tmp_path / "runs" / "compare-digits-convnet" / "report.html").exists()
    code, text, _ = call("train", "--config", "cifar10_lt", "--dry-run")
    assert code == 0
    assert "parameters" in text
