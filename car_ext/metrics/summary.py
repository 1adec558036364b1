"""Scores of a classifier, the worst class in front, from counts alone: every runtime shares them."""

from collections.abc import Sequence

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.bounds import confusion_bounds
from car_ext.priors import check_class_counts, shot_groups, spectral_weights

R0 = 0.2  # of the weights in the confusion norm and in wce
LEAST_ACCURACY = 1e-5  # the harmonic mean's; without it one class at 0 would be all it shows


def confusion_counts(predictions: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts how often each class was predicted for each true class.

    Args:
        predictions: (N,) whole numbers in 0 .. K-1.
        targets: (N,) whole numbers in 0 .. K-1.
        num_classes: K.

    Returns:
        (K, K) int64; row = predicted, column = true. Batches add up.

    Raises:
        InputError: different lengths, or a label outside 0 .. K-1.
    """
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    if predictions.shape != targets.shape or targets.ndim != 1:
        raise InputError(
            f"predictions have shape {predictions.shape} and targets {targets.shape}: give one of each for every image"
        )
    check_labels("predictions", predictions, num_classes)
    check_labels("targets", targets, num_classes)
    cells = predictions.astype(np.int64) * num_classes + targets.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def check_labels(kind: str, labels: np.ndarray, num_classes: int) -> None:
    """Holds (N,) labels to 0 .. K-1.

    Raises:
        InputError: one lies outside; `kind` says in the message what the labels are.
    """
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise InputError(
            f"{kind} hold label {wrong}, outside 0 to {num_classes - 1}: use the class names the model was trained with"
        )


def class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """Accuracy of each class: (K, K) counts to (K,) float64 fractions, NaN for a class without images."""
    return _ratio(np.diag(confusion), confusion.sum(axis=0))


def worst_accuracy(confusion: np.ndarray) -> float | None:
    """The lowest class accuracy of a (K, K) confusion matrix, as a fraction; None when it holds no image."""
    return _lowest(class_accuracies(confusion))


def group_accuracies(confusion: np.ndarray, class_counts: Sequence[int]) -> dict[str, float | None]:
    """The few scores worth a line an epoch, with the keys and values that `summarize` gives them.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        class_counts: (K,) training images a class.

    Returns:
        {"overall_accuracy", "balanced_accuracy", "worst_class_accuracy", "many", "medium", "few"}.

    Raises:
        InputError: bad class_counts, or numbers of classes that disagree.
    """
    counts = _check(confusion, class_counts)
    accuracies = class_accuracies(confusion)
    return {
        "overall_accuracy": _number(_ratio(np.trace(confusion), confusion.sum())),
        "balanced_accuracy": _mean(accuracies),
        "worst_class_accuracy": _lowest(accuracies),
        **{group: _mean(accuracies[mask]) for group, mask in shot_groups(counts).items()},
    }


def summarize(
    confusion: np.ndarray,
    class_counts: Sequence[int],
    class_names: Sequence[str],
    train_worst_class_accuracy: float | None = None,
    train_confusion: np.ndarray | None = None,
) -> dict:
    """Every score of one evaluation, ready for JSON: fractions as floats, None where undefined.

    A class without a test image has no accuracy and is left out of minima and means. With a_c the accuracies:

    - worst_class_ratio: the worst test over the worst training accuracy (they may belong to different classes).
    - worst_class_ratio_same: test over training accuracy of worst_class; None without train_confusion.
    - worst_1pct, worst_5pct, worst_10pct: mean of the worst ceil(K / 100), ceil(5 K / 100), ceil(K / 10) classes.
    - harmonic_mean: of max(a_c, 1e-5). Du and Wu, CVPR 2023; the bound as in Shi et al., ICML 2024.
    - geometric_mean: (prod a_c)^(1 / K), 0 as soon as one class is.
    - macro_f1: 2 TP / (predicted + true) averaged over the classes that occur on either side.
    - confusion_norm, weighted_confusion_norm, wce: `confusion_bounds` with the weights (m_c + lambda_r0)^(-1/2),
      m_c the training frequencies, not normalised.

    Args:
        confusion: (K, K) counts on the test set; row = predicted, column = true.
        class_counts: (K,) training images a class.
        class_names: K names.
        train_worst_class_accuracy: `worst_accuracy` on the training images without augmentation, if known.
        train_confusion: (K, K) counts on the training images without augmentation, if known; then
            train_worst_class_accuracy is taken from it.

    Raises:
        InputError: bad class_counts, or numbers of classes that disagree.
    """
    counts = _check(confusion, class_counts, class_names)
    train_accuracies = np.full(counts.size, np.nan)
    if train_confusion is not None:
        _check(train_confusion, class_counts, class_names)
        train_accuracies = class_accuracies(train_confusion)
        train_worst_class_accuracy = _lowest(train_accuracies)
    correct, true, predicted = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    accuracies = class_accuracies(confusion)
    groups = group_accuracies(confusion, counts)
    worst = groups["worst_class_accuracy"]
    label = None if worst is None else int(np.nanargmin(accuracies))
    known = worst is not None and bool(train_worst_class_accuracy)
    rising = np.sort(accuracies[~np.isnan(accuracies)])
    return {
        "overall_accuracy": groups.pop("overall_accuracy"),
        "balanced_accuracy": groups.pop("balanced_accuracy"),
        "worst_class_accuracy": groups.pop("worst_class_accuracy"),
        "worst_class": None if label is None else class_names[label],
        "worst_class_ratio": worst / train_worst_class_accuracy if known else None,
        "worst_class_ratio_same": None if label is None else _number(_ratio(worst, train_accuracies[label])),
        "train_worst_class_accuracy": train_worst_class_accuracy,
        **{f"worst_{percent}pct": _mean(rising[: -(-percent * rising.size // 100)]) for percent in (1, 5, 10)},
        "rarest_three_accuracy": _mean(accuracies[_rarest_first(counts)[:3]]),
        **groups,
        "harmonic_mean": _harmonic_mean(rising),
        "geometric_mean": _geometric_mean(rising),
        "macro_f1": _mean(_ratio(2 * correct, true + predicted)),
        **confusion_bounds(confusion, spectral_weights(counts, R0)),
        "lambda_r0": R0,
        "per_class_accuracy": by_name(accuracies, class_names),
        "class_counts": {name: int(n) for name, n in zip(class_names, counts, strict=True)},
    }


def worst_confusions(
    confusion: np.ndarray,
    class_names: Sequence[str],
    class_counts: Sequence[int],
    worst: int = 5,
    top: int = 3,
) -> list[dict]:
    """The classes with the lowest accuracy and what they are taken for; worst first, the rarer among equals.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        class_names: K names.
        class_counts: (K,) training images a class.
        worst: how many classes.
        top: at most how many confusions a class.

    Returns:
        A list of {"class", "class_count", "accuracy", "confused_with": [{"class", "fraction"}, ...]}, the
        fractions of the class's test images; classes without test images are left out.

    Raises:
        InputError: bad class_counts, or numbers of classes that disagree.
    """
    counts = _check(confusion, class_counts, class_names)
    accuracies, shown = class_accuracies(confusion), []
    for true in np.lexsort((counts, accuracies))[:worst]:  # NaN sorts last
        if np.isnan(accuracies[true]):
            break
        column = confusion[:, true] / confusion[:, true].sum()
        taken_for = [i for i in np.argsort(-column, kind="stable") if i != true and column[i] > 0][:top]
        shown.append(
            {
                "class": class_names[true],
                "class_count": int(counts[true]),
                "accuracy": float(accuracies[true]),
                "confused_with": [{"class": class_names[i], "fraction": float(column[i])} for i in taken_for],
            }
        )
    return shown


def by_name(values: np.ndarray, class_names: Sequence[str]) -> dict[str, float | None]:
    """(K,) values as class name to value, ready for JSON: None for NaN."""
    return {name: _number(value) for name, value in zip(class_names, values, strict=True)}


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of a score over runs; None for undefined values left out, or too few."""
    defined = [value for value in values if value is not None]
    mean = float(np.mean(defined)) if defined else None
    return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def _check(confusion: np.ndarray, class_counts: Sequence[int], class_names: Sequence[str] | None = None) -> np.ndarray:
    counts = check_class_counts(class_counts, class_names)
    if confusion.shape != (counts.size, counts.size):
        raise InputError(
            f"confusion has shape {confusion.shape} for {counts.size} classes: count with the same class names"
        )
    return counts


def _rarest_first(counts: np.ndarray) -> np.ndarray:
    """Labels by rising count; among equals the higher label, which is the tail of a long-tailed profile."""
    return np.lexsort((-np.arange(counts.size), counts))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element by element, NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def _harmonic_mean(accuracies: np.ndarray) -> float | None:
    if not accuracies.size:
        return None
    return float(accuracies.size / (1 / np.maximum(accuracies, LEAST_ACCURACY)).sum())


def _geometric_mean(accuracies: np.ndarray) -> float | None:
    if not accuracies.size:
        return None
    return float(np.exp(np.log(accuracies).mean())) if accuracies.all() else 0.0


def _lowest(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.min()) if defined.size else None
