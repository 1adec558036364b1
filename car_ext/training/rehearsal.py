"""A few real steps of a job, thrown away: how long an epoch takes, and how much memory."""

import dataclasses
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.utils.tensorboard  # which a run holds too

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.datasets import BENCHMARKS
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import default_cache_bytes, keep_freed_memory, peak_bytes
from car_ext.training.job import Job
from car_ext.training.loader import alive_workers
from car_ext.training.network import sized
from car_ext.training.passes import logits_of
from car_ext.training.plan import gigabytes

STEPS = 3


@dataclass(frozen=True)
class Rehearsal:
    """What `rehearse` finds; `str()` is a few lines of text.

    Attributes:
        epochs: of the job.
        steps: batches of an epoch.
        step_seconds: of one of them, without its images.
        read_seconds: to read and augment those, in one process.
        score_seconds: to score the images that are scored after an epoch.
        peak: the most memory held, of the main memory or of the GPU's, in bytes, decoded images included; None where
            the system does not say.
        device: "cpu" or "cuda".
    """

    epochs: int
    steps: int
    step_seconds: float
    read_seconds: float
    score_seconds: float
    peak: int | None
    device: str

    @property
    def epoch_seconds(self) -> float:
        """Of an epoch and its scores, with one process that reads."""
        return self.steps * (self.step_seconds + self.read_seconds) + self.score_seconds

    def __str__(self) -> str:
        epoch, run = duration(self.epoch_seconds), duration(self.epochs * self.epoch_seconds)
        lines = {
            "time": f"about {epoch} an epoch, {run} in all ({STEPS} steps were tried)",
            "  a batch": f"{self.step_seconds:.3g} s to train on, {self.read_seconds:.3g} s to read and augment",
            "  scoring": f"{duration(self.score_seconds)} an epoch",
        }
        if self.peak is not None:
            where = "of the GPU" if self.device == "cuda" else "of the process, PyTorch and decoded images included"
            lines["peak memory"] = f"about {gigabytes(self.peak)} {where} (measured)"
        return "\n".join(f"{name:<16} {text}" for name, text in lines.items())


def rehearse(config: Config) -> Rehearsal | None:
    """Train a job for three steps and score a batch; the images of these are all that is read, and nothing is written.

    Published weights are not fetched: new ones take as long. The first step is not timed, it prepares the kernels.

    Returns:
        None where the data are not here, or all features would have to be computed before the first step.

    Raises:
        InputError: as training would raise it.
    """
    if (config.data in BENCHMARKS and not config.data_root) or (config.head_alone and config.bn == "eval"):
        return None
    config = sized(config)
    if config.pretrained == "timm":
        stem = "keep" if config.stem == "auto" else config.stem
        config = dataclasses.replace(config, pretrained=None, stem=stem)
    with deterministic(), keep_freed_memory(), alive_workers():
        job = Job(dataclasses.replace(config, cache_gb=0, workers=0, download=False))
        with threads(job.threads):
            stepped, read = _steps(job)
            part = job.data.test if job.data.val is None else job.data.val
            batches = job.batches.test if job.batches.val is None else job.batches.val
            start = time.perf_counter()
            _, targets = next(logits_of(job.learner.scored, batches, job.machine, config.test_flip))
            _wait(job)
            scored = (time.perf_counter() - start) * len(part) / len(targets)
    peak = torch.cuda.max_memory_reserved(job.machine.device) if job.machine.on_cuda else peak_bytes()
    if peak is not None and not job.machine.on_cuda:
        peak += _decoded_bytes(config, job.data)
    return Rehearsal(config.epochs, len(job.batches.train), stepped, read, scored, peak, job.machine.device.type)


def _steps(job: Job) -> tuple[float, float]:
    """Seconds of a step, and of reading its batch: the means without the first."""
    batches, mixing, stepped, read = job.begin_epoch(1), torch.Generator(), [], []
    for number in range(min(STEPS, len(job.batches.train))):
        start = time.perf_counter()
        batch, partner = next(batches)
        begun = time.perf_counter()
        job.step(batch, partner, mixing, job.config.lr * 1e-3, (number % job.config.accumulate, job.config.accumulate))
        _wait(job)
        read.append(begun - start)
        stepped.append(time.perf_counter() - begun)
    return float(np.mean(stepped[1:] or stepped)), float(np.mean(read[1:] or read))


def _wait(job: Job) -> None:
    if job.machine.on_cuda:
        torch.cuda.synchronize(job.machine.device)


def _decoded_bytes(config: Config, data: datasets.LongTailedData) -> int:
    """What the images that a training holds in memory take, as `datasets.load` decides it."""
    budget = default_cache_bytes() if config.cache_gb is None else int(config.cache_gb * 1e9)
    held = 0
    for split in (data.train, data.val, data.test):
        if split is not None and not isinstance(split.images, np.ndarray):
            size = math.prod((len(split), data.image_size, data.image_size, data.channels))
            held += size if held + size <= budget else 0
    return held


def duration(seconds: float) -> str:
    """`12 s`, `3.4 min` or `5.6 h`."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
