"""Parametric contrastive learning: classifier, batch and a queue of earlier images in one softmax."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from car_ext.errors import InputError
from car_ext.methods.augment.mix import Mix, Mixed
from car_ext.methods.contrast.base import Contrast, Network, contrastive_loss, projection
from car_ext.methods.registry import register
from car_ext.priors import PerClass, relative_frequencies
from car_ext.values import check

EMPTY = -1  # class of a place in the queue that has not been filled


def parametric_contrastive(
    logits: Tensor,
    queries: Tensor,
    keys: Tensor,
    targets: Tensor,
    key_targets: Tensor,
    alpha: float,
    beta: float = 1.0,
    temperature: float = 0.05,
) -> Tensor:
    """Parametric contrastive loss, the mean over the queries.

    `-sum_p w_p log( e^(s_p) / sum_k e^(s_k) ) / sum_p w_p`: p and k run over the K classes and all queries and keys
    but the anchor; s is the logit of a class, q.k/t of a query or key; w is beta for the anchor's class, alpha for
    queries and keys of that class, 0 for others.
    Source: Cui et al., Parametric Contrastive Learning, ICCV 2021; the division by sum w is that of the published code.

    Args:
        logits: (N, K), the logarithms of the class priors already added.
        queries: (N, F), of norm one.
        keys: (M, F), of norm one.
        targets: (N,) int64.
        key_targets: (M,) int64; negative ones leave their key out.
        alpha, beta: not negative, beta positive.
        temperature: t, positive.

    Returns:
        0-dim, differentiable in logits, queries and keys.
    """
    others, other_targets = torch.cat([queries, keys]), torch.cat([targets, key_targets])
    itself = torch.eye(len(queries), len(others), dtype=torch.bool, device=targets.device)
    same = (targets[:, None] == other_targets) & ~itself
    left_out = itself | (other_targets < 0)
    scores = torch.cat([logits, queries @ others.T / temperature], dim=1)
    centre = F.one_hot(targets, logits.shape[1]).to(scores)
    positives = torch.cat([beta * centre, alpha * same.to(scores)], dim=1)
    log_weights = torch.zeros_like(scores)
    log_weights[:, logits.shape[1] :].masked_fill_(left_out, -torch.inf)
    return contrastive_loss(scores, positives, log_weights).mean()


@register(
    "contrast",
    "paco",
    title="Parametric contrastive learning (PaCo)",
    source="Cui et al., ICCV 2021",
    formula="-sum_p w_p log(e^(s_p) / sum_k e^(s_k)) / sum_p w_p; s: z + log pi of classes, q.k/t of batch and queue",
    published="CIFAR100-LT IR100/50/10: 52.0 / 56.0 / 64.2 (400 epochs, AutoAugment and Cutout)",
    notes="takes the place of --loss; a linear head takes thousands of steps at this temperature, --head cosine fewer; "
    "the queue begins empty here, with random vectors and labels there",
)
class ParametricContrast(Contrast):
    """Query, key and queue (MoCo) beside the classifier's logits, which act as learnable centres of the classes.

    The classified view is the query, through the classifier's backbone and a projection head. One more view is the key,
    through copies of both that follow by a moving average and get no gradient. Keys of earlier batches wait in the
    queue.

    Args:
        class_counts: (K,) training images of each class.
        in_features: D.
        model: the classifier, as `car_ext.models.Classifier`; it is copied.
        alpha: weight of each positive query or key, not negative: 0.01 in the published code at every imbalance ratio.
        beta: weight of the anchor's centre, positive.
        temperature: t, positive.
        queue: its length, not negative.
        momentum: of the moving average, in [0, 1].
        dim: F, of what the projection heads give.
    """

    log_priors: Tensor
    queue: Tensor
    queue_targets: Tensor

    views = 1
    base_weight = 0.0

    def __init__(
        self,
        class_counts: PerClass,
        in_features: int,
        model: Network,
        *,
        alpha: float = 0.01,
        beta: float = 1.0,
        temperature: float = 0.05,
        queue: int = 1024,
        momentum: float = 0.999,
        dim: int = 32,
    ) -> None:
        super().__init__()
        check("alpha", alpha, 0 <= alpha < float("inf"), "finite and not negative")
        check("beta", beta, 0 < beta < float("inf"), "finite and positive")
        check("temperature", temperature, 0 < temperature < float("inf"), "positive")
        check("queue", queue, queue >= 0, "not negative")
        check("momentum", momentum, 0 <= momentum <= 1, "in [0, 1]")
        check("dim", dim, dim >= 1, "at least 1")
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.projection = projection(in_features, in_features, dim)
        self.key_network, self.key_projection = copy.deepcopy(model).train(), copy.deepcopy(self.projection)
        self.key_network.head = nn.Identity()
        self.key_network.requires_grad_(False)
        self.key_projection.requires_grad_(False)
        self._average = get_ema_multi_avg_fn(momentum)
        log_priors = torch.from_numpy(relative_frequencies(class_counts)).log().float()
        self.register_buffer("log_priors", log_priors, persistent=False)
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("queue_targets", torch.full((queue,), EMPTY))

    def check(self, mix: Mix | None) -> None:
        if mix is not None:
            raise InputError("--contrast paco needs images of one class; leave --mix out, or use --contrast concutmix.")

    def encode(self, model: Network, images: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """As the base, but the view (V = 1) through the copy, which first takes a step towards the model."""
        followers = [*self.key_network.backbone.parameters(), *self.key_projection.parameters()]
        self._average(followers, [*model.backbone.parameters(), *self.projection.parameters()], None)
        with torch.no_grad():
            keys = self.key_network.features(views[:, 0])
        return model.features(images), keys[None]

    def forward(
        self, logits: Tensor, targets: Tensor | Mixed, labels: Tensor, features: Tensor, views: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        own: Any = targets  # a class an image: `check` refuses a mix
        with torch.autocast(features.device.type, enabled=False):
            queries = F.normalize(self.projection(features.to(self.queue.dtype)), dim=1)
            with torch.no_grad():
                keys = F.normalize(self.key_projection(views[0].to(self.queue.dtype)), dim=1)
            every_key, every_target = torch.cat([self.queue, keys]), torch.cat([self.queue_targets, own])
            centres = logits.to(self.queue.dtype) + self.log_priors
            options = self.alpha, self.beta, self.temperature
            term = parametric_contrastive(centres, queries, every_key, own, every_target, *options)
        self.queue, self.queue_targets = every_key[len(own) :], every_target[len(own) :]
        return term, labels
