"""Features of the training images: of pretrained weights as they are, or of networks trained without a fold."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from car_ext.automatic.clock import Clock
from car_ext.automatic.store import Piece, Store
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.kernels import threads
from car_ext.machine.processes import ALONE
from car_ext.methods.heads.base import weight_of
from car_ext.run import checkpoint
from car_ext.training import passes
from car_ext.training.data import Loaded, load_data
from car_ext.training.job import Job
from car_ext.training.network import sized
from car_ext.training.progress import Progress

EVERYTHING = -2  # in place of a fold: nothing is held out
TRIED_STEPS = 4  # of which the first is not timed
FEWEST_EPOCHS, MOST_EPOCHS = 2, 200
QUICK_PIXELS = 1e6  # of a training set, such as 5,000 images of 14 pixels


@dataclass(frozen=True)
class Kind:
    """A way to features.

    Attributes:
        name: what it is called in tables.
        options: of the job, over those of the data.
        trained: whether its network learns from the images.
    """

    name: str
    options: dict[str, Any]
    trained: bool


class Representation:
    """One kind on the training images.

    Args:
        kind: which.
        base: the job whose data and seed it takes.
        fold: (N,) of each training image, as of `folds.deal`.
        store: keeps what is found.
        clock: is told.
    """

    def __init__(self, kind: Kind, base: Config, fold: np.ndarray, store: Store, clock: Clock) -> None:
        self.kind = kind
        self.config = base.with_options(kind.options, f"the representation {kind.name!r}")
        self._fold, self._store, self._clock = fold, store, clock
        self._loaded: Loaded | None = None
        self._frozen: Job | None = None

    @property
    def loaded(self) -> Loaded:
        """Data, image size and augmentation."""
        if self._loaded is None:
            self._loaded = load_data(sized(self.config))
        return self._loaded

    def forget(self) -> None:
        """Lets its images go."""
        self._loaded = self._frozen = None

    def seconds_an_epoch(self) -> float:
        """Of training, measured by a few steps that are thrown away; noted, so that a resumed choice plans alike."""
        return float(self._store.note(f"{self._key(1)}-seconds", self._time_epoch))

    @property
    def steps_an_epoch(self) -> int:
        return max(1, len(self.loaded[0].train) // self.config.batch_size)

    @property
    def quick(self) -> bool:
        """Whether an epoch is so little work that all folds are trained without, whatever the time."""
        return len(self.loaded[0].train) * self.loaded[1] ** 2 < QUICK_PIXELS

    def epochs_within(self, seconds: float) -> int:
        """How many epochs fit, of what is left of the time now; noted likewise."""
        asked = f"{self._key(0)}-of-{self._clock.seconds}-{seconds}-epochs"
        return int(self._store.note(asked, lambda: self._fitting(seconds)))

    def _fitting(self, seconds: float) -> int:
        return min(int(min(seconds, self._clock.left) / max(self.seconds_an_epoch(), 1e-6)), MOST_EPOCHS)

    def of_fold(self, fold: int, epochs: int = 0) -> Piece:
        """`features` (N, D) float32 of all training images, of a network trained without one fold where it is trained.

        With them its own head, `weight` (K, D) and `bias` (K,).
        """
        held = EVERYTHING if not self.kind.trained else fold
        name = f"{self._key(epochs)}-fold{held}" if held != EVERYTHING else f"{self._key(epochs)}-all"
        return self._store.piece(name, lambda: self._features(self._job(held, epochs), name))

    def job_of_everything(self, epochs: int) -> Job:
        """The job of the final network, trained on all training images; its features are those of `EVERYTHING`."""
        job = self._job(EVERYTHING, epochs)
        self._train(job, f"{self._key(epochs)}-all")
        return job

    def _key(self, epochs: int) -> str:
        told = {key: value for key, value in self.config.to_dict().items() if key not in ("out", "threads", "workers")}
        digest = hashlib.sha256(json.dumps([told, epochs], sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.kind.name}-{digest}"

    def _job(self, held: int, epochs: int) -> Job:
        if self.kind.trained:
            return self._new_job(held, epochs)
        if self._frozen is None:  # building it computes all features, which do not change
            self._frozen = self._new_job(EVERYTHING, 0)
        return self._frozen

    def _new_job(self, held: int, epochs: int) -> Job:
        config = self.config
        if self.kind.trained:
            config = dataclasses.replace(config, epochs=epochs, warmup_epochs=min(config.warmup_epochs, epochs / 4))
        data, size, augment = self.loaded
        if held != EVERYTHING:
            rest = np.flatnonzero(self._fold != held)
            data = dataclasses.replace(data, train=data.train.take(rest), fingerprint=f"{data.fingerprint}-{held}")
            if (data.class_counts == 0).any():
                raise InputError("a fold holds all images of a class; this is a mistake of car-ext.")
        return Job(config, ALONE, loaded=(data, size, augment))

    def _features(self, job: Job, name: str) -> Piece:
        self._train(job, name)
        whole = self.loaded[0].train
        with threads(job.threads):
            if job.batches.cached:  # it has computed them to train on
                found = job.batches.train.dataset.split.images  # type: ignore[attr-defined]
            else:
                found = passes.features(job.learner.result, job.batches.ordered(whole), job.machine)
        head = job.learner.result.head
        piece = {"features": np.asarray(found, np.float32)}
        if self.kind.trained:
            bias: Any = head.bias
            piece |= {"weight": weight_of(head).detach().cpu().numpy(), "bias": bias.detach().cpu().numpy()}
        return piece

    def _train(self, job: Job, name: str) -> None:
        """To the end, from the last checkpoint of an interrupted training."""
        if not self.kind.trained:
            return
        folder = self._store.folder(name)
        if found := checkpoint.load_latest(folder):
            job.restore(*found)
        with threads(job.threads), Progress(job.config, len(job.batches.train), job.epoch, shown=False) as report:
            while job.epoch < job.config.epochs:
                job.train_epoch(report)
                checkpoint.save(folder, job.epoch, *job.snapshot())

    def _time_epoch(self) -> float:
        job = self._job(EVERYTHING, FEWEST_EPOCHS)
        mixing, times = torch.Generator().manual_seed(0), []
        with threads(job.threads):
            job.learner.set_epoch(1, FEWEST_EPOCHS)
            for step, (batch, partner) in enumerate(job.begin_epoch(1)):
                start = time.perf_counter()
                job.step(batch, partner, mixing, 0.0).sum().item()
                times.append(time.perf_counter() - start)
                if step == TRIED_STEPS:
                    break
        return float(np.median(times[1:] or times)) * len(job.batches.train)
