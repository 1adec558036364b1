"""Cutting a training set down to a long-tailed profile: how many images of each class, and which."""

import bisect
from collections.abc import Sequence

import numpy as np

from car_ext.datasets.draw import by_class
from car_ext.datasets.profiles import exponential_profile, step_profile
from car_ext.errors import InputError
from car_ext.values import check

PROFILES = {"exp": exponential_profile, "step": step_profile}
SELECTIONS = ("seeded", "first")


def imbalance(
    targets: np.ndarray,
    class_names: Sequence[str],
    imbalance_ratio: float | None,
    profile: str = "exp",
    selection: str = "first",
    seed: int = 0,
) -> np.ndarray:
    """Which samples to keep so that the class counts fall from the largest class to the smallest.

    The profile starts from the largest class and runs over the classes by falling count, ties in label order:
    label order for a balanced set, as CIFAR10-LT has it, and the existing order for one that is already
    long-tailed. Which n_c samples of class c stay is one of the field's two rules, on the same machine or another
    always the same ones:

    - "seeded": np.random.seed(seed), then for c = 0 .. K-1 np.random.shuffle of the positions of class c, of which the
      first n_c stay. Source: Cao et al. (LDAM), NeurIPS 2019, with seed 0, and most after it.
    - "first": the first n_c in the order of targets. Source: Alshammari et al. (weight balancing), CVPR 2022.

    Args:
        targets: (N,) int64 labels.
        class_names: K names, for the error messages.
        imbalance_ratio: largest over smallest class count, at least 1; None keeps every sample.
        profile: "exp" (`profiles.exponential_profile`) or "step" (`profiles.step_profile`).
        selection: "seeded" or "first".
        seed: of the shuffles, from 0 to 2**32 - 1; "first" draws nothing.

    Returns:
        (M,) int64 positions into targets, class by class in the order of the rule, as the published code stores them.

    Raises:
        InputError: an unknown profile or selection, an imbalance_ratio below 1 or not finite, one that needs more
            images of a class than there are, or one that leaves a class without any.
    """
    check("profile", profile, profile in PROFILES, " or ".join(PROFILES))
    check("selection", selection, selection in SELECTIONS, " or ".join(SELECTIONS))
    if imbalance_ratio is None:
        return np.arange(len(targets))
    available = np.bincount(targets, minlength=len(class_names))
    order = np.argsort(-available, kind="stable")
    needed = np.empty_like(available)
    needed[order] = PROFILES[profile](int(available.max()), len(class_names), imbalance_ratio)
    if (needed > available).any():
        label = int(np.argmax(needed / np.maximum(available, 1)))
        raise InputError(
            f"class {class_names[label]!r} has {available[label]} training images but imbalance "
            f"ratio {imbalance_ratio:g} needs {needed[label]}; {_advice(available[order], profile)}"
        )
    if not needed.all():
        emptied = class_names[int(needed.argmin())]
        raise InputError(
            f"imbalance ratio {imbalance_ratio:g} leaves class {emptied!r} without training "
            f"images; use a smaller one (the largest class has {available.max()})"
        )
    # NumPy promises that the stream of RandomState, which np.random.seed seeds as well, never changes.
    random = np.random.RandomState(seed)
    kept = []
    for positions, count in zip(by_class(targets, len(class_names)), needed, strict=True):
        if selection == "seeded":
            random.shuffle(positions)
        kept.append(positions[:count])
    return np.concatenate(kept)


def _advice(falling: np.ndarray, profile: str) -> str:
    """The smallest ratio, in hundredths, whose profile fits under the falling class counts."""
    max_count = int(falling[0])

    def counts(hundredths: int) -> np.ndarray:
        return PROFILES[profile](max_count, len(falling), hundredths / 100)

    ratios = range(100, 100 * max_count + 1)  # above the last one the smallest class would be empty
    at = bisect.bisect_left(ratios, True, key=lambda hundredths: bool((counts(hundredths) <= falling).all()))
    if at == len(ratios) or not counts(ratios[at]).all():
        return "no imbalance ratio fits these files: leave it out to use them as they are"
    return f"the smallest ratio these files allow is {ratios[at] / 100:.10g}"
