"""The network of a job: new, out of a run's last checkpoint, or frozen with a new head for a second stage."""

import numpy as np

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.methods.heads import build_head
from car_ext.methods.heads.base import weight_of
from car_ext.models.classifier import Classifier, build_model
from car_ext.priors import PerClass

STATISTICS_IMAGES = 2000


def new_network(config: Config, data: datasets.LongTailedData, image_size: int) -> Classifier:
    """The classifier of a first stage, which normalises by the statistics of `data`."""
    mean, std = _statistics(data.train.images)
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
    )


def replace_head(model: Classifier, head: str, class_counts: PerClass) -> None:
    """Freeze `model` and give it a new head by its word, which may begin from the old one."""
    model.requires_grad_(False)
    model.head = build_head(head, weight_of(model.head).shape[1], len(class_counts), class_counts, model.head)


def _statistics(images: datasets.Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (C,) of intensity / 255 over evenly spaced images."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).astype(int)
    sums = np.zeros((2, np.asarray(images[0]).shape[-1]))
    for index in chosen:
        pixels = images[int(index)] / 255
        sums += pixels.mean(axis=(0, 1)), np.square(pixels).mean(axis=(0, 1))
    mean, square = sums / len(chosen)
    std = np.sqrt(np.maximum(square - mean**2, (1 / 255) ** 2))  # a channel may be constant
    return mean.tolist(), std.tolist()
