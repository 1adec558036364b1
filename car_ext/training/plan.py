"""What a job would be, without doing it: classes, steps, learning rates, parameters, operations, memory."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from car_ext.config.config import Config
from car_ext.datasets import BENCHMARKS, PROFILES, find_source
from car_ext.datasets.draw import drawn_counts
from car_ext.datasets.profiles import exponential_profile
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.methods.augment.mix import build_mix
from car_ext.methods.contrast import build_contrast
from car_ext.methods.samplers import build_sampler
from car_ext.models.classifier import Classifier, build_model
from car_ext.priors import PerClass, shot_groups
from car_ext.run.classifier import load_run
from car_ext.text import gigabytes
from car_ext.training.data import load_data
from car_ext.training.memory import FLOAT, activation_bytes, car_bytes, operations
from car_ext.training.network import against_bf16, check_single_image, replace_head, sized
from car_ext.training.objective import Objective
from car_ext.training.optimizer import rate_of_step, updates_per_epoch

STEMS = {"keep": "as the network is made", "wide": "wide: the first layer is 3x3 at stride 1 (--stem)"}
PHOTOGRAPH = 224  # pixels, where the data do not say


@dataclass(frozen=True)
class ClassCounts:
    """Training images: in all, of the largest and of the smallest class; `each` (K,) int64 where it is known."""

    classes: int
    total: int
    largest: int
    smallest: int
    each: np.ndarray | None = None

    @classmethod
    def of(cls, counts: np.ndarray) -> "ClassCounts":
        return cls(len(counts), int(counts.sum()), int(counts.max()), int(counts.min()), counts)


@dataclass(frozen=True)
class Plan:
    """What `plan` finds; `str()` is a page of text.

    Attributes:
        config: the job.
        data: what the data is called, and where its counts are from.
        counts: training images a class.
        image_size: side of the square the network sees, in pixels.
        augment: how images are augmented.
        precision: what training would compute in, and why.
        steps_per_epoch: optimiser steps.
        milestones: epochs done, steps done and learning rate then: the start, the end of the warm-up, each drop of a
            staircase or each quarter of a cosine, the end.
        parameters: numbers the network holds, that of a contrast included, and how many of them are trained.
        stem: "keep" or "wide", see `build_model`; None where the network has no such choice.
        operations: floating-point operations of an image's forward pass.
        memory: what the tensors of a training step hold at their fullest, in bytes of float32. An estimate: it knows
            neither the allocator's gaps, nor the workspace of convolutions, nor what Python and CUDA themselves take;
            `rehearse` measures all of it.
    """

    config: Config
    data: str
    counts: ClassCounts
    image_size: int
    augment: str
    precision: str
    steps_per_epoch: int
    milestones: list[tuple[float, int, float]]
    parameters: tuple[int, int]
    stem: str | None
    operations: int
    memory: dict[str, int]

    @property
    def steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def groups(self) -> dict[str, int] | None:
        """How many classes have many, medium and few images, if every class's count is known."""
        each = self.counts.each
        return None if each is None else {name: int(mask.sum()) for name, mask in shot_groups(each).items()}

    def __str__(self) -> str:
        config, counts, memory = self.config, self.counts, sum(self.memory.values())
        accumulated = config.accumulate
        groups = ", ".join(f"{number} {name}" for name, number in (self.groups or {}).items())
        half = memory - self.memory["activations"] // 2
        lines = {
            "data": self.data,
            "classes": f"{counts.classes} ({groups or 'which are many, medium and few is not known without the data'})",
            "training images": f"{counts.total:,}, {counts.largest:,} to {counts.smallest:,} a class",
            "method": config.method,
            "model": "{}, {:,} parameters, {:,} of them trained".format(config.model, *self.parameters),
            **({"stem": STEMS[self.stem]} if self.stem else {}),
            "operations": f"{self.operations / 1e9:.3g} billion an image, forward; about three times that in training",
            "images": f"{self.image_size} pixels, augmentation {self.augment}",
            "precision": self.precision,
            "batches": f"{config.batch_size} images" + (f", {accumulated} a step" if accumulated > 1 else ""),
            "steps": f"{self.steps:,}, {config.epochs} epochs of {self.steps_per_epoch:,}",
            "learning rate": ", ".join(f"{rate:.3g} after {epoch:g}" for epoch, _, rate in self.milestones) + " epochs",
            "tensors": f"about {gigabytes(memory)} in float32, {gigabytes(half)} in half precision (an estimate)",
            **{f"  {name}": gigabytes(number) for name, number in self.memory.items()},
        }
        return "\n".join(f"{name:<16} {text}" for name, text in lines.items())


