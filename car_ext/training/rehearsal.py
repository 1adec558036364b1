"""A few real steps of a job, thrown away: how long an epoch takes, and how much memory."""

import dataclasses
import math
import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.utils.tensorboard  # which a run holds too

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.datasets import BENCHMARKS
from car_ext.machine.device import find_device
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import available_bytes, default_cache_bytes, keep_freed_memory, peak_bytes
from car_ext.text import gigabytes
from car_ext.training.job import Job
from car_ext.training.loader import alive_workers
from car_ext.training.network import sized
from car_ext.training.passes import logits_of
from car_ext.training.plan import Plan

STEPS, BATCHES = 3, 2  # to train on, to score
LONG = 10  # seconds of a step, after which no other is tried
MOST_OPERATIONS = 1e12  # of a step on a CPU: a minute or so


@dataclass(frozen=True)
class Rehearsal:
    """What `rehearse` finds; `str()` is a few lines of text.

    Attributes:
        epochs: of the job.
        tried: steps that were tried; 0 where the head alone is trained, on features computed once.
        steps: batches of an epoch.
        step_seconds: of one of them, without its images.
        read_seconds: to read those, in one process.
        score_seconds: to score the images that are scored after an epoch, or to compute all features.
        peak: the most memory held, of the main memory or of the GPU's, in bytes, decoded images included; None where
            the system does not say.
        device: "cpu" or "cuda".
    """

    epochs: int
    tried: int
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
        lines = {
            "time": f"about {duration(self.score_seconds)} for the features of all images, once; then seconds an epoch",
        }
        if self.tried:
            lines = self._of_epochs()
        if self.peak is not None:
            where = "of the GPU" if self.device == "cuda" else "of the process, PyTorch and decoded images included"
            lines["peak memory"] = f"about {gigabytes(self.peak)} {where} (measured)"
        return "\n".join(f"{name:<16} {text}" for name, text in lines.items())

    def _of_epochs(self) -> dict[str, str]:
        epoch, run = duration(self.epoch_seconds), duration(self.epochs * self.epoch_seconds)
        return {
            "time": f"about {epoch} an epoch, {run} in all (steps tried: {self.tried})",
            "  a batch": f"{self.step_seconds:.3g} s to augment and train on, {self.read_seconds:.3g} s to read",
            "  scoring": f"{duration(self.score_seconds)} an epoch",
        }


def rehearse(plan: Plan) -> Rehearsal | str:
    """Train a planned job for three steps and score two batches; only their images are read, and nothing is written.

    Published weights are not fetched: new ones take as long. The first step is not timed, it prepares the kernels;
    where it takes long, it is the only one. Where the head alone is trained, on features, two batches of these are
    computed in their place.

    Returns:
        What was found, or why nothing was tried.

    Raises:
        InputError: as training would raise it.
    """
    config = sized(plan.config)
    if reason := _why_not(plan):
        return _untried(reason)
    if config.pretrained == "timm":
        stem = "keep" if config.stem == "auto" else config.stem
        config = dataclasses.replace(config, pretrained=None, stem=stem)
    try:
        with deterministic(), keep_freed_memory(), alive_workers():
            return _rehearsed(config)
    except torch.OutOfMemoryError:
        return _untried("a step needs more memory than the GPU has free; lower --batch-size, and raise --accumulate")


def _untried(reason: str) -> str:
    return f"{'time':<16} not measured: {reason}"


def _why_not(plan: Plan) -> str | None:
    config, on_cuda = plan.config, find_device(plan.config.device).type == "cuda"
    if config.data in BENCHMARKS and not config.data_root:
        return "the data are not here"
    if not on_cuda and 3 * plan.operations * config.batch_size > MOST_OPERATIONS:
        return "a step takes minutes on this CPU"
    if not on_cuda and sum(plan.memory.values()) > available_bytes():
        return "the tensors of a step do not fit into the memory that is free"
    return None


def _rehearsed(config: Config) -> Rehearsal:
    on_features = config.head_alone and config.bn == "eval"
    # Under bn train the features are not computed in advance.
    job = Job(dataclasses.replace(config, cache_gb=0, workers=0, download=False, bn="train"))
    with threads(job.threads):
        stepped, read = ([], []) if on_features else _steps(job)
        parts = [job.data.test if job.data.val is None else job.data.val]
        if on_features:
            parts = [split for split in (job.data.train, job.data.val, job.data.test) if split is not None]
        batches = job.batches.test if job.batches.val is None else job.batches.val
        start = time.perf_counter()
        passed = islice(logits_of(job.learner.scored, batches, job.machine, config.test_flip), BATCHES)
        seen = sum(len(targets) for _, targets in passed)
        _wait(job)
        scored = (time.perf_counter() - start) * sum(map(len, parts)) / seen
    peak = torch.cuda.max_memory_reserved(job.machine.device) if job.machine.on_cuda else peak_bytes()
    if peak is not None and not job.machine.on_cuda:
        peak += _decoded_bytes(config, job.data)
    return Rehearsal(
        config.epochs,
        tried=len(stepped),
        steps=len(job.batches.train),
        step_seconds=_mean(stepped),
        read_seconds=_mean(read),
        score_seconds=scored,
        peak=peak,
        device=job.machine.device.type,
    )


def _mean(seconds: list[float]) -> float:
    """Of all but the first, where there are others."""
    return float(np.mean(seconds[1:] or seconds or [0]))


def _steps(job: Job) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of reading its batch."""
    batches, mixing, stepped, read = job.begin_epoch(1), torch.Generator(), [], []
    for number in range(min(STEPS, len(job.batches.train))):
        start = time.perf_counter()
        batch, partner = next(batches)
        begun = time.perf_counter()
        job.step(batch, partner, mixing, job.config.lr * 1e-3, (number % job.config.accumulate, job.config.accumulate))
        _wait(job)
        read.append(begun - start)
        stepped.append(time.perf_counter() - begun)
        if stepped[-1] > LONG:
            break
    return stepped, read


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
