"""Corrections of a finished head without training: tau-normalisation and logit adjustment."""

import numpy as np
import torch
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.heads.base import OnFinished, finished_head, weight_of
from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING
from car_ext.priors import PerClass, relative_frequencies
from car_ext.values import check


class _Shifted(OnFinished):
    """A frozen head less a constant a class."""

    shift: Tensor

    def __init__(self, init: nn.Module, shift: Tensor) -> None:
        super().__init__(init, "logit_adjusted")
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features) - self.shift


def tau_normalized(head: nn.Module, tau: float = 1.0, drop_bias: bool = True) -> nn.Linear:
    """A linear head whose class vectors are `w_c / |w_c|^tau`, without training.

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
    check("tau of head 'tau_norm'", tau, abs(tau) < float("inf"), "finite")
    norms = head.weight.detach().norm(dim=1, keepdim=True).clamp_min(1e-12)
    return _frozen_linear(head.weight / norms**tau, None if drop_bias else head.bias)


def logit_adjusted(head: nn.Module, class_counts: PerClass, tau: float = 1.0) -> nn.Module:
    """A head whose logits are those of `head` less `tau * log pi_c`, pi the training frequencies; no training.

    Source: Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, section 4.1. For a head trained with
    plain cross-entropy: one trained with a logit-adjusted loss has it already.

    Args:
        head: the finished head; left alone.
        class_counts: (K,) training images of each class.
        tau: 1 by default; chosen on held-out images where there are any.

    Returns:
        An `nn.Linear` for an `nn.Linear`, with the adjustment in its bias.

    Raises:
        InputError: class_counts that are not counts or not K, or a tau that is not finite.
    """
    check("tau of head 'logit_adjusted'", tau, abs(tau) < float("inf"), "finite")
    weight = weight_of(head)
    shift = tau * torch.from_numpy(np.log(relative_frequencies(class_counts))).to(weight)
    if len(shift) != len(weight):
        raise InputError(f"class_counts has {len(shift)} entries for a head of {len(weight)} classes")
    if not isinstance(head, nn.Linear):
        return _Shifted(head, shift)
    return _frozen_linear(head.weight, -shift if head.bias is None else head.bias - shift)


@register(
    "head",
    "tau_norm",
    title="tau-normalised classifier",
    source=DECOUPLING,
    formula="w_c . x / |w_c|^tau; no training",
    published="ImageNet-LT, ResNeXt-50: 49.4",
)
def _tau_norm(
    in_features: int,
    num_classes: int,
    class_counts: PerClass,
    init: nn.Module | None = None,
    *,
    tau: float = 1.0,
    drop_bias: bool = True,
) -> nn.Linear:
    return tau_normalized(finished_head(init, "tau_norm"), tau, drop_bias)


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
    class_counts: PerClass,
    init: nn.Module | None = None,
    *,
    tau: float = 1.0,
) -> nn.Module:
    return logit_adjusted(finished_head(init, "logit_adjusted"), class_counts, tau)


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
