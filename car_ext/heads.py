"""Classifier heads: features (N, D) to logits (N, K). Row c of a head's ``weight`` (K, D) stands for class c."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.priors import relative_frequencies
from car_ext.registry import build, register

_DECOUPLING = "Kang et al., ICLR 2020"


def build_head(
    spec: str, in_features: int, num_classes: int, class_counts: Sequence[int], init: nn.Module | None = None
) -> nn.Module:
    """A head by name, such as ``linear``, ``cosine:scale=16`` or ``tau_norm:tau=0.7``.

    Args:
        spec: ``NAME[:option=value,...]``.
        in_features: D.
        num_classes: K.
        class_counts: (K,) training images of each class.
        init: the finished head that ``lws``, ``tau_norm``, ``disalign`` and ``logit_adjusted`` start from; they work on
            a copy. ``linear``, ``cosine`` and ``ncm`` begin anew, whatever it is.

    Raises:
        InputError: an unknown name or option, an option out of range, an ``init`` that is missing or of other shape.
    """
    if init is not None and init.weight.shape != (num_classes, in_features):
        raise InputError(
            f"the head to start from has weight {tuple(init.weight.shape)}, not ({num_classes}, {in_features}): "
            "take the one of a model with the same features and classes"
        )
    return build("head", spec, in_features, num_classes, class_counts, init)


@register(
    "head",
    "linear",
    title="Linear classifier",
    source="standard; retrained on a frozen backbone: cRT, " + _DECOUPLING,
    formula="w_c . x + b_c",
    published="cRT, ImageNet-LT, ResNeXt-50: 49.6",
)
def _linear(in_features: int, num_classes: int, *_: object) -> nn.Linear:
    return nn.Linear(in_features, num_classes)


@register(
    "head",
    "cosine",
    title="Cosine classifier",
    source="as in LDAM, Cao et al., NeurIPS 2019",
    formula="scale * w_c . x / (|w_c| |x|)",
    published="retrained on a ResNet-34, CIFAR100-LT (imbalance ratio 100): 52.20",
)
class Cosine(nn.Module):
    """``scale`` times the cosine between feature and class vector; no bias. Class vectors begin with norm one."""

    def __init__(self, in_features: int, num_classes: int, *_: object, scale: float = 30.0) -> None:
        super().__init__()
        if not 0 < scale < float("inf"):
            raise InputError(f"scale of head 'cosine' is {scale:g}: give a positive number")
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, in_features).uniform_(-1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * _cosine(features, self.weight)


@register(
    "head",
    "ncm",
    title="Nearest class mean (NCM)",
    source=_DECOUPLING,
    formula="cos(x, m_c), or -|x - m_c|^2",
    published="ImageNet-LT, ResNeXt-50: 47.3",
)
class NearestClassMean(nn.Module):
    """Logits that are largest for the class whose mean feature is nearest. ``weight`` is the means, NaN until `fit`.

    ``metric``: "cosine", or "l2": then the logits are -|x - m_c|^2 + |x|^2; what was added is the same for every
    class, so that neither softmax nor argmax sees it.
    """

    def __init__(self, in_features: int, num_classes: int, *_: object, metric: str = "cosine") -> None:
        super().__init__()
        if metric not in ("cosine", "l2"):
            raise InputError(f"metric of head 'ncm' is {metric!r}: give cosine or l2")
        self.metric = metric
        self.register_buffer("weight", torch.full((num_classes, in_features), torch.nan))

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor) -> "NearestClassMean":
        """Take the class means of features (N, D), float, with targets (N,), int64; returns itself.

        Raises:
            InputError: a class without a feature.
        """
        # On the CPU the order of the sums, and so their rounding, is always the same.
        features, targets = features.double().cpu(), targets.cpu()
        counts = targets.bincount(minlength=len(self.weight))
        if not counts.all():
            raise InputError(f"class {int(counts.argmin())} has no feature to take a mean of: give all training images")
        sums = features.new_zeros(self.weight.shape).index_add_(0, targets, features)
        self.weight.copy_(sums / counts[:, None])
        return self

    def forward(self, features: Tensor) -> Tensor:
        if self.metric == "cosine":
            return _cosine(features, self.weight)
        return F.linear(features, 2 * self.weight, -self.weight.square().sum(dim=1))


@register(
    "head",
    "finished",
    title="The finished head, trained on",
    source="as in LOS, Sun et al., ICLR 2025",
    formula="what it was, w_c . x + b_c for a linear one",
)
def _trained_on(
    in_features: int, num_classes: int, class_counts: Sequence[int], init: nn.Module | None = None
) -> nn.Module:
    return copy.deepcopy(_finished(init, "finished")).requires_grad_()


class _OnFinished(nn.Module):
    """Base of heads on top of a finished one, of which they keep a frozen copy."""

    def __init__(self, init: nn.Module | None, name: str) -> None:
        super().__init__()
        self.head = copy.deepcopy(_finished(init, name))
        # As buffers, out of reach of optimizers and of requires_grad_ on the whole head.
        for module in self.head.modules():
            for key, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, key)
                module.register_buffer(key, parameter.detach())

    @property
    def weight(self) -> Tensor:
        return self.head.weight


@register(
    "head",
    "lws",
    title="Learnable weight scaling (LWS)",
    source=_DECOUPLING,
    formula="s_c (w_c . x + b_c), only s learns, from 1",
    published="ImageNet-LT, ResNeXt-50: 49.9",
)
class LearnableWeightScaling(_OnFinished):
    """A frozen head and one learnable factor a class."""

    def __init__(
        self, in_features: int, num_classes: int, class_counts: Sequence[int], init: nn.Module | None = None
    ) -> None:
        super().__init__(init, "lws")
        self.scale = nn.Parameter(self.weight.new_ones(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.head(features)


@register(
    "head",
    "disalign",
    title="DisAlign",
    source="Zhang et al., CVPR 2021",
    formula="(1 + c a_k) z_k + c b_k with c = sigmoid(v . x + d); z frozen, a from 1, b from 0",
    published="ImageNet-LT, ResNeXt-50: 52.4",
    notes="the head alone; its loss weighs class k by pi_k^-1.2",
)
class DisAlign(_OnFinished):
    """A frozen head, calibrated by a factor and an offset a class where a learnt confidence in the feature is high."""

    def __init__(
        self, in_features: int, num_classes: int, class_counts: Sequence[int], init: nn.Module | None = None
    ) -> None:
        super().__init__(init, "disalign")
        self.scale = nn.Parameter(self.weight.new_ones(num_classes))
        self.offset = nn.Parameter(self.weight.new_zeros(num_classes))
        self.confidence = nn.Linear(in_features, 1, device=self.weight.device, dtype=self.weight.dtype)
        nn.init.constant_(self.confidence.weight, 0.1)
        nn.init.zeros_(self.confidence.bias)

    def forward(self, features: Tensor) -> Tensor:
        confidence = self.confidence(features).sigmoid()
        return (1 + confidence * self.scale) * self.head(features) + confidence * self.offset


class _Shifted(_OnFinished):
    """A frozen head less a constant a class."""

    def __init__(self, init: nn.Module, shift: Tensor) -> None:
        super().__init__(init, "logit_adjusted")
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features) - self.shift


def tau_normalized(head: nn.Linear, tau: float = 1.0, drop_bias: bool = True) -> nn.Linear:
    """A linear head whose class vectors are ``w_c / |w_c|^tau``, without training.

    Source: Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020.

    Args:
        head: the finished head; left alone.
        tau: 0 keeps the norms, 1 makes them one. Chosen on held-out images, from 0 to 2.
        drop_bias: as published; others keep it.

    Raises:
        InputError: a head that is not linear, or a tau that is not finite.
    """
    if not isinstance(head, nn.Linear):
        raise InputError(f"tau_norm is for a linear head, not for {type(head).__name__}: train one first")
    _check_tau(tau, "tau_norm")
    norms = head.weight.detach().norm(dim=1, keepdim=True).clamp_min(1e-12)
    return _frozen_linear(head.weight / norms**tau, None if drop_bias else head.bias)


def logit_adjusted(head: nn.Module, class_counts: Sequence[int], tau: float = 1.0) -> nn.Module:
    """A head whose logits are those of ``head`` less ``tau * log pi_c``, pi the training frequencies; no training.

    Source: Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, section 4.1. For a head trained with
    plain cross-entropy: one trained with a logit-adjusted loss has it already.

    Args:
        head: the finished head; left alone.
        class_counts: (K,) training images of each class.
        tau: 1 by default; chosen on held-out images where there are any.

    Returns:
        An ``nn.Linear`` for an ``nn.Linear``, with the adjustment in its bias.

    Raises:
        InputError: class_counts that are not counts or not K, or a tau that is not finite.
    """
    _check_tau(tau, "logit_adjusted")
    shift = tau * torch.from_numpy(np.log(relative_frequencies(class_counts))).to(head.weight)
    if len(shift) != len(head.weight):
        raise InputError(f"class_counts has {len(shift)} entries for a head of {len(head.weight)} classes")
    if not isinstance(head, nn.Linear):
        return _Shifted(head, shift)
    return _frozen_linear(head.weight, -shift if head.bias is None else head.bias - shift)


@register(
    "head",
    "tau_norm",
    title="tau-normalised classifier",
    source=_DECOUPLING,
    formula="w_c . x / |w_c|^tau; no training",
    published="ImageNet-LT, ResNeXt-50: 49.4",
)
def _tau_norm(
    in_features: int,
    num_classes: int,
    class_counts: Sequence[int],
    init: nn.Module | None = None,
    *,
    tau: float = 1.0,
    drop_bias: bool = True,
) -> nn.Linear:
    return tau_normalized(_finished(init, "tau_norm"), tau, drop_bias)


@register(
    "head",
    "logit_adjusted",
    title="Post-hoc logit adjustment",
    source="Menon et al., ICLR 2021",
    formula="z_c - tau log pi_c; no training",
    published="ResNet-32 (imbalance ratio 100): CIFAR10-LT 77.32, CIFAR100-LT 44.07",
)
def _logit_adjusted(
    in_features: int,
    num_classes: int,
    class_counts: Sequence[int],
    init: nn.Module | None = None,
    *,
    tau: float = 1.0,
) -> nn.Module:
    return logit_adjusted(_finished(init, "logit_adjusted"), class_counts, tau)


def _cosine(features: Tensor, weight: Tensor) -> Tensor:
    return F.linear(F.normalize(features), F.normalize(weight))


def _finished(init: nn.Module | None, name: str) -> nn.Module:
    if init is None:
        raise InputError(f"head {name!r} starts from a finished head: give it one, of a model trained before")
    return init


def _check_tau(tau: float, name: str) -> None:
    if not abs(tau) < float("inf"):
        raise InputError(f"tau of head {name!r} is {tau}: give a finite number")


@torch.no_grad()
def _frozen_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    classes, features = weight.shape
    # skip_init: the random initial weights would only move the generator.
    head = nn.utils.skip_init(
        nn.Linear, features, classes, bias=bias is not None, device=weight.device, dtype=weight.dtype
    ).requires_grad_(False)
    head.weight.copy_(weight)
    if bias is not None:
        head.bias.copy_(bias)
    return head
