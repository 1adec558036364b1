"""Score exported models where they will run, with the metrics that scored them in training."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from car_ext import datasets
from car_ext.datasets.notes import tell, unmeasured
from car_ext.datasets.reading import at_hand, centres, read_ahead
from car_ext.errors import InputError
from car_ext.evaluation.losses import differences
from car_ext.evaluation.score import score
from car_ext.evaluation.speed import milliseconds, single_calls
from car_ext.export import open_file
from car_ext.machine.memory import default_cache_bytes
from car_ext.metrics.class_prior import ClassPrior
from car_ext.metrics.conformal import Coverage
from car_ext.metrics.findings import Findings
from car_ext.metrics.predictions import Predictions
from car_ext.runtimes.described import Described
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.values import distinct

LARGEST_BATCH = 256  # more gain no speed
BYTES_A_PIXEL = 512  # of activations: two maps of 64 channels in float32, the widest that usual networks hold


class Evaluation(NamedTuple):
    """One model on one test set.

    Attributes:
        summary: the scores, ready for JSON; see `evaluate_all`.
        findings: what `car_ext.report` shows besides, the confusion counts among it.
        predictions: of every image.
    """

    summary: dict[str, Any]
    findings: Findings
    predictions: Predictions


def evaluate(
    model_path: str | Path,
    data: str,
    *,
    options: datasets.DataOptions | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    keep_logits: bool = False,
    test_prior: str | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score one model on the test split of `data`; see `evaluate_all`."""
    (evaluation,) = evaluate_all(
        [model_path],
        data,
        options=options,
        batch_size=batch_size,
        workers=workers,
        keep_logits=keep_logits,
        test_prior=test_prior,
        progress=progress,
    )
    return evaluation


def evaluate_all(
    model_paths: Sequence[str | Path],
    data: str,
    *,
    options: datasets.DataOptions | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    keep_logits: bool = False,
    test_prior: str | None = None,
    progress: bool = True,
) -> list[Evaluation]:
    """Score models one after another on the same images: the test split of `data`.

    Data that come in one part are scored without the images that any of the models was trained on, or made choices by.

    Args:
        model_paths: files written by `car-ext export` (.onnx, .pt, .pt2), or folders of training runs.
        data: as for training, see `datasets.load`; of a list file, the list of the test images will do.
        options: where the data's files are.
        batch_size: images a call; by default what a sixteenth of the free memory holds, up to 256.
        workers: threads that decode images ahead, where they do not fit in memory; one a core, up to 8, by default.
        keep_logits: keep every image's logits in its `Predictions`, 4 bytes a class.
        test_prior: how frequent the classes are where the models are used, as of `ClassPrior.read`.
        progress: show a progress bar on a terminal.

    Returns:
        For each model its findings, its predictions and a summary with the keys of a run's `summary.json`
        (`metrics.summarize`, `scores` as of `ScoreStatistics.summary` and `intervals` as of `accuracy_intervals`).
        Besides, the summary has

        - model, format (`Described.format`), data, data_notes (`LongTailedData.notes`), provider, images, batch_size;
        - images_per_second: of the model's calls; latency_ms: {"batch", "single"} to {"p50", "p95"} of a call with
          batch_size images and with one;
        - temperature, of a model whose logits are divided by one (`Described.temperature`);
        - conformal, of a model that has sets of classes: `metrics.conformal.Coverage.summary`;
        - prior_accuracy and prior, with test_prior: `ClassPrior.scores`;
        - difference, for all but the first: `losses.differences` to the first.

        `worst_class_ratio_same` needs every class's accuracy in training, which is not known: it is None.

    Raises:
        InputError: a bad model or data, classes that the model does not know, or logits that are not finite.
    """
    distinct(list(map(str, model_paths)), "the models")
    for path in model_paths:  # before the first is scored, which may take long
        if not Path(path).exists():
            raise InputError(f"there is no model file {str(path)!r}; export one with car-ext export RUN.")
    evaluations: list[Evaluation] = []
    held_out = None
    trained = [_open(path).spent for path in model_paths] if len(model_paths) > 1 else None
    for path in model_paths:
        model = _open(path)
        if held_out is None or held_out.image_size != model.stored_size:
            held_out = datasets.load(
                data, model.stored_size, splits=("test",), options=options, trained=trained or [model.spent]
            )
        if held_out.channels != model.channels:
            raise InputError(f"--data {data} has {held_out.channels} channel(s), but the model takes {model.channels}.")
        size = batch_size or default_batch_size(model.image_size)
        prior = ClassPrior.read(test_prior, model.class_names, model.class_counts) if test_prior else None
        try:
            evaluation = _evaluate(model, held_out, data, size, workers, keep_logits, progress)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        evaluation.summary["model"] = str(path)
        if prior:
            evaluation.summary.update(prior.scores(evaluation.findings.confusion, model.class_names))
        if evaluations:
            evaluation.summary["difference"] = differences(evaluations[0].summary, evaluation.summary)
        evaluations.append(evaluation)
    return evaluations


def _open(path: str | Path) -> Described:
    return FinishedRun(path) if Path(path).is_dir() else open_file(path)


def default_batch_size(image_size: int) -> int:
    """A power of two from 1 to 256, whose activations are likely to fit in a sixteenth of the free memory."""
    fitting = default_cache_bytes() // 4 // (BYTES_A_PIXEL * image_size**2)
    return min(LARGEST_BATCH, 1 << max(0, fitting.bit_length() - 1))


def _evaluate(
    model: Described,
    held_out: datasets.LongTailedData,
    data: str,
    batch_size: int,
    workers: int | None,
    keep_logits: bool,
    progress: bool,
) -> Evaluation:
    names = model.class_names
    known, split = model.labels(held_out.class_names, f"--data {data}"), held_out.test
    missing = unmeasured(names, known[split.targets], held_out.name)
    for note in missing:
        tell(note)
    sets = model.conformal
    coverage = Coverage(sets["thresholds"], sets["alpha"]) if sets else None
    batch_size = min(batch_size, len(split))
    threads = 1 if at_hand(split.images) else workers or min(8, os.cpu_count() or 1)
    model(np.zeros((batch_size, *model.image_shape), np.uint8))  # allocations and kernel choices of the first call
    with tqdm(total=len(split), unit="img", desc=model.provider, disable=None if progress else True) as bar:
        batches = read_ahead(split, model.image_size, batch_size, threads)
        known_batches = ((images, known[labels]) for images, labels in batches)
        scoring, calls = score(
            model, known_batches, len(names), bar.update, keep_logits, coverage.update if coverage else None
        )
    seconds = [spent for _, spent in calls]
    full = [spent for images, spent in calls if images == batch_size]
    image = centres(split.images, [0], model.image_size)
    summary = {
        **scoring.summary(model.class_counts, names, model.train_worst_class_accuracy),
        "format": model.format,
        "data": held_out.name,
        "data_notes": [*held_out.notes, *missing],
        "provider": model.provider,
        "images": len(split),
        "batch_size": batch_size,
        "images_per_second": len(split) / sum(seconds),
        "latency_ms": {"batch": milliseconds(full), "single": milliseconds(single_calls(model, image))},
        **({"temperature": dict(model.temperature)} if model.temperature else {}),
        **({"conformal": coverage.summary(names)} if coverage else {}),
    }
    return Evaluation(
        summary, scoring.findings(split.images, split.files), replace(scoring.predictions, files=split.files)
    )
