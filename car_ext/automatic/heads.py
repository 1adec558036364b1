"""Linear heads on finished features: those that are tried, and how one is fitted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from car_ext.methods.losses import build_loss
from car_ext.methods.regularizers.car import CAR
from car_ext.priors import relative_frequencies
from car_ext.seeds import derive

EPOCHS, BATCH, RATE = 20, 256, 3e-3
FEWEST_STEPS = 600  # of small folders, whose epochs are short
MANY = 30  # classes from which CAR holds the columns of absent ones
TAUS = (0.5, 1.0, 1.5, 2.0)  # of the post-hoc adjustment of cross-entropy


@dataclass(frozen=True)
class Linear:
    """Logits W x + b of features.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, D) to (N, K), float32."""
        return features @ self.weight.T + self.bias

    def plus(self, offsets: np.ndarray) -> "Linear":
        """With (K,) added to the logits."""
        return Linear(self.weight, (self.bias + offsets).astype(np.float32))

    def times(self, factor: float) -> "Linear":
        return Linear(self.weight * np.float32(factor), self.bias * np.float32(factor))


def mean_of(heads: Sequence[Linear]) -> Linear:
    """The head whose logits are the means of those of several."""
    weight, bias = (
        np.stack(parts).mean(axis=0) for parts in zip(*((one.weight, one.bias) for one in heads), strict=True)
    )
    return Linear(weight, bias)


@dataclass(frozen=True)
class Recipe:
    """How a head is fitted.

    Attributes:
        name: what it is called in tables.
        loss: a word of `methods.losses`; empty for class means.
        car: options of CAR beside it; None without.
        weight_decay: of AdamW.
    """

    name: str
    loss: str
    car: dict[str, Any] | None = None
    weight_decay: float = 5e-3


def portfolio(num_classes: int) -> list[Recipe]:
    """What is tried, the most promising first: where time ends, the rest is left out."""
    hold: dict[str, Any] = {"absent": "hold"} if num_classes > MANY else {}
    return [
        Recipe("cross-entropy", "ce"),
        Recipe("logit-adjusted 1.5", "logit_adjusted:tau=1.5"),
        Recipe("geometric mean", "gml_nolb"),
        Recipe("logit-adjusted 1.25", "logit_adjusted:tau=1.25"),
        Recipe("logit-adjusted 1.5 + CAR", "logit_adjusted:tau=1.5", hold),
        Recipe("balanced softmax", "balanced_softmax"),
        Recipe("geometric mean, decay 0.1", "gml_nolb", weight_decay=0.1),
        Recipe("CAR", "ce", hold | ({"alpha": 1.0} if hold else {})),
        Recipe("balanced softmax + CAR, prior 1", "balanced_softmax", hold | {"alpha": 0.2, "prior": 1.0}),
        Recipe("label over-smoothing", "los"),
        Recipe("class means", ""),
    ]


def post_hoc(recipe: Recipe, head: Linear, class_counts: np.ndarray) -> Iterator[tuple[str, Linear]]:
    """What follows from a fitted head without training: of cross-entropy, other priors and norms."""
    yield recipe.name, head
    if recipe.name != "cross-entropy":
        return
    prior = np.log(relative_frequencies(class_counts)).astype(np.float32)
    for tau in TAUS:
        yield f"post-hoc tau {tau:g}", head.plus(-tau * prior)
    norms = np.linalg.norm(head.weight, axis=1)
    unit = head.weight * (norms.mean() / np.maximum(norms, 1e-12))[:, None]
    yield "tau-normalised", Linear(unit.astype(np.float32), np.zeros_like(head.bias))


def fit(recipe: Recipe, features: np.ndarray, targets: np.ndarray, num_classes: int, seed: int) -> Linear:
    """A head on features that do not move: AdamW on standardised ones, 20 epochs and more of a small folder, at one
    cycle of the rate.

    Same seed, same bits at one thread count; another one may round otherwise.

    Args:
        recipe: which.
        features: (N, D) float32.
        targets: (N,) labels; a class without an image gets a logit that is never the highest of its own accord.
        num_classes: K.
        seed: of weights and order.
    """
    present, own = np.unique(targets, return_inverse=True)
    mean = features.mean(axis=0)
    deviation = features.std(axis=0) + 1e-6
    inputs = torch.from_numpy((features - mean) / deviation)
    counts = np.bincount(own)
    if not recipe.loss:
        weight, bias = _class_means(inputs, torch.from_numpy(own), len(present))
    elif len(present) < 2:
        weight, bias = torch.zeros(len(present), inputs.shape[1]), torch.zeros(len(present))
    else:
        weight, bias = _trained(recipe, inputs, torch.from_numpy(own), counts, seed)
    weight = weight / torch.from_numpy(deviation)
    bias = bias - weight @ torch.from_numpy(mean)
    every = np.zeros((num_classes, features.shape[1]), np.float32)
    every_bias = np.full(num_classes, -1e4, np.float32)
    every[present], every_bias[present] = weight.numpy(), bias.numpy()
    return Linear(every, every_bias)


def _class_means(inputs: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The nearest of the means of normalised features, as a linear head: w = m, b = -|m|^2 / 2."""
    unit = nn.functional.normalize(inputs)
    means = torch.zeros(classes, inputs.shape[1]).index_add_(0, targets, unit)
    means /= torch.bincount(targets, minlength=classes)[:, None]
    # Of features that are not normalised a head is linear only by their mean length.
    return means / inputs.norm(dim=1).mean(), -means.square().sum(1) / 2


def _trained(recipe: Recipe, inputs: Tensor, targets: Tensor, counts: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(derive("head", seed))
    head = nn.utils.skip_init(nn.Linear, inputs.shape[1], len(counts))
    bound = inputs.shape[1] ** -0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.zero_()
    loss = build_loss(recipe.loss, counts)
    car = None if recipe.car is None else CAR(counts, **recipe.car)
    size = min(BATCH, max(len(inputs) // 4, 1))
    steps = len(inputs) // size
    epochs = max(EPOCHS, -(-FEWEST_STEPS // steps))
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for batch in order[: steps * size].split(size):
            logits = head(inputs[batch])
            total = loss(logits, targets[batch])
            if car is not None:
                total = total + car(logits, targets[batch])
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            schedule.step()
    return head.weight.detach(), head.bias.detach()
