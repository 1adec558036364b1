"""What is left of a job when it is done: its scores, how they came about, and what a report shows besides."""

import importlib.metadata
import platform
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchvision

from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.metrics.confusions import Confusions, Counter
from car_ext.metrics.findings import Findings
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.metrics.scoring import Scoring
from car_ext.training.job import Job
from car_ext.training.progress import Progress

Made = tuple[dict[str, Any], Findings, PredictionsFile]


def summarize(job: Job, report: Progress, kept_epoch: int) -> Made | tuple[()]:
    """The summary of a job, ready for JSON, its findings and predictions; the weights are those of `kept_epoch`.

    Its weights are of `kept_epoch`. What was scored after the last epoch is not scored again. Of several processes all
    pass the images and the first counts: the others get nothing.
    """
    data = job.data
    of_training = _of_training(job, report)
    parts = {"test": data.test} if data.val is None else {"test": data.test, "val": data.val}
    *_, each_epoch = parts
    scored = {part: (part == each_epoch and job.scored) or job.score(part, report) for part in parts}
    return _made(job, kept_epoch, scored, *of_training) if job.machine.processes.first else ()


def _made(
    job: Job,
    kept_epoch: int,
    scored: dict[str, Scoring],
    train_confusion: Confusions,
    moving_average: dict[str, Any] | None,
) -> Made:
    config, data, device, amp = job.config, job.data, job.machine.device, job.machine.amp
    parts = {"test": data.test} if data.val is None else {"test": data.test, "val": data.val}
    counts, names, scoring = data.class_counts, data.class_names, scored["test"]
    validation = {"validation": scored["val"].summary(counts, names), "kept_epoch": kept_epoch} if data.val else {}
    summary = {
        **scoring.summary(counts, names, train_confusion=train_confusion),
        **validation,
        "moving_average": moving_average,
        "method": config.method,
        "model": config.model,
        "data": data.name,
        "data_notes": list(data.notes),
        "seed": config.seed,
        "epochs": job.epoch,
        "image_size": job.image_size,
        "augment": job.augment,
        "amp": str(amp).removeprefix("torch.") if amp else "none",
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "seconds": job.seconds,
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": importlib.metadata.version("timm"),
        },
        "hardware": {
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if job.machine.on_cuda else None,
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": job.machine.processes.size,
        },
    }
    findings = scoring.findings(data.test.images, data.test.files)
    predictions = {part: replace(scored[part].predictions, files=split.files) for part, split in parts.items()}
    return summary, findings, PredictionsFile(names, predictions)


def _of_training(job: Job, report: Progress) -> tuple[Confusions, dict[str, Any] | None]:
    """Counts on the training images, and how far CAR's moving average is from all of them."""
    car, classes = job.learner.objective.car, job.data.num_classes
    unavailable = None if car is None else FullConfusion.unavailable(classes)
    full = None if car is None or unavailable else FullConfusion(car)
    counter = Counter(classes)
    for logits, targets in job.logits("train", report):
        if not job.machine.processes.first:
            continue
        logits = logits.float().cpu()
        counter.update(logits.argmax(dim=1).numpy(), targets.numpy())
        if full:
            full.update(logits, targets)
    return counter.confusions, unavailable if full is None else full.gap()
