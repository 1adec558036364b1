"""The order in which a confusion matrix shows its classes."""

from collections.abc import Sequence

import numpy as np

from car_ext.metrics.bounds import error_rates
from car_ext.metrics.confusions import Confusions

SHOWN = 5000  # classes in a matrix: what a page of 5 MB and 0.2 GB of distances hold
OPTIMAL = 150  # classes up to which the best order of the leaves is found in no noticeable time


def clustered(confusions: Sequence[Confusions]) -> np.ndarray:
    """Labels in an order that puts classes which are confused with one another side by side.

    Of more than SHOWN classes those alone that most mistakes are between, see `most_confused`. Hierarchical clustering
    with average linkage; two classes are the closer, the larger the sum of their error rates in both directions. Up to
    OPTIMAL classes the leaves are then turned so that neighbours are as close as the tree lets them (Bar-Joseph et al.,
    Bioinformatics 2001).

    Args:
        confusions: of one or several models over the same classes, which count alike.

    Returns:
        (min(K, SHOWN),) int64 labels.
    """
    # Imported here: only those wait for it who have a confusion matrix to show.
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    classes = len(confusions[0])
    if classes < 3:
        return np.arange(classes)
    labels = np.arange(classes) if classes <= SHOWN else most_confused(confusions)
    classes = len(labels)
    places = np.full(len(confusions[0]), -1)
    places[labels] = np.arange(classes)
    closeness = np.zeros((classes, classes), np.float32)
    for confusion in confusions:
        predicted, true, rates = error_rates(confusion)
        inside = (places[predicted] >= 0) & (places[true] >= 0)
        closeness[places[predicted[inside]], places[true[inside]]] += rates[inside]
    closeness += closeness.T
    distances = squareform(closeness.max() - closeness, checks=False)
    tree = linkage(distances, method="average")
    if classes <= OPTIMAL:
        tree = optimal_leaf_ordering(tree, distances)
    return labels[leaves_list(tree)].astype(np.int64)


def most_confused(confusions: Sequence[Confusions]) -> np.ndarray:
    """The SHOWN classes that a picture of the mistakes needs most, (SHOWN,) int64 labels, rising.

    Pair by pair, those of which most images are confused in either direction first, so that what a class is taken for
    is there with it; then, where all pairs leave room, the lowest labels.
    """
    wrong = sum((confusion.wrong for confusion in confusions[1:]), confusions[0].wrong)
    low, high = np.minimum(wrong.predicted, wrong.true), np.maximum(wrong.predicted, wrong.true)
    pairs = Confusions.of_entries(wrong.classes, low, high, wrong.counts)
    order = np.argsort(-pairs.counts, kind="stable")
    named = np.stack([pairs.predicted[order], pairs.true[order]], axis=1).ravel()
    named = np.concatenate([named, np.arange(wrong.classes)])
    _, first = np.unique(named, return_index=True)
    return np.sort(named[np.sort(first)[:SHOWN]])
