"""A number a class, added to finished logits so that the worst classes come out as well as they can.

They are fitted on logits of images that the model has not learnt from: on training logits, where every class is right,
nothing is left to be fitted.
"""

from collections.abc import Callable

import numpy as np

from car_ext.errors import InputError
from car_ext.values import check

STRENGTH = 8.0  # images that the mean of all classes counts for in the accuracy of one
ROUNDS, STEP = 150, 0.033  # of `minimax`; the step in spreads of the logits, half of it in the second half
SHARPNESS, PULL = 10.0, 1e-3  # of `soft_minimum`
LARGEST_LOGITS = 2 * 10**8  # numbers (N, K) that fitting takes at most


def shrunken(right: np.ndarray, images: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Accuracies (K,), each drawn towards the mean of all by as much as its images are few: (r + s m) / (n + s).

    The posterior mean under a Beta prior of mean m and the weight of s images, see `metrics.worst_tenth`. Without it
    one image of a class of two would move an offset as far as a hundred of two hundred.

    Args:
        right: (K,) recognised images of each class; may be fractions of images.
        images: (K,) all of them; a class without any has the mean.
        strength: s.
    """
    seen = images > 0
    mean = float(np.mean(right[seen] / images[seen])) if seen.any() else 0.0
    return (right + strength * mean) / (images + strength)


def minimax(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Offsets under which no class is worse than it must be: the average iterate of multiplicative weights.

    A player weighs classes, w_c <- w_c exp(eta (mean a - a_c)), the other answers with the best prediction under these
    weights, argmax z + log w; averaged over time the weights approach those of the minimax solution (Freund and
    Schapire, Games and Economic Behavior 1999). a_c are `shrunken` accuracies, log w is the offset, and it is the
    second half of the rounds that is averaged.

    The steps are few and short on purpose: longer ones come nearer to the minimax of the images they are fitted on, and
    with a hundred classes of a few images each lost 2 to 7 points of the worst tenth on others (`docs/auto.md`).

    Args:
        logits: (N, K) of held-out images.
        targets: (N,) labels in 0 .. K-1. A class without an image keeps the offset it would have at the mean accuracy.

    Returns:
        (K,) float64 of mean 0.

    Raises:
        InputError: shapes that do not fit.
    """
    logits, images = _checked(logits, targets)
    classes = logits.shape[1]
    offsets, total = np.zeros(classes), np.zeros(classes)
    # Logits of one scale, whatever a loss makes of them: a step is then as long for every head.
    scale = float((logits - logits.mean(axis=1, keepdims=True)).std()) or 1.0
    for round_ in range(ROUNDS):
        hit = (logits + offsets.astype(logits.dtype)).argmax(axis=1) == targets
        accuracies = shrunken(np.bincount(targets[hit], minlength=classes).astype(float), images)
        late = round_ >= ROUNDS // 2
        offsets += scale * STEP * (0.5 if late else 1.0) * (accuracies.mean() - accuracies)
        total += late * offsets
    found = total / (ROUNDS - ROUNDS // 2)
    return found - found.mean()


def soft_minimum(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Offsets b that minimise (1/T) log sum_c exp(-T a_c) + 1e-3 |b|^2, a_c the mean probability of class c's images.

    The mean is drawn to that of all classes as in `shrunken`; T = 10. Smoother than `minimax`, so that the other
    classes pay less for the worst one.

    Args:
        logits: as of `minimax`.
        targets: likewise.

    Returns:
        (K,) float64 of mean 0.

    Raises:
        InputError: shapes that do not fit.
    """
    from scipy.optimize import minimize  # slow to import

    logits, images = _checked(logits, targets)
    classes, rows = logits.shape[1], np.arange(len(targets))
    share = 1 / (images + STRENGTH)
    pooled = STRENGTH / max(int((images > 0).sum()), 1) / np.maximum(images, 1)

    def loss(offsets: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = logits + offsets.astype(logits.dtype)
        shifted -= shifted.max(axis=1, keepdims=True)
        np.exp(shifted, out=shifted)
        shifted /= shifted.sum(axis=1, keepdims=True)
        own = shifted[rows, targets].astype(np.float64)
        sums = np.bincount(targets, own, classes)
        accuracies = share * (sums + (pooled * sums).sum())
        weights = np.exp(-SHARPNESS * (accuracies - accuracies.min()))
        value = (np.log(weights.sum()) - SHARPNESS * accuracies.min()) / SHARPNESS
        slope = -weights / weights.sum() * share  # d value / d accuracies, times share
        by_class = slope + pooled * slope.sum()  # d value / d sums
        flow = by_class[targets] * own
        gradient = np.bincount(targets, flow, classes) - flow @ shifted
        return value + PULL * float(offsets @ offsets), gradient + 2 * PULL * offsets

    found = minimize(loss, np.zeros(classes), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    return found - found.mean()


def drops(logits: np.ndarray, targets: np.ndarray, delta: float = 0.1) -> np.ndarray:
    """Offsets for the worst class frequencies within a distance of even ones: distributionally robust post-hoc.

    b = log g, where g = argmax of sum_c g_c L_c(b) over KL(g || even) <= delta, and L_c the mean cross-entropy of class
    c's images under z + b. Wei et al., Distributionally Robust Post-hoc Classifiers under Prior Shifts, ICLR 2023. The
    multiplier of the constraint is found by bisection, and g moves half way a round: the published update lets it
    become negative.

    Args:
        logits: as of `minimax`.
        targets: likewise.
        delta: the distance; 0 leaves everything as it is.

    Returns:
        (K,) float64 of mean 0.

    Raises:
        InputError: shapes that do not fit, or a negative delta.
    """
    check("delta", delta, 0 <= delta < float("inf"), "a number of at least 0")
    logits, images = _checked(logits, targets)
    classes, rows = logits.shape[1], np.arange(len(targets))
    offsets = np.zeros(classes)
    for _ in range(25):
        shifted = logits + offsets.astype(logits.dtype)
        top = shifted.max(axis=1)
        losses = np.log(np.exp(shifted - top[:, None]).sum(axis=1)) + top - shifted[rows, targets]
        of_class = np.bincount(targets, losses, classes) / np.maximum(images, 1)
        of_class[images == 0] = of_class[images > 0].mean() if (images > 0).any() else 0.0
        found = np.log(_worst_shares(of_class, delta))
        offsets = 0.5 * offsets + 0.5 * (found - found.mean())
    return offsets - offsets.mean()


FITS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "minimax": minimax,
    "soft minimum": soft_minimum,
    "DROPS": drops,
}


def _worst_shares(losses: np.ndarray, delta: float) -> np.ndarray:
    """g ~ exp(L / lam) with KL(g || even) = delta, or nearest to it: (K,) of sum 1."""
    low, high = 1e-3, 1e6  # of lam; the distance falls as it rises
    for _ in range(60):
        lam = np.sqrt(low * high)
        shares = np.exp((losses - losses.max()) / lam)
        shares = np.maximum(shares / shares.sum(), 1e-12)
        distance = float((shares * np.log(shares * len(shares))).sum())
        low, high = (lam, high) if distance > delta else (low, lam)
    return shares


def _checked(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits as floats and the images (K,) of each class."""
    logits = np.asarray(logits)
    if logits.ndim != 2 or np.shape(targets) != logits.shape[:1] or not logits.size:
        raise InputError(
            f"logits have shape {logits.shape} and targets {np.shape(targets)}: give (N, K) and (N,), N at least 1"
        )
    logits = logits if logits.dtype == np.float64 else logits.astype(np.float32)
    return logits, np.bincount(targets, minlength=logits.shape[1])
