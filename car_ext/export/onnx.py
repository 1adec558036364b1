"""A run as one ONNX file that carries its preprocessing, its class names and the proof that it computes the same."""

import json
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

import car_ext
from car_ext.engine import load_run
from car_ext.errors import InputError
from car_ext.models import Classifier
from car_ext.runtime import OnnxClassifier

OPSET = 18
TRIED_BATCHES = (1, 3, 7)
TOLERANCE = 1e-4  # of the largest logit: kernels of two libraries round differently, by about 1e-6


def to_onnx(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write ``RUN/model.onnx``: uint8 images (batch, H, W, C) in, float32 logits (batch, K) out.

    The file holds its weights and its preprocessing (scaling, mean, std), and in its metadata the class names,
    training class counts, how to decode and crop a picture, the run's configuration and metrics. It contains
    standard operators only. It is written beside its name first and moved there once the ONNX checker has passed it
    and onnxruntime has given PyTorch's logits for batches of 1, 3 and 7.

    Args:
        run_dir: the folder of a training run; a run that is not finished exports its last checkpoint.
        out: the file to write.

    Returns:
        The file's path.

    Raises:
        InputError: no run there, an operator outside the standard, or different results.
    """
    run_dir = Path(run_dir)
    model, state = load_run(run_dir)
    out = Path(out) if out else run_dir / "model.onnx"
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; create it or name another.")
    shape = (state["image_size"], state["image_size"], state["channels"])
    draft = out.with_name(out.name + ".tmp")
    try:
        _export(model, shape, draft)
        _describe(draft, run_dir, state)
        _check_standard(draft)
        _check_same_logits(model, shape, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out


def _export(model: Classifier, shape: tuple[int, int, int], path: Path) -> None:
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    # The exporter reports its own progress and the deprecations of its own calls; neither helps its user.
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                external_data=False,
            )
    finally:
        noisy.setLevel(level)


def _describe(path: Path, run_dir: Path, state: dict) -> None:
    summary_file = run_dir / "summary.json"
    summary = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.exists() else {}
    side, stored = state["image_size"], state["stored_size"]
    facts = {
        "class_names": state["class_names"],
        "class_counts": state["class_counts"],
        "image_size": side,
        "stored_size": stored,
        "channels": state["channels"],
        "train_worst_class_accuracy": summary.get("train_worst_class_accuracy"),
        "input": f"uint8 (batch, {side}, {side}, {state['channels']}), "
        + ("RGB" if state["channels"] == 3 else "grey")
        + f": shorter side resized to {stored} (Pillow, bicubic), centre {side} x {side} cut out; nothing else",
        "config": state["config"],
        "summary": {key: value for key, value in summary.items() if isinstance(value, int | float | str)},
        "car_ext_version": car_ext.__version__,
    }
    model = onnx.load(path)
    model.producer_name = "car_ext"
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, path)


def _check_standard(path: Path) -> None:
    onnx.checker.check_model(os.fspath(path), full_check=True)
    model = onnx.load(path)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    if foreign := sorted({f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")}):
        raise InputError(f"the model uses {', '.join(foreign)}, which a plain ONNX runtime does not have.")


def _check_same_logits(model: Classifier, shape: tuple[int, int, int], path: Path) -> None:
    exported = OnnxClassifier(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for size in TRIED_BATCHES:
        images = random.integers(0, 256, (size, *shape), dtype=np.uint8)
        with torch.no_grad():
            expected = model(torch.from_numpy(images)).numpy()
        found = exported(images)
        error = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
        allowed = TOLERANCE * max(1.0, np.abs(expected).max())
        if not error <= allowed:
            raise InputError(
                f"onnxruntime and PyTorch disagree by {error:.2g} on the logits of a batch of {size} (allowed: "
                f"{allowed:.2g}), so nothing was written; another --model, or a newer onnxruntime, may export well."
            )
