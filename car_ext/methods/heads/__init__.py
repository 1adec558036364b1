"""Classifier heads: features (N, D) to logits (N, K). Row c of a head's `weight` (K, D) stands for class c."""

from torch import nn

from car_ext.errors import InputError
from car_ext.methods.heads.base import weight_of
from car_ext.methods.registry import build
from car_ext.priors import PerClass


def build_head(
    spec: str, in_features: int, num_classes: int, class_counts: PerClass, init: nn.Module | None = None
) -> nn.Module:
    """A head by name, such as `linear`, `cosine:scale=16` or `tau_norm:tau=0.7`.

    Args:
        spec: `NAME[:option=value,...]`.
        in_features: D.
        num_classes: K.
        class_counts: (K,) training images of each class.
        init: the finished head that `lws`, `tau_norm`, `disalign` and `logit_adjusted` start from; they work on
            a copy. `linear`, `cosine` and `ncm` begin anew, whatever it is.

    Raises:
        InputError: an unknown name or option, an option out of range, an `init` that is missing or of other shape.
    """
    if init is not None and weight_of(init).shape != (num_classes, in_features):
        raise InputError(
            f"the head to start from has weight {tuple(weight_of(init).shape)}, not ({num_classes}, {in_features}): "
            "take the one of a model with the same features and classes"
        )
    return build("head", spec, in_features, num_classes, class_counts, init)
