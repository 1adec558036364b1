"""Score an exported model where it will run, with the metrics that scored it in training."""

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from car_ext import datasets, metrics
from car_ext.errors import InputError
from car_ext.loader import test_loader
from car_ext.runtime import OnnxClassifier
from car_ext.scores import ScoreStatistics

BATCH_SIZE = 256


def evaluate(
    model_path: str | Path,
    data: str,
    *,
    options: datasets.DataOptions | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
):
    """Score an ONNX model on the test split of ``data`` in onnxruntime.

    Args:
        model_path: a file written by ``export/to_onnx.py``.
        data: as for training, see `datasets.load`; of a list file, the list of the test images will do.
        options: where the data's files are.
        batch_size: images a call.
        progress: show a progress bar on a terminal.

    Returns:
        The summary, with the keys of a run's ``summary.json`` (``metrics.summarize``, and ``scores`` as of
        ``ScoreStatistics.summary``) and ``model``, ``data``, ``provider``, ``images``, ``images_per_second``; and
        the confusion counts (K, K), row = predicted. ``worst_class_ratio_same`` needs every class's accuracy in
        training, which the file does not hold: it is None.

    Raises:
        InputError: a bad model or data, or classes that the model does not know.
    """
    model = OnnxClassifier(model_path)
    held_out = datasets.load(data, model.stored_size, splits=("test",), options=options)
    if held_out.channels != model.channels:
        raise InputError(f"--data {data} has {held_out.channels} channel(s), but the model takes {model.channels}.")
    labels = _labels(model.class_names, held_out.class_names, data)
    predictions, statistics = [], ScoreStatistics(len(model.class_names))
    seconds = 0.0
    batches = test_loader(held_out.test, model.image_size, batch_size, workers=0, pin_memory=False)
    with tqdm(total=len(held_out.test), unit="img", desc="onnxruntime", disable=None if progress else True) as bar:
        for images, targets in batches:
            start = time.perf_counter()
            logits = model(images.numpy())
            seconds += time.perf_counter() - start
            if not np.isfinite(logits).all():
                raise InputError(f"{model_path} gives logits that are not finite; train or export it again.")
            predictions.append(logits.argmax(axis=1))
            statistics.update(logits, labels[targets.numpy()])
            bar.update(len(images))
    confusion = metrics.confusion_counts(
        np.concatenate(predictions), labels[held_out.test.targets], len(model.class_names)
    )
    summary = metrics.summarize(confusion, model.class_counts, model.class_names, model.train_worst_class_accuracy)
    return {
        **summary,
        "scores": statistics.summary(model.class_names),
        "model": str(model_path),
        "data": held_out.name,
        "provider": model.session.get_providers()[0],
        "images": len(held_out.test),
        "images_per_second": len(held_out.test) / seconds,
    }, confusion


def _labels(model_names: list[str], data_names: tuple[str, ...], data: str) -> np.ndarray:
    """The model's label of each of the data's classes."""
    known = {name: label for label, name in enumerate(model_names)}
    if unknown := [name for name in data_names if name not in known]:
        raise InputError(
            f"--data {data} has the class {unknown[0]!r}, which the model was not trained on "
            f"(it knows {len(known)} classes, from {model_names[0]!r} to {model_names[-1]!r})."
        )
    return np.array([known[name] for name in data_names])
