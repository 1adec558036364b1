"""Temperatures: what logits are divided by so that the probabilities are as often right as they say."""

from collections.abc import Mapping, Sequence

import numpy as np

from car_ext.errors import InputError
from car_ext.priors import PerClass, shot_groups

COLDEST, HOTTEST = 0.05, 20.0  # where a fit ends that has no minimum, as that of images that are all right
LEAST_IMAGES = 30  # of a group with a temperature of its own


def fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The one temperature T of the least `balanced_loss` of z / T, in float64.

    It changes no prediction. The images must be others than those of the training, where a network is too sure of
    itself for good reason, and than those of the test, which would then judge themselves. Every class weighs the same,
    as it does in a balanced test set: held-out images of a long tail are mostly of frequent classes, whose temperature
    makes a network surer still of the rare ones that it gets wrong.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, where images weigh the same; on the long
    tail see Chen and Su, Transfer Knowledge from Head to Tail, CVPR 2023.

    Args:
        logits: (N, K) floats.
        targets: (N,) whole numbers in 0 .. K-1.
        weights: as of `balanced_loss`.

    Raises:
        InputError: there is no such temperature: no image, all of them right, or logits that tell nothing.
    """
    from scipy.optimize import minimize_scalar

    logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
    if not len(targets):
        raise InputError("there is no image to fit a temperature on")
    bounds = np.log([COLDEST, HOTTEST])

    def loss(log_temperature: float) -> float:
        return balanced_loss(logits / np.exp(log_temperature), targets, weights)

    found = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)
    if np.abs(bounds - found).min() < 1e-3:
        why = "all of them are right" if found < 0 else "their logits tell nothing of their classes"
        raise InputError(f"no temperature fits the {len(targets)} held-out images, as {why}: give others, or more")
    return float(np.exp(found))


def balanced_loss(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The weighted mean of -log softmax(z)_y; by default every class that has images weighs the same.

    Args:
        logits: (N, K) floats.
        targets: (N,) whole numbers in 0 .. K-1.
        weights: (N,) of the images; one over the images of its class where None.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    return float(np.average(losses, weights=balanced_weights(targets) if weights is None else weights))


def balanced_weights(targets: np.ndarray) -> np.ndarray:
    """One over the number of images of its class, (N,), of images with labels (N,)."""
    return 1 / np.bincount(targets)[targets]


def fit_group_temperatures(
    logits: np.ndarray, targets: np.ndarray, class_counts: PerClass
) -> tuple[dict[str, float], list[str]]:
    """A temperature for each of the many-, medium- and few-shot classes, by the class that is predicted.

    An image whose predicted class is of a group has all its logits divided by that group's temperature, so that no
    prediction changes; one temperature a class's own logit would change them. Each is `fit_temperature` on the images
    that are predicted as of its group: a probability is then right for what is said, not only on average. A group
    that fits none, or has too few images, has the temperature of all.

    Source: Guo et al., ICML 2017; conditioning on the predicted class as Gupta and Ramdas, Top-label Calibration and
    Multiclass-to-binary Reductions, ICLR 2022.

    Returns:
        Group to temperature, of the groups that have classes, and a sentence on each that has that of all.

    Raises:
        InputError: as `fit_temperature`, for all images together.
    """
    overall, found, notes = fit_temperature(logits, targets), dict[str, float](), list[str]()
    predicted, weights = np.asarray(logits).argmax(axis=1), balanced_weights(targets)
    for group, classes in shot_groups(class_counts).items():
        if not classes.any():
            continue
        chosen = classes[predicted]
        try:
            if chosen.sum() < LEAST_IMAGES:
                raise InputError(
                    f"fewer than {LEAST_IMAGES} held-out images, {chosen.sum()}, are taken for one of them"
                )
            found[group] = fit_temperature(logits[chosen], targets[chosen], weights[chosen])
        except InputError as error:
            found[group] = overall
            notes.append(f"{group}-shot classes have the temperature of all, {overall:.4g}: {error}")
    return found, notes


def of_classes(temperatures: Mapping[str, float], class_counts: PerClass) -> np.ndarray:
    """Temperatures by group, or {"all": T}, as those of the classes that are predicted: (K,) float64, or (1,)."""
    if "all" in temperatures:
        return np.array([temperatures["all"]])
    masks = shot_groups(class_counts)
    return sum(temperature * masks[group] for group, temperature in temperatures.items()) + np.zeros(len(masks["few"]))


def tempered(logits: np.ndarray, temperatures: Sequence[float] | np.ndarray) -> np.ndarray:
    """Logits (N, K), each row divided by the temperature of the class that it predicts; (1,) or (K,) temperatures."""
    logits, by_class = np.asarray(logits, np.float64), np.broadcast_to(temperatures, np.shape(logits)[1:])
    return logits / by_class[logits.argmax(axis=1), None]
