"""An export on the hub: its card, what is uploaded, and what is wrong said in one sentence."""

import html
import json
import sys

import huggingface_hub
import pytest
import yaml
from hub import TOKEN, hub

from car_ext import InputError
from car_ext.cli import exits
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.export import Confidence, export_run
from car_ext.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits <b>"
    return out, train(Config(epochs=6, out=str(out)), progress=False)


@pytest.fixture
def server(monkeypatch):
    with hub() as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def export(monkeypatch, run):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["car-ext", "export", str(run[0]), *map(str, arguments)])
        return exits.run(program.main)

    return call


def test_the_card_leads_with_the_worst_class(run, tmp_path):
    out, summary = run
    confidence = Confidence(2.0)
    export_run(out, ["torchscript"], tmp_path, confidence=confidence, card=True)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["library_name"], about["pipeline_tag"]) == ("car-ext", "image-classification")
    (model,) = about["model-index"]
    values = {metric["name"]: metric["value"] for result in model["results"] for metric in result["metrics"]}
    assert values["worst-class accuracy"] == summary["worst_class_accuracy"]
    assert values["accuracy"] == summary["overall_accuracy"]
    assert "<b>" not in body
    assert "# digits <b>\n" in html.unescape(body)
    rows = [line.split(" | ") for line in body.partition("## Classes")[2].splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 10
    assert rows[0][0] == f"| {summary['worst_class']}"
    assert rows[0][1:3] == [str(summary["class_counts"][summary["worst_class"]]), "70"]
    accuracies = [float(row[3].split()[0]) for row in rows]
    assert accuracies == sorted(accuracies)
    assert "divided by a temperature: 2 (all)." in body
    assert "open_file('model.pt')" in body
    export_run(out, ["torchscript"], tmp_path, card=True)  # over its own


def test_a_corrected_head_has_no_scores_of_the_run(run, tmp_path):
    export_run(run[0], ["torchscript"], tmp_path, logit_adjust=1.0, card=True)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "It has not been scored as it is here" in text
    assert "model-index" not in text
    assert "corrected for the class frequencies: logit&#95;adjusted" in text


def test_a_readme_of_others_is_left_alone(run, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(InputError, match="is not a card that an export wrote"):
        export_run(run[0], ["torchscript"], tmp_path, card=True)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_an_export_is_pushed_to_a_private_repository(server, export, tmp_path, capsys):
    assert export("--out", tmp_path, "--push-to-hub", "you/digits") == 0
    assert f"pushed to {server.address}/you/digits" in capsys.readouterr().out
    (created,) = server.repositories.values()
    assert created.get("private") is True or created.get("visibility") == "private"
    assert set(server.files) == {"model.onnx", "predict.py", "README.md"}
    for name, content in server.files.items():
        assert content == (tmp_path / name).read_bytes()
    assert b"python predict.py model.onnx picture.jpg" in server.files["README.md"]
    assert export("--out", tmp_path, "--format", "torchscript", "--push-to-hub", "you/open", "--public") == 0
    created = json.dumps(server.repositories["you/open"])
    assert '"private": true' not in created
    assert '"visibility": "private"' not in created
    assert "model.pt" in server.files


@pytest.mark.parametrize(
    ("token", "arguments", "message"),
    [
        ("", ["--push-to-hub", "you/digits"], "needs a token"),
        ("hf_wrong", ["--push-to-hub", "you/digits"], "does not do it"),
        (TOKEN, ["--push-to-hub", "digits"], "give NAMESPACE/NAME"),
        (TOKEN, ["--push-to-hub", "you/a b"], "--push-to-hub you/a b"),
        (TOKEN, ["--public"], "--public is of --push-to-hub"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    token, arguments, message, server, export, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token or None)
    assert export("--out", tmp_path, *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
    assert not server.repositories


def test_without_a_connection_nothing_is_written(export, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert export("--out", tmp_path, "--push-to-hub", "you/digits") == 2
    assert "does not do it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
