"""What is left of a job when it is done: its scores, how they came about, and what a report shows besides."""

import platform
from typing import Any

import numpy as np
import timm
import torch
import torchvision

from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.metrics import summary as metrics
from car_ext.metrics.findings import Findings
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.training.job import Job


def summarize(job: Job) -> tuple[dict[str, Any], Findings]:
    """The summary of a job, ready for JSON, and its findings, of the model as it is."""
    config, device, amp = job.config, job.machine.device, job.machine.amp
    full = job.objective.car and FullConfusion(job.objective.car)
    train_confusion = job.train_confusion(*([full] if full else []))
    names = job.data.class_names
    statistics, mistakes = ScoreStatistics(job.data.num_classes), Mistakes()
    test_confusion = job.test_confusion(statistics, mistakes)
    findings = Findings.collect(test_confusion, statistics.reliability(), mistakes, job.data.test.images)
    return {
        **metrics.summarize(test_confusion, job.data.class_counts, names, train_confusion=train_confusion),
        "scores": statistics.summary(names),
        "moving_average": full and full.gap(),
        "method": config.method,
        "model": config.model,
        "data": job.data.name,
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
            "timm": timm.__version__,
        },
        "hardware": {
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if job.machine.on_cuda else None,
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }, findings
