"""Labels of a mixed image that also say what it looks like."""

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.priors import PerClass, check_class_counts


@torch.no_grad()
def semantic_targets(
    features_mix: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    class_counts: PerClass,
    topk: int,
    omega_scale: float,
) -> Tensor:
    """Semantically consistent labels of ConCutMix: `omega q + (1 - omega) T`, without gradient.

    q_k ~ 1 / |f - p_k|_2 for the `topk` nearest prototypes, 0 for the others, sum 1;
    omega = omega_scale * log(sum_k n_k T_k) / sum_k log n_k.
    Source: Pan et al., ConCutMix, IEEE TIP 2024, and the authors' published code. That omega is small: at most 1.3e-3
    with the published omega_scale on CIFAR100-LT.

    Args:
        features_mix: (B, F) projected features h(f(x)) of the mixed images, not normalised.
        prototypes: (K, F) projected class vectors, h_c(w_k) of the K rows of the classifier's weight, not normalised.
            The published code passes the transposed weight where the classifier is linear, which gives D prototypes
            that stand for no class.
        targets: (B, K) labels by area, each row of sum 1, as `Mixed.soft_targets`.
        class_counts: (K,) training images of each class.
        topk: prototypes that get a share; 30 on CIFAR100-LT, 3 on CIFAR10-LT.
        omega_scale: 20 / 255 on CIFAR100-LT, 2 / 255 on CIFAR10-LT.

    Returns:
        (B, K) of the dtype of `targets`, each row of sum 1.

    Raises:
        InputError: prototypes, targets and class_counts that disagree about K, or topk outside 1 .. K.
    """
    counts = torch.from_numpy(check_class_counts(class_counts)).to(targets)
    classes = len(counts)
    if len(prototypes) != classes or targets.shape[1] != classes:
        raise InputError(
            f"{len(prototypes)} prototypes and {targets.shape[1]} columns of targets for {classes} classes: "
            "give one of each a class"
        )
    if not 1 <= topk <= classes:
        raise InputError(f"topk is {topk}: give a number of classes from 1 to {classes}")
    # By differences: the matrix product that cdist prefers loses the small distances, which matter most here.
    distances = torch.cdist(
        features_mix.to(targets), prototypes.to(targets), compute_mode="donot_use_mm_for_euclid_dist"
    )
    nearness, nearest = distances.clamp_min(1e-12).reciprocal().topk(topk, dim=1)
    looks = torch.zeros_like(targets).scatter(1, nearest, nearness / nearness.sum(dim=1, keepdim=True))
    # One image a class would divide 0 by 0.
    omega = omega_scale * (targets @ counts).log() / counts.log().sum().clamp_min(1e-12)
    return torch.lerp(targets, looks, omega[:, None])
