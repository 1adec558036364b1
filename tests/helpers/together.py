"""Jobs in float64 on the processes of a launcher, each beside the same job on one: how far apart they end, as JSON."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from car_ext.config.config import Config
from car_ext.machine.processes import ALONE, Processes, joined
from car_ext.methods.heads import build_head
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.training.job import Job
from car_ext.training.learner import Learner
from car_ext.training.progress import Progress

PLAIN = Config(
    loss="ce", epochs=4, batch_size=64, optimizer="sgd", lr=0.05, warmup_epochs=0.5, weight_decay=1e-3, workers=0
)  # digits: 276 images, so five steps an epoch, the last with 20 images
LITTLE = {"batch_size": 137}  # the last of three batches has two images: some of four processes get none
CASES = {
    "car": {"regularizer": "car"},
    "car, hold, mixup, empty parts, accumulated, ema": {
        "regularizer": "car:absent=hold",
        "mix": "mixup",
        "accumulate": 2,
        "ema": 0.9,
        "clip_grad": 1.0,
        "epochs": 10,
        **LITTLE,
    },
    "class weights, cutmix, empty parts": {
        "loss": "reweighted+drw",
        "drw_epoch": 3,
        "mix": "cutmix",
        "epochs": 7,
        **LITTLE,
    },
    "a loss that couples the batch, repeated images": {
        "loss": "lade",
        "sampler": "class_balanced",
        "augment": "crop-flip",
    },
    "another, and one on the weight": {
        "loss": "gml_nolb",
        "regularizer": "car:estimator=window+ltwb",
        "optimizer": "adamw",
        "lr": 1e-3,
    },
    "random choices": {"loss": "equalization:threshold=0.1"},
    "bcl": {"contrast": "concutmix", "mix": "concutmix", "head": "cosine", "batch_size": 62},
    "paco": {"contrast": "paco:queue=100,momentum=0.9", "head": "cosine"},
    "the head alone": {"tune": "head", "regularizer": "car", "head": "linear"},
}


class InDouble(Job):
    """A job of a small network without batch normalisation, in float64."""

    def _first_stage(self) -> tuple[Classifier, list[str]]:
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh())
        if self.config.tune == "head":
            backbone.requires_grad_(False)
        head = build_head(self.config.head, 24, self.data.num_classes, self.data.class_counts)
        model = Classifier(backbone, head, [0.3], [0.3])
        # Features that are computed once are float32.
        return model if self.config.head_alone else model.double(), [self.config.head]


def in_double(learner: Learner, config: Config, model: Classifier, objective: nn.Module, *others: object) -> None:
    built(learner, config, model, objective.to(model.mean.dtype), *others)
    car = objective.car
    if car is not None:
        car.tolerance = 1e-9


built, Learner.__init__ = Learner.__init__, in_double


def numbers(job: Job, rows: list[dict]) -> list[float]:
    tensors = [*job.learner.result.parameters(), *job.learner.objective.state_dict().values()]
    scores = [row[key] for row in rows for key in ("loss", "base_loss", "train_accuracy", "test_overall", "test_worst")]
    return [*torch.cat([tensor.detach().double().flatten() for tensor in tensors]).tolist(), *scores]


def trained(job: Job, epochs: int) -> list[dict]:
    with Progress(job.config, 1, 0, shown=False) as report:
        for _ in range(epochs):
            job.train_epoch(report)
        return [job.score_epoch(report)]


def whole(config: Config, processes: Processes) -> list[float]:
    job = InDouble(config, processes)
    return numbers(job, trained(job, config.epochs))


def passed_on(config: Config, processes: Processes) -> list[float]:
    """Trained by one process, by all, by one and by all; a checkpoint between each and the next."""
    with tempfile.TemporaryDirectory() as folder:
        for number, group in enumerate([ALONE, processes, ALONE, processes]):
            job = InDouble(config, group)
            if number:
                job.restore(*checkpoint.load_latest(Path(folder)))
            rows = trained(job, 1)
            checkpoint.save(Path(folder), job.epoch, *job.snapshot())
    return numbers(job, rows)


def apart(ours: list[float], theirs: list[float]) -> float:
    assert len(ours) == len(theirs)
    return float(np.abs(np.subtract(ours, theirs)).max())


def main() -> None:
    found = {}
    with joined("cpu") as processes:
        for name, options in CASES.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            config = dataclasses.replace(PLAIN, **options)
            alone = processes.of_first(lambda: whole(config, ALONE))  # noqa: B023
            found[name] = apart(whole(config, processes), alone), sum(alone)
            if name == "car":
                found["passed on"] = apart(passed_on(config, processes), alone), 0.0
        every = [None] * processes.size
        torch.distributed.all_gather_object(every, found)
    if processes.first:
        print(json.dumps(every))


if __name__ == "__main__":
    main()
