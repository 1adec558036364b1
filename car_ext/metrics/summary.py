"""Scores of a classifier, the worst class in front, from counts alone: every runtime shares them."""

from collections.abc import Sequence

import numpy as np

from car_ext.metrics.bounds import confusion_bounds
from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.confusions import Confusion
from car_ext.metrics.counts import Counts, by_name, lowest, number, ratio, worst_first
from car_ext.metrics.vocabulary import scores
from car_ext.priors import PerClass, spectral_weights

R0 = 0.2  # of the weights in the confusion norm and in wce


def group_accuracies(confusion: Confusion, class_counts: PerClass) -> dict[str, float | None]:
    """The few scores worth a line an epoch, with the keys and values that `summarize` gives them.

    Args:
        confusion: (K, K) counts; row = predicted, column = true; or `Confusions`, as in every function here.
        class_counts: (K,) training images a class.

    Returns:
        The scores that have an `epoch` key in the vocabulary: "overall_accuracy", "worst_class_accuracy" and others.

    Raises:
        InputError: bad class_counts, or numbers of classes that disagree.
    """
    counts = Counts.of(confusion, class_counts)
    return {score.key: score.formula(counts) for score in scores() if score.epoch and score.formula}


def summarize(
    confusion: Confusion,
    class_counts: PerClass,
    class_names: Sequence[str],
    train_worst_class_accuracy: float | None = None,
    train_confusion: Confusion | None = None,
) -> dict:
    """Every score of one evaluation, ready for JSON: fractions as floats, None where undefined.

    A class without a test image has no accuracy and is left out of minima and means. With a_c the accuracies:

    - classes_at_zero: how many classes have a_c = 0.
    - worst_class_images, worst_class_right: test images of worst_class, and how many of them are recognised.
    - worst_class_ratio: the worst test over the worst training accuracy (they may belong to different classes).
    - worst_class_ratio_same: test over training accuracy of worst_class; None without train_confusion.
    - worst_1pct, worst_5pct, worst_10pct: mean of the worst ceil(K / 100), ceil(5 K / 100), ceil(K / 10) classes.
    - smoothed_worst_10pct: `smoothed_worst_tenth`.
    - harmonic_mean: of max(a_c, 1e-5). Du and Wu, CVPR 2023; the bound as in Shi et al., ICML 2024.
    - geometric_mean: (prod a_c)^(1 / K), 0 as soon as one class is.
    - per_class, macro_precision, macro_recall, macro_f1, weighted_precision, weighted_f1: `ClassReport`. The weighted
      recall is overall_accuracy.
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
    train_accuracies = np.full(len(class_names), np.nan)
    if train_confusion is not None:
        train_accuracies = Counts.of(train_confusion, class_counts, class_names).accuracies
        train_worst_class_accuracy = lowest(train_accuracies)
    counts = Counts.of(confusion, class_counts, class_names, train_worst_class_accuracy)
    label = next(iter(worst_first(counts.accuracies, counts.class_counts, class_names)), None)
    return {
        **{score.key: score.formula(counts) for score in scores() if score.formula},
        "worst_class": None if label is None else class_names[label],
        "worst_class_images": None if label is None else int(counts.images[label]),
        "worst_class_right": None if label is None else int(counts.right[label]),
        "worst_class_ratio_same": (
            None if label is None else number(ratio(counts.accuracies[label], train_accuracies[label]))
        ),
        "train_worst_class_accuracy": train_worst_class_accuracy,
        **confusion_bounds(counts.confusion, spectral_weights(counts.class_counts, R0)),
        "lambda_r0": R0,
        "per_class_accuracy": by_name(counts.accuracies, class_names),
        "per_class": ClassReport.of(counts).by_name(class_names),
        "class_counts": dict(zip(class_names, counts.class_counts.tolist(), strict=True)),
        "test_counts": dict(zip(class_names, counts.images.tolist(), strict=True)),
    }


def worst_confusions(
    confusion: Confusion,
    class_names: Sequence[str],
    class_counts: PerClass,
    worst: int = 5,
    top: int = 3,
) -> list[dict]:
    """The classes with the lowest accuracy and what they are taken for, in the order of `counts.worst_first`.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        class_names: K names.
        class_counts: (K,) training images a class.
        worst: how many classes.
        top: at most how many confusions a class.

    Returns:
        A list of {"class", "class_count", "images", "right", "accuracy", "precision", "f1", "confused_with": [{"class",
        "fraction"}, ...]}, the fractions of the class's test images; classes without test images are left out.

    Raises:
        InputError: bad class_counts, or numbers of classes that disagree.
    """
    counts, shown = Counts.of(confusion, class_counts, class_names), []
    report = ClassReport.of(counts)
    for true in worst_first(counts.accuracies, counts.class_counts, class_names)[:worst]:
        labels, fractions = counts.confusion.wrong.column(true)
        fractions = fractions / counts.images[true]
        most = np.argsort(-fractions, kind="stable")[:top]
        shown.append(
            {
                "class": class_names[true],
                "class_count": int(counts.class_counts[true]),
                "images": int(counts.images[true]),
                "right": int(counts.right[true]),
                "accuracy": float(counts.accuracies[true]),
                "precision": number(report.precision[true]),
                "f1": number(report.f1[true]),
                "confused_with": [{"class": class_names[labels[i]], "fraction": float(fractions[i])} for i in most],
            }
        )
    return shown


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of a score over runs; None for undefined values left out, or too few."""
    defined = [value for value in values if value is not None]
    mean = float(np.mean(defined)) if defined else None
    return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else None
