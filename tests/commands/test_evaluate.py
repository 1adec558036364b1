"""The gate of `car-ext evaluate`, as a pipeline meets it."""

import json
import sys
from xml.etree import ElementTree

import pytest

from car_ext.cli import exits
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.export import export_run
from car_ext.training.train import train


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that knows a little of the rare digits, and one that knows nothing of them."""
    out = tmp_path_factory.mktemp("runs") / "ce"
    train(Config(epochs=15, out=str(out)), progress=False)
    old = export_run(out, ["torchscript"], out / "old.pt", logit_adjust=1.0)["torchscript"]
    return old, export_run(out, ["torchscript"], out / "new.pt")["torchscript"]


@pytest.fixture
def evaluate(monkeypatch):
    """Runs `car-ext evaluate` on the digits and returns its exit code."""

    def call(*arguments):
        options = ("--data", "digits", "--no-report")
        monkeypatch.setattr(sys, "argv", ["car-ext", "evaluate", *map(str, arguments), *options])
        return exits.run(program.main)

    return call


def test_a_pipeline_reads_the_verdict(models, evaluate, monkeypatch, tmp_path, capsys):
    old, new = models
    last, found, junit, page = (tmp_path / name for name in ("last.json", "new.json", "gate.xml", "summary.md"))
    assert evaluate(old, "--json", last, "--require", "overall>=0.1,class:1>=0.5") == 0
    assert json.loads(last.read_text())["verdict"] == {"passed": True, "test": None, "level": 0.05}
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    page.write_text("before\n")
    capsys.readouterr()
    outputs = ("--json", found, "--junit", junit)
    rules = ("--gate", "worst=0.02", "--gate", "overall=1", "--require", "class:1>=0.5")
    assert evaluate(new, "--baseline", last, *rules, *outputs) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"gate: {new}: worst class accuracy fell by 0.1429, more than 0.02 (p = ")
    summary = json.loads(found.read_text())
    assert (summary["verdict"]["passed"], summary["verdict"]["test"]) == (False, "paired")
    assert summary["baseline"] == str(old)
    assert summary["difference"]["worst_class_accuracy"] == pytest.approx(-0.1429, abs=1e-4)
    assert [(check["check"], check["passed"]) for check in summary["gate"]] == [
        ("class:1 >= 0.5", True),
        ("fall of worst <= 0.02", False),
        ("fall of overall <= 1", True),
    ]
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (str(new), "3", "1")
    assert page.read_text().startswith("before\n### Gate **failed**")


def test_two_models_are_paired_and_the_first_is_the_old_one(models, evaluate, tmp_path, capsys):
    found = tmp_path / "both.json"
    assert evaluate(*models, "--gate", "worst=0.02", "--require", "worst>=0.1", "--json", found) == 1
    old, new = json.loads(found.read_text())
    assert "gate" not in old
    assert new["verdict"] == {"passed": False, "test": "paired", "level": 0.05}
    assert new["gate"][1]["p_value"] < 0.01
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert evaluate(*models[::-1], "--gate", "worst=0.02", "--require", "worst>=0.1") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gate", "worst=0"], "give two or more, or --baseline"),
        (["--baseline", "LAST"], "--baseline is what --gate compares with"),
        (["--junit", "gate.xml"], "--junit writes what --gate and --require say"),
        (["--require", "class:ten>=0.5", "--json", "JSON"], "the model knows no class 'ten'"),
        (["--gate", "worst=0", "--baseline", "nothing.json"], "nothing.json cannot be read"),
        (["--gate", "worst=0", "--baseline", __file__], "cannot be read"),
        (["--gate", "worst=0", "--baseline", "LIST"], "holds 2 evaluations"),
        (["--gate", "worst=0", "--baseline", "LAST"], "is no evaluation"),
        (["--gate", "worst=0", "--baseline", "LAST", "--gate-level", "0"], "--gate-level is 0.0"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(arguments, message, models, evaluate, tmp_path, capsys):
    known = {name: tmp_path / f"{name}.json" for name in ("LAST", "LIST", "JSON")}
    known["LAST"].write_text("{}")
    known["LIST"].write_text("[{}, {}]")
    assert evaluate(models[1], *[known.get(argument, argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not known["JSON"].exists()
