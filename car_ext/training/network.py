"""The network of a job: new, out of a run's last checkpoint, or frozen with a new head for a second stage."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.datasets.statistics import CONSTANTS, statistics
from car_ext.errors import InputError, first_line
from car_ext.methods.heads import build_head
from car_ext.methods.heads.base import weight_of
from car_ext.models.classifier import Classifier, build_model
from car_ext.models.small import NETWORKS
from car_ext.priors import PerClass

TINY_IMAGE = 16  # pixels
SINGLE = "Expected more than 1 value per channel"  # how PyTorch refuses to normalise one value


def new_network(config: Config, data: datasets.LongTailedData, image_size: int) -> Classifier:
    """The classifier of a first stage."""
    mean, std = _normalization(config, data)
    return build_model(
        config.model,
        data.class_counts,
        image_size,
        data.channels,
        mean,
        std,
        config.patch_size,
        config.pretrained,
        [config.head],
        config.init,
        config.stem,
        tune=config.tune,
    )


def against_bf16(model: Classifier, image_size: int, head_alone: bool) -> str | None:
    """Why a CPU that is faster in bfloat16 would not be so with this network; None where it is."""
    if head_alone:
        return "the head alone is trained"
    if image_size <= TINY_IMAGE:
        return f"images of up to {TINY_IMAGE} pixels"
    convolutions = (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d))
    if any(1 < layer.groups == layer.in_channels for layer in convolutions):
        return "depthwise convolutions, which are not faster in bf16"
    return None


def checkpoint_activations(model: Classifier, name: str) -> None:
    """Let the backbone keep some of its activations only, as timm does it for this network; the others come anew.

    Raises:
        InputError: it cannot.
    """
    enable = getattr(model.backbone, "set_grad_checkpointing", None)
    try:
        if not callable(enable):
            raise AssertionError("it is not of timm")
        enable()
    except AssertionError as error:  # how timm's networks say it
        reason = first_line(error)
        raise InputError(f"--checkpointing is not for --model {name} ({reason}); leave it out.") from error


def sized(config: Config) -> Config:
    """The job with the image size of the pretrained weights, where it begins from some and names none.

    Raises:
        InputError: an unknown network.
    """
    if not config.pretrained or config.img_size or config.model in NETWORKS:
        return config
    from car_ext.models.timm_models import native_size  # timm takes a second to import

    return dataclasses.replace(config, img_size=native_size(config.model))


def replace_head(model: Classifier, head: str, class_counts: PerClass) -> None:
    """Freeze `model` and give it a new head by its word, which may begin from the old one."""
    model.requires_grad_(False)
    model.head = build_head(head, weight_of(model.head).shape[1], len(class_counts), class_counts, model.head)


def _normalization(
    config: Config, data: datasets.LongTailedData
) -> tuple[Sequence[float], Sequence[float]] | tuple[None, None]:
    """Mean and standard deviation (C,); None twice for those of published weights.

    Raises:
        InputError: constants of colours for grey images.
    """
    if config.normalize == "auto":
        return (None, None) if config.pretrained else statistics(data.train.images)
    mean, std = CONSTANTS[config.normalize]
    if data.channels != len(mean):
        raise InputError(f"--normalize {config.normalize} is for images of three colours, but {data.name} is grey.")
    return mean, std


def check_single_image(model: Classifier, image_size: int, channels: int) -> None:
    """Hold a network to batches of one image; nothing is computed.

    Raises:
        InputError: it cannot train on them.
    """
    shadow = copy.deepcopy(model).to("meta").train()
    with single_values():
        shadow(torch.zeros(1, image_size, image_size, channels, dtype=torch.uint8, device="meta"))


@contextlib.contextmanager
def statistics_stay(model: Classifier) -> Iterator[None]:
    """For a backward pass that computes activations anew: the forward pass has moved batch normalisation's averages."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches


@contextlib.contextmanager
def single_values() -> Iterator[None]:
    """For what trains: PyTorch refuses to normalise over a batch that gives one value.

    Raises:
        InputError: it did.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(SINGLE):
            raise
        raise InputError(
            "batches hold 1 image, and a layer of this --model or --contrast cannot normalise a batch of one value; "
            "give --batch-size 2 or more, and at least 2 training images."
        ) from error
