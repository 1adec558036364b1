"""The accuracy of the worst tenth of the classes, made smooth: what a search can climb."""

import numpy as np

STRENGTH = 2.0  # images that the prior counts for


def smoothed_worst_tenth(right: np.ndarray, images: np.ndarray) -> float | None:
    """Mean of the lowest ceil(K / 10) posterior mean accuracies of the classes.

    A class of which r of n images are recognised has some accuracy a; r has the likelihood a^r (1 - a)^(n - r). Before
    the images are seen, all that is known of a is the accuracy m over all images: the prior is Beta(s m, s (1 - m)),
    with mean m and the weight of s = `STRENGTH` images. Prior and likelihood multiply to
    Beta(s m + r, s (1 - m) + n - r), whose mean is

        (r + s m) / (n + s).

    The lowest plain accuracies are 0 for many a setting, and of classes of few images they are chance: one image of one
    is 0 or 1. These means tell settings apart where the plain ones are all 0, since m and n count; one image more that
    is recognised always raises the result if its class is among the worst tenth; and a class of few images stays close
    to m. As n grows the prior is forgotten. Conjugate prior: Gelman et al., Bayesian Data Analysis, 2013, chapter 2.

    Args:
        right: (K,) recognised images of each class; over several runs and folds their sum.
        images: (K,) all of them, summed alike.

    Returns:
        A fraction; None without images. Classes without images are left out.
    """
    if not images.sum():
        return None
    right, images = right[images > 0], images[images > 0]
    prior = right.sum() / images.sum()
    means = np.sort((right + STRENGTH * prior) / (images + STRENGTH))
    return float(means[: -(-means.size // 10)].mean())
