"""Passes over a split without gradients, in eval mode: the features of its images, and what they are taken for."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from car_ext.machine.device import Machine
from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.metrics import summary as metrics
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.models.classifier import Classifier


@torch.no_grad()
def features(model: Classifier, batches: DataLoader, machine: Machine) -> np.ndarray:
    """Every image's feature (N, D), float32."""
    model.eval()
    with machine.autocast():
        found = [model.features(images.to(machine.device)).float().cpu() for images, _ in batches]
    return torch.cat(found).numpy()


@torch.no_grad()
def count_confusions(
    network: nn.Module,
    batches: DataLoader,
    machine: Machine,
    classes: int,
    *watching: ScoreStatistics | Mistakes | FullConfusion,
    flip: bool = False,
) -> np.ndarray:
    """Counts int64 (K, K), row = predicted; who is watching gets the logits (N, K) and targets (N,) as well.

    With ``flip`` the logits are the means of those of an image and of its mirror image.
    """
    network.eval()
    predictions, targets = [], []
    for images, labels in batches:
        (images,) = machine.to_device(images)
        with machine.autocast():
            logits = network(images)
            if flip:
                logits = (logits + network(images.flip(2))) / 2
        predictions.append(logits.argmax(dim=1))
        targets.append(labels)
        if watching:
            logits = logits.float().cpu()
        for watcher in watching:
            watcher.update(logits, labels)
    return metrics.confusion_counts(torch.cat(predictions).cpu().numpy(), torch.cat(targets).numpy(), classes)
