"""Temperatures: what logits are divided by so that the probabilities are as often right as they say."""

from collections.abc import Sequence

import numpy as np

from car_ext.errors import InputError
from car_ext.priors import PerClass, shot_groups

COLDEST, HOTTEST = 0.05, 20.0  # where a fit ends that has no minimum, as that of images that are all right
LEAST_IMAGES = 30  # of a group with a temperature of its own


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The one temperature T of the least mean of -log softmax(z / T)_y, in float64.

    It changes no prediction. The images must be others than those of the training, where a network is too sure of
    itself for good reason, and than those of the test, which would then judge themselves.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Args:
        logits: (N, K) floats.
        targets: (N,) whole numbers in 0 .. K-1.

    Raises:
        InputError: there is no such temperature: no image, all of them right, or logits that tell nothing.
    """
    from scipy.optimize import minimize_scalar

    logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
    if not len(targets):
        raise InputError("there is no image to fit a temperature on")
    true = np.arange(len(targets)), targets

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[true]).mean())

    bounds = np.log([COLDEST, HOTTEST])
    found = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)
    if np.abs(bounds - found).min() < 1e-3:
        why = "all of them are right" if found < 0 else "their logits tell nothing of their classes"
        raise InputError(f"no temperature fits the {len(targets)} held-out images, as {why}: give others, or more")
    return float(np.exp(found))


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
    predicted = np.asarray(logits).argmax(axis=1)
    for group, classes in shot_groups(class_counts).items():
        if not classes.any():
            continue
        chosen = classes[predicted]
        try:
            if chosen.sum() < LEAST_IMAGES:
                raise InputError(
                    f"fewer than {LEAST_IMAGES} held-out images, {chosen.sum()}, are taken for one of them"
                )
            found[group] = fit_temperature(logits[chosen], targets[chosen])
        except InputError as error:
            found[group] = overall
            notes.append(f"{group}-shot classes have the temperature of all, {overall:.4g}: {error}")
    return found, notes


def of_classes(temperatures: dict[str, float], class_counts: PerClass) -> np.ndarray:
    """Temperatures by group as those of the classes that are predicted, (K,) float64."""
    masks = shot_groups(class_counts)
    return sum(temperature * masks[group] for group, temperature in temperatures.items()) + np.zeros(len(masks["few"]))


def tempered(logits: np.ndarray, temperatures: Sequence[float] | np.ndarray) -> np.ndarray:
    """Logits (N, K), each row divided by the temperature of the class that it predicts; (1,) or (K,) temperatures."""
    logits, by_class = np.asarray(logits, np.float64), np.broadcast_to(temperatures, np.shape(logits)[1:])
    return logits / by_class[logits.argmax(axis=1), None]