def plan(config: Config) -> Plan:
    """What training `config` would be. Nothing is trained or written, and published weights are not fetched.

    A benchmark without `data_root` is planned for by its published size.

    Raises:
        InputError: as training would raise it; cuts of a benchmark that only its files can tell.
    """
    data, counts, image_size, channels, augment = _data(config)
    augment = "none" if config.head_alone and config.bn == "eval" else augment
    # Only how many there are of which class matters here, so an exponential profile stands for an unknown one.
    each = counts.each
    if each is None:
        each = exponential_profile(counts.largest, counts.classes, counts.largest / counts.smallest).clip(1)
    model = _network(config, each, image_size, channels)
    machine = Machine(config.device, config.amp)
    machine.decide(against_bf16(model, image_size, config.head_alone))
    with torch.device("meta"):
        contrast = None if config.contrast == "none" else build_contrast(config.contrast, each, model)
    car = dataclasses.asdict(config.car)
    objective = Objective(config.loss, config.regularizer, each, car, config.drw_epoch, contrast)
    mix = None if config.mix == "none" else build_mix(config.mix, each)
    objective.check(model.head, mix)
    if min(config.batch_size, counts.total) == 1:
        check_single_image(model, image_size, channels)
    labels = np.arange(counts.total) % counts.classes
    batches = len(build_sampler(config.sampler, labels, config.batch_size, config.seed))
    steps = updates_per_epoch(batches, config)
    modules, views = (model,) if contrast is None else (model, contrast), 1 + (contrast.views if contrast else 0)
    parameters = list(chain(*(module.parameters() for module in modules)))
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    moments = 2 if config.optimizer == "adamw" else int(config.momentum > 0)
    memory = {
        "network": sum(tensor.nbytes for tensor in chain(parameters, *(module.buffers() for module in modules))),
        "gradients": FLOAT * trained,
        "optimizer": FLOAT * trained * moments,
        "activations": config.batch_size * views * activation_bytes(model, image_size, channels),
    }
    if objective.car is not None:
        memory["CAR"] = car_bytes(counts.classes, config.batch_size * (2 if mix else 1))
    return Plan(
        config,
        data,
        counts,
        image_size,
        augment,
        machine.said,
        steps,
        _milestones(config, steps),
        (sum(parameter.numel() for parameter in parameters), trained),
        model.built.get("stem"),
        operations(model, image_size, channels),
        memory,
    )


def _data(config: Config) -> tuple[str, ClassCounts, int, int, str]:
    """What it is called, its training images, side and channels of what the network sees, and the augmentation."""
    if config.data not in BENCHMARKS or config.data_root:
        data, image_size, augment = load_data(dataclasses.replace(sized(config), cache_gb=0, download=False))
        return data.name, ClassCounts.of(data.class_counts), image_size, data.channels, augment
    return (
        f"{config.data} (as published)",
        _published(config),
        sized(config).img_size or find_source(config.data).side or PHOTOGRAPH,
        3,
        config.augment,
    )


def _published(config: Config) -> ClassCounts:
    size = BENCHMARKS[config.data]
    if size.largest == size.smallest:
        counts = PROFILES[config.profile](size.largest, size.classes, config.imbalance_ratio or 1)
        for share in filter(None, (config.val_share, config.holdout)):
            counts = counts - drawn_counts(counts, share)
        return ClassCounts.of(counts)
    if cuts := [key for key in ("imbalance_ratio", "val_share", "holdout") if getattr(config, key)]:
        cut = "--" + cuts[0].replace("_", "-")
        raise InputError(f"what {cut} leaves of {config.data} only its files can tell; add --data-root.")
    return ClassCounts(size.classes, size.train, size.largest, size.smallest)


def _network(config: Config, counts: PerClass, image_size: int, channels: int) -> Classifier:
    """The classifier on the meta device, where tensors have shapes but no memory."""
    if config.stage2:
        model, _ = load_run(config.stage2)
        replace_head(model, config.head, counts)
    else:
        stem = "keep" if config.pretrained and config.stem == "auto" else config.stem  # no weights are fetched here
        with torch.device("meta"):
            grey = [0.5] * channels
            model = build_model(
                config.model,
                counts,
                image_size,
                channels,
                grey,
                grey,
                config.patch_size,
                heads=[config.head],
                stem=stem,
                tune=config.tune,
            )
    return model.to("meta")


def _milestones(config: Config, steps: int) -> list[tuple[float, int, float]]:
    drops: Sequence[float] = config.drop_epochs or [config.epochs / 4, config.epochs / 2, 3 * config.epochs / 4]
    at = {0, round(config.warmup_epochs * steps), *(round(epoch * steps) for epoch in drops), config.epochs * steps}
    return [(round(step / steps, 3), step, rate_of_step(step, steps, config)) for step in sorted(at)]
