"""The composite action: its shell step, run as a runner would run it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from car_ext.config.config import Config
from car_ext.export import export_run
from car_ext.training.train import train

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/gate/action.yml").read_text(encoding="utf-8"))
(STEP,) = ACTION["runs"]["steps"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="THE ACTION WAS NOT RUN: no bash here")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """With a name that a shell would run, were it text of the script."""
    out = tmp_path_factory.mktemp("runs") / "ce"
    train(Config(epochs=2, out=str(out)), progress=False)
    return export_run(out, ["torchscript"], out / "$(touch ran) `touch ran`;.pt")["torchscript"]


@pytest.fixture
def act(tmp_path):
    """Runs the step with some inputs; its exit code, outputs, Markdown and what it said."""

    def call(**given):
        values = {name: given.pop(name, spec.get("default", "")) for name, spec in ACTION["inputs"].items()}
        assert not given
        env = {name: values[re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", text)[1]] for name, text in STEP["env"].items()}
        files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]],
            cwd=tmp_path,
            env={**os.environ, **env, **{name: str(file) for name, file in files.items()}, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs = dict(line.split("=", 1) for line in lines)
        return done.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text(), done.stdout + done.stderr

    return call


def test_no_input_is_text_of_the_script():
    assert "${{" not in STEP["run"]
    assert set(re.findall(r"inputs\.(\w+)", " ".join(STEP["env"].values()))) == set(ACTION["inputs"])
    written = set(re.findall(r"echo \"(\w+)=", STEP["run"]))
    assert written == set(ACTION["outputs"])


def test_the_step_passes_fails_and_says_so(act, model, tmp_path):
    code, outputs, page, said = act(
        models=f"{model}\n", data="digits", require="overall>=0.05\nclass:1>=0\n", output="a b\nverdict=lie"
    )
    assert code == 0, said
    assert outputs["verdict"] == "passed"
    summary = json.loads((tmp_path / outputs["json"]).read_text())
    assert [check["check"] for check in summary["gate"]] == ["overall >= 0.05", "class:1 >= 0"]
    assert (tmp_path / outputs["report"]).exists()
    assert (tmp_path / outputs["junit"]).exists()
    assert page.startswith("### Gate passed")
    assert not list(tmp_path.rglob("ran"))

    code, outputs, page, said = act(
        models=str(model), data="digits", require="class>=1", gate="worst=0", baseline="a b/scores.json"
    )
    assert (code, outputs["verdict"]) == (1, "failed"), said
    assert page.startswith("### Gate **failed**")


def test_what_cannot_be_scored_is_an_error(act):
    code, outputs, page, said = act(models="--no-report", data="digits", require="$(touch ran)>=1")
    assert (code, outputs["verdict"], page) == (2, "error", "")
    assert "touch ran" in said


def test_the_example_gives_what_the_action_takes():
    workflow = yaml.safe_load((ROOT / "examples/gate-workflow.yml").read_text(encoding="utf-8"))
    (step,) = (step for step in workflow["jobs"]["gate"]["steps"] if "actions/gate@" in step.get("uses", ""))
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert {name for name, spec in ACTION["inputs"].items() if spec.get("required")} <= set(step["with"])
