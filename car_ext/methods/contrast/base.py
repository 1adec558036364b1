"""What every contrastive method is: a term that compares views of the batch, with networks of its own."""

from typing import Protocol, Self

import torch
from torch import Tensor, nn

from car_ext.methods.augment.mix import Mix, Mixed


class Network(Protocol):
    """What a contrast asks of a classifier, which is a module such as `car_ext.models.Classifier`."""

    backbone: nn.Module
    head: nn.Module

    def features(self, images: Tensor) -> Tensor: ...

    def train(self, mode: bool = True) -> Self: ...

    def requires_grad_(self, requires_grad: bool = True) -> Self: ...


class Contrast(nn.Module):
    """Base of the contrastive methods. Their networks train with the classifier and are no part of it.

        features, others = contrast.encode(model, images, views)
        logits = model.head(features)
        term, labels = contrast(logits, targets, targets, features, others, model.head.weight)
        loss = contrast.base_weight * F.cross_entropy(logits, labels) + term

    `views` is how many augmented views each image needs beside the one that is classified, `base_weight` what the
    classification loss is multiplied by: 0 where the term contains one.
    """

    views = 2
    base_weight = 1.0

    def check(self, mix: Mix | None) -> None:
        """Refuse to train on batches that `mix` made; None: on unmixed ones.

        Raises:
            InputError: this cannot train on them.
        """

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch, from 1 to `epochs`; a method with a schedule acts on it."""

    def encode(self, model: Network, images: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, D) of images (N, H, W, C) and (V, N, D) of their views (N, V, H, W, C).

        All from one forward pass, so that batch normalisation sees them together.
        """
        features = model.features(torch.cat([images, views.transpose(0, 1).flatten(0, 1)]))
        return features[: len(images)], features[len(images) :].unflatten(0, (self.views, len(images)))

    def forward(
        self, logits: Tensor, targets: Tensor | Mixed, labels: Tensor, features: Tensor, views: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What joins the loss, and the labels that the classification loss shall use.

        Args:
            logits: (N, K) of the classified view.
            targets: (N,) int64, or the mixed batch; the views are never mixed.
            labels: the same as the classification loss would take it, (N,) int64 or (N, K) floating point.
            features: (N, D) of the classified view.
            views: (V, N, D) of the others, see `encode`.
            weight: (K, D) of the classifier.

        Returns:
            The term, 0-dim float32 (also under autocast) and already weighted, and labels of either form.
        """
        raise NotImplementedError


def projection(in_features: int, hidden: int, dim: int) -> nn.Sequential:
    """The usual projection head: (N, in_features) to (N, dim), through one hidden layer with batch normalisation."""
    return nn.Sequential(
        nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
    )


def contrastive_loss(scores: Tensor, positives: Tensor, log_weights: Tensor) -> Tensor:
    """`-sum_p w_p (s_p - log sum_k e^(s_k + b_k)) / sum_p w_p` of every anchor.

    Args:
        scores: (N, M), s: each anchor against everything it is compared with.
        positives: (N, M), w >= 0, each row of positive sum.
        log_weights: (N, M), b; -inf leaves an entry out.

    Returns:
        (N,).
    """
    log_shares = scores - (scores + log_weights).logsumexp(dim=1, keepdim=True)
    return -(positives * log_shares).sum(dim=1) / positives.sum(dim=1)
