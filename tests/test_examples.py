"""Every example trains, scores its worst class, and keeps CAR's moving average where its framework keeps the rest."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from car_ext import CAR, datasets
from car_ext.methods.losses import Loss

FOLDER = Path(__file__).parent.parent / "examples"
# What each needs beyond the dependencies, and the checkpoint that it writes.
EXAMPLES = {
    "plain_pytorch": ([], "out"),
    "lightning_module": (["lightning"], "out/checkpoints/*.ckpt"),
    "timm_style": ([], "out/last.pth.tar"),
    "huggingface_trainer": (["transformers", "accelerate"], "out/checkpoint-*/model.safetensors"),
}


def tiny(*args, **options) -> datasets.LongTailedData:
    data = datasets.load(*args, **options)
    return replace(data, test=datasets.Split(data.test.images[::7], data.test.targets[::7]))


def imported(name: str):
    for framework in EXAMPLES[name][0]:
        pytest.importorskip(framework, reason=f"examples/{name}.py needs {framework}: pip install '.[test]'")
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load = tiny
    return module


def saved_average(path: Path) -> dict[str, torch.Tensor]:
    """CAR's state in a checkpoint."""
    saved = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    if "car" in saved:
        return saved["car"]
    return {
        key.removeprefix("car."): value
        for key, value in saved.get("state_dict", saved).items()
        if key.startswith("car.")
    }


@pytest.fixture
def losses(monkeypatch):
    """The loss of every training step; what the frameworks switch on is off again afterwards."""
    seen, forward = [], Loss.forward

    def noted(self, *inputs):
        loss = forward(self, *inputs)
        if torch.is_grad_enabled():
            seen.append(loss.item())
        return loss

    monkeypatch.setattr(Loss, "forward", noted)
    for variable in ("CUBLAS_WORKSPACE_CONFIG", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    yield seen
    torch.use_deterministic_algorithms(False)


def test_one_thing_is_recommended():
    """CAR beside a loss with the class prior has the prior as well, wherever the two stand together."""
    root = FOLDER.parent
    texts = [root / "README.md", *(root / "docs").rglob("*.md"), root / "car_ext" / "__init__.py", *FOLDER.glob("*.py")]
    blocks = [text for path in texts for text in re.split(r"```", path.read_text(encoding="utf-8"))]
    beside = [block for block in blocks if '"balanced_softmax"' in block and "CAR(" in block]
    assert len(beside) >= 7
    for block in beside:
        for arguments in re.findall(r"(?<![a-z_])CAR\((.+?)\)", block):
            assert arguments.endswith("class_counts, alpha=0.2, prior=1"), block


def test_every_example_is_here():
    # monitor.py is tested with the exported files.
    assert {path.stem for path in FOLDER.glob("*.py")} == {*EXAMPLES, "monitor", "sharded_sampler"}


def test_two_processes_with_a_sharded_sampler_end_as_one():
    script = str(FOLDER / "sharded_sampler.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout.splitlines()
        for command in ([sys.executable, script], launcher)
    ]
    alone, together = (re.fullmatch("worst class (.+)%, overall (.+)%", lines[-1]).groups() for lines in outputs)
    # The gradients are those of the same batches, summed in another order.
    assert [float(score) for score in together] == pytest.approx([float(score) for score in alone], abs=5)
    assert float(alone[0]) > 30
    assert [len(lines) for lines in outputs] == [21, 21]  # of one process only


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_scores_and_repeats_itself(name, tmp_path, losses):
    example, runs = imported(name), []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        losses.clear()
        scores = example.main(epochs=2, out=str(folder / "out"))
        (checkpoint,) = folder.glob(EXAMPLES[name][1])
        accuracies = [
            scores.get(key, scores.get(f"eval_{key}")) for key in ("worst_class_accuracy", "overall_accuracy")
        ]
        runs.append((losses.copy(), accuracies, saved_average(checkpoint)))
    (steps, accuracies, average), second = runs[0], runs[1]

    assert sum(steps[-4:]) < 0.8 * sum(steps[:4])
    assert average["updates"].tolist() == [len(steps)] * 10  # each training step moves it, and evaluation does not
    worst, overall = accuracies
    assert 0 <= worst <= overall <= 1
    CAR([10] * 10).load_state_dict(average)

    if not torch.cuda.is_available():  # a GPU, which the examples would use, may round another way each time
        assert second[:2] == (steps, accuracies)
        assert all(torch.equal(second[2][key], value) for key, value in average.items())
