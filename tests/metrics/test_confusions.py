import tracemalloc

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics import Confusions as Public
from car_ext.metrics import bounds, confusions, intervals
from car_ext.metrics.bounds import confusion_bounds, singular_values
from car_ext.metrics.class_prior import ClassPrior
from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.confusions import Confusions, Counter
from car_ext.metrics.counts import Counts, class_accuracies, confusion_counts, worst_accuracy
from car_ext.metrics.intervals import accuracy_intervals, wilson_interval, worst_class_interval
from car_ext.metrics.mistakes import confused_pairs
from car_ext.metrics.scoring import Scoring
from car_ext.metrics.summary import group_accuracies, summarize, worst_confusions
from car_ext.priors import spectral_weights


def labels(classes: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets; some classes have no image, some are never predicted, and the first is the favourite."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes - classes // 5, images)
    guessed = np.minimum(random.geometric(min(1, 4 / classes), images) - 1, classes - 2)
    return np.where(random.random(images) < 0.5, targets, guessed), targets


def matrix(predictions: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """One image after another."""
    counts = np.zeros((classes, classes), np.int64)
    for predicted, true in zip(predictions, targets, strict=True):
        counts[predicted, true] += 1
    return counts


@pytest.mark.parametrize("waiting", [1, 50, 1 << 16])
def test_batches_are_counted_as_image_after_image(monkeypatch, waiting):
    monkeypatch.setattr(confusions, "WAITING", waiting)
    predictions, targets = labels(50, 3000)
    counter = Counter(50)
    for part in np.split(np.arange(3000), [0, 1, 40, 40, 700, 1800]):
        counter.update(predictions[part].astype(np.uint8), targets[part])
        before = counter.confusions if waiting == 50 else None  # looked at meanwhile, and as it was then afterwards
    expected = matrix(predictions, targets, 50)
    found = counter.confusions
    assert np.array_equal(found, expected)
    assert before is None or before.counts.sum() == 3000
    assert (found.counts > 0).all()
    assert len(found.counts) == np.count_nonzero(expected)
    assert (np.diff(found.predicted * 50 + found.true) > 0).all()
    assert found.counts.dtype == np.asarray(found).dtype == np.int64
    assert (confusion_counts(predictions, targets, 50) == expected).all()
    halves = (
        Confusions.count(predictions[:999], targets[:999], 50),
        Confusions.count(predictions[999:], targets[999:], 50),
    )
    assert np.array_equal(halves[0] + halves[1], expected)
    assert Public is Confusions


@pytest.mark.parametrize("classes", [2, 7, 50])
def test_its_parts_are_those_of_the_matrix(classes):
    dense = matrix(*labels(classes, 40 * classes), classes)
    found = Confusions.of(dense)
    assert found.shape == dense.shape
    assert len(found) == classes
    assert (found.right == np.diag(dense)).all()
    assert (found.images == dense.sum(axis=0)).all()
    assert (found.taken == dense.sum(axis=1)).all()
    assert np.array_equal(found.wrong, dense - np.diag(np.diag(dense)))
    row, column = np.indices(dense.shape)
    assert (found[row, column] == dense).all()
    assert found[1, 0] == dense[1, 0]
    for true in range(classes):
        taken, counts = found.column(true)
        assert taken.tolist() == np.flatnonzero(dense[:, true]).tolist()
        assert counts.tolist() == dense[taken, true].tolist()
    some = np.random.default_rng(1).permutation(classes)[: classes // 2 + 1]
    assert np.array_equal(found.among(some), dense[np.ix_(some, some)])
    assert np.array_equal(np.asarray(found, float), dense.astype(float))
    order = np.random.default_rng(2).permutation(len(found.counts))
    parts = (array[order].repeat(2) for array in (found.predicted, found.true, found.counts))
    assert np.array_equal(Confusions.of_entries(classes, *parts), 2 * dense)


def test_none_at_all():
    nothing = Confusions.count([], [], 3)
    assert np.array_equal(nothing, np.zeros((3, 3)))
    assert nothing[0, 1] == 0
    assert nothing[np.array([0, 1]), np.array([2, 2])].tolist() == [0, 0]
    assert (nothing + nothing).counts.size == 0
    assert summarize(nothing, [3, 2, 1], list("abc"))["overall_accuracy"] is None


def test_what_is_none_is_refused():
    one = Confusions.count([0, 1], [1, 1], 3)
    for call, message in (
        (lambda: Confusions.count([0, 3], [1, 1], 3), "predictions hold label 3, outside 0 to 2"),
        (lambda: Confusions.count([0, 0], [1, -1], 3), "targets hold label -1"),
        (lambda: Confusions.count([0], [1, 1], 3), "give one of each for every image"),
        (lambda: Confusions.of(np.ones((2, 3))), r"confusion has shape \(2, 3\)"),
        (lambda: Confusions.of_entries(3, [0], [7], [1]), "targets hold label 7"),
        (lambda: one + Confusions.count([0], [0], 4), "confusions of 3 and 4 classes"),
        (lambda: Confusions.count([0], [0], 30_000).dense(), "30000 x 30000 confusions takes 7 GB"),
        (lambda: summarize(one, [1, 1], ["a", "b"]), r"confusion has shape \(3, 3\) for 2 classes"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(ValueError, match="copy=False"):
        np.array(one, copy=False)


@pytest.mark.parametrize("classes", [7, 50])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_whole_matrix(classes, seed):
    """Each against the formula on the (K, K) array, classes without images and never predicted ones among them."""
    dense = matrix(*labels(classes, 30 * classes, seed), classes)
    sparse = Confusions.of(dense)
    counts = np.random.default_rng(seed).integers(1, 300, classes)
    names = [f"kind {label}" for label in range(classes)]
    right, images, taken = np.diag(dense), dense.sum(axis=0), dense.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracies, rates = right / images, np.nan_to_num(dense / images)
    np.fill_diagonal(rates, 0)

    assert class_accuracies(sparse) == pytest.approx(accuracies, nan_ok=True)
    assert worst_accuracy(sparse) == np.nanmin(accuracies)
    report = ClassReport.of(Counts.of(sparse, counts))
    assert (report.right, report.predicted, report.true) == (
        pytest.approx(right),
        pytest.approx(taken),
        pytest.approx(images),
    )
    weights = spectral_weights(counts)
    for weight in (np.ones(classes), weights):
        expected = np.linalg.svd(rates * weight, compute_uv=False)[:50]
        assert singular_values(sparse, weight) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    plain, weighted = (np.linalg.svd(of, compute_uv=False)[0] for of in (rates, rates * weights))
    assert confusion_bounds(sparse, weights) == {
        "confusion_norm": pytest.approx(plain, rel=1e-6),
        "weighted_confusion_norm": pytest.approx(weighted, rel=1e-6),
        "wce": pytest.approx((rates.sum(axis=0) * weights).max()),
    }
    off = [(i, j) for i in range(classes) for j in range(classes) if i != j and dense[i, j]]
    off.sort(key=lambda pair: -wilson_interval(dense[pair], images[pair[1]])[0])
    assert confused_pairs(sparse, 9).tolist() == [list(pair) for pair in off[:9]]
    for entry in worst_confusions(sparse, names, counts, worst=classes, top=2):
        column = rates[:, names.index(entry["class"])]
        most = np.argsort(-column, kind="stable")[:2]
        expected = [{"class": names[i], "fraction": pytest.approx(column[i])} for i in most if column[i]]
        assert entry["confused_with"] == expected

    shares = np.random.default_rng(seed + 9).random(classes)
    tested = np.where(images > 0, shares, 0) / shares[images > 0].sum()
    joint = np.nan_to_num(dense / np.maximum(images, 1)) * tested
    prior = ClassPrior("made up", shares / shares.sum()).scores(sparse, names)
    assert prior["prior_accuracy"] == pytest.approx(np.trace(joint))
    precisions = [entry["precision"] for entry in prior["prior"]["per_class"].values()]
    with np.errstate(invalid="ignore"):
        expected = np.diag(joint) / joint.sum(axis=1)
    assert np.array(precisions, float) == pytest.approx(expected, nan_ok=True)

    # Who hands a (K, K) array over gets the same bits.
    for call in (
        lambda of: summarize(of, counts, names, train_confusion=of),
        lambda of: group_accuracies(of, counts),
        lambda of: worst_confusions(of, names, counts),
        lambda of: accuracy_intervals(of, names),
        lambda of: ClassPrior("made up", shares / shares.sum()).scores(of, names),
    ):
        assert repr(call(sparse)) == repr(call(dense))


def test_classes_drawn_together_have_the_lowest_accuracy_of_those_drawn_each(monkeypatch):
    predictions, targets = labels(50, 400)
    predictions[targets % 2 == 0] = targets[targets % 2 == 0]
    dense = matrix(predictions, targets, 50)
    dense[np.arange(50), np.arange(50)] += 1  # none at 0, whose interval would begin there in any case
    found = Confusions.of(dense)
    each = worst_class_interval(found, draws=20_000)
    monkeypatch.setattr(intervals, "DRAWN_EACH", 0)
    assert worst_class_interval(found, draws=20_000) == pytest.approx(each, rel=0.1)
    assert worst_class_interval(found) == worst_class_interval(found)


def test_a_long_and_thin_matrix_is_not_written_out(monkeypatch):
    random = np.random.default_rng(0)
    targets = np.arange(3000)
    found = Confusions.count(random.integers(0, 60, 3000), targets, 3000)
    weights = 0.5 + random.random(3000)
    whole = singular_values(found, weights)
    monkeypatch.setattr(bounds, "LONG", 1000)
    monkeypatch.setattr(np.linalg, "svd", None)
    assert singular_values(found, weights) == pytest.approx(whole, rel=1e-6)
    assert found.images.max() == 1


def test_a_large_matrix_of_low_rank_ends_with_zeros(monkeypatch):
    """30 groups of 30 classes that are all taken for one another's: rank 30, where 50 values are asked for."""
    group, i, j = (axis.ravel() for axis in np.indices((30, 30, 30)))
    found = Confusions.of_entries(2000, 1000 + 30 * group + i, 30 * group + j, np.full(27_000, 2))
    weights = 0.5 + np.random.default_rng(0).random(2000)
    rates = np.zeros((900, 900))
    rates[30 * group + i, 30 * group + j] = weights[30 * group + j] / 30
    expected = np.linalg.svd(rates, compute_uv=False)[:50]
    monkeypatch.setattr(bounds, "LONG", 100)
    assert singular_values(found, weights) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_large_batch_is_counted_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(50, 7)), random.integers(0, 7, 50)
    names, counts = [f"kind {label}" for label in range(7)], [9] * 7
    whole = Scoring(7)
    whole.update(logits, targets)
    monkeypatch.setattr("car_ext.metrics.scoring.PART", 7 * 8)
    parts = Scoring(7)
    seen = []
    monkeypatch.setattr(parts.mistakes, "update", lambda logits, targets: seen.append(len(logits)))
    parts.update(logits, targets)
    assert seen == [8, 8, 8, 8, 8, 8, 2]
    assert np.array_equal(parts.confusion, whole.confusion)
    assert (parts.predictions.top == whole.predictions.top).all()
    assert parts.statistics.summary()["loma"] == pytest.approx(whole.statistics.summary()["loma"], rel=1e-12)
    assert parts.summary(counts, names)["scores"]["nll"] == pytest.approx(whole.summary(counts, names)["scores"]["nll"])
    logits[30, 2] = np.nan
    with pytest.raises(InputError, match="for class 2 in row 30"):
        parts.update(logits, targets)
    assert parts.confusion.counts.sum() == 50
    with pytest.raises(InputError, match="for the same B images"):
        parts.update(logits[:40], targets)


def test_twenty_thousand_classes_take_little_memory():
    """Their matrix would be 3.2 GB."""
    classes, random = 20_000, np.random.default_rng(0)
    names = [f"kind {label}" for label in range(classes)]
    counts = np.maximum(1, 500 // np.arange(1, classes + 1))
    targets = random.integers(0, classes, 40_000)
    predictions = np.where(random.random(40_000) < 0.5, targets, np.minimum(random.zipf(1.2, 40_000), classes) - 1)
    tracemalloc.start()
    try:
        scoring = Scoring(classes)
        for part in np.split(np.arange(60), 3):
            logits = random.normal(size=(20, classes)).astype(np.float32)
            logits[np.arange(20), predictions[part]] = 9
            scoring.update(logits, targets[part])
        summary = scoring.summary(counts, names)
        every = Confusions.count(predictions, targets, classes)
        whole = summarize(every, counts, names, train_confusion=every)
        bounded = worst_class_interval(every)
        values = singular_values(every, spectral_weights(counts))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150e6
    assert summary["overall_accuracy"] == (predictions[:60] == targets[:60]).mean()
    assert whole["overall_accuracy"] == (predictions == targets).mean()
    assert whole["weighted_confusion_norm"] == pytest.approx(values[0], rel=1e-9)
    assert bounded[0] == 0
