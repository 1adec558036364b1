"""Passes over a split without gradients, in eval mode: the features of its images, and what they are taken for."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from car_ext.machine.device import Machine
from car_ext.metrics.confusions import Confusions
from car_ext.models.classifier import Classifier
from car_ext.training.loader import Batch

Passed = Iterator[tuple[Tensor, Tensor]]  # logits (N, K) and targets (N,) of one batch after another


@torch.no_grad()
def features(model: Classifier, batches: DataLoader, machine: Machine) -> np.ndarray:
    """Every image's feature (N, D), float32; several processes compute them together, and each has them all."""
    model.eval()
    with machine.autocast():
        found = [
            machine.processes.gather(model.features(images.to(machine.device)).float(), len(targets)).cpu()
            for images, targets in batches
        ]
    return torch.cat(found).numpy()


@torch.no_grad()
def logits_of(network: nn.Module, batches: Iterable[Batch], machine: Machine, flip: bool = False) -> Passed:
    """Logits (N, K) of every batch, on the device and in its precision, and its targets (N,).

    With `flip` they are the means of the logits of an image and of its mirror image. Several processes compute a batch
    together, and each has all of it.
    """
    network.eval()
    for images, targets, *_ in batches:
        (images,) = machine.to_device(images)
        with machine.autocast():
            logits = network(images)
            if flip:
                logits = (logits + network(images.flip(2))) / 2
        yield machine.processes.gather(logits, len(targets)), targets


def count_confusions(passed: Passed, classes: int) -> Confusions:
    """Of what `logits_of` gives; the device is waited for once, at the end."""
    predictions, targets = zip(*((logits.argmax(dim=1), labels) for logits, labels in passed), strict=True)
    return Confusions.count(torch.cat(predictions).cpu().numpy(), torch.cat(targets).numpy(), classes)
