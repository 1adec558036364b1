"""The order in which a confusion matrix shows its classes."""

import numpy as np

from car_ext.metrics.bounds import error_rates

OPTIMAL = 150  # classes up to which the best order of the leaves is found in no noticeable time


def clustered(confusions: list[np.ndarray]) -> np.ndarray:
    """Labels in an order that puts classes which are confused with one another side by side.

    Hierarchical clustering with average linkage; two classes are the closer, the larger the sum of their error rates in
    both directions. Up to OPTIMAL classes the leaves are then turned so that neighbours are as close as the tree lets
    them (Bar-Joseph et al., Bioinformatics 2001).

    Args:
        confusions: (K, K) counts each, row = predicted, column = true: of one or several models over the same classes,
            which count alike.

    Returns:
        (K,) int64 labels.
    """
    # Imported here: only those wait for it who have a confusion matrix to show.
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    classes = len(confusions[0])
    if classes < 3:
        return np.arange(classes)
    closeness = np.zeros((classes, classes), np.float32)
    for confusion in confusions:
        predicted, true, rates = error_rates(confusion)
        closeness[predicted, true] += rates
    closeness += closeness.T
    distances = squareform(closeness.max() - closeness, checks=False)
    tree = linkage(distances, method="average")
    if classes <= OPTIMAL:
        tree = optimal_leaf_ordering(tree, distances)
    return leaves_list(tree).astype(np.int64)
