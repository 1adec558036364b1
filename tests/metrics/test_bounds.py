import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from car_ext.metrics import bounds
from car_ext.metrics.bounds import check_bounds, confusion_bounds, spectral_norm
from car_ext.priors import spectral_weights


def off_diagonal(confusion: np.ndarray) -> np.ndarray:
    """Column-normalised with a zero diagonal, entry by entry."""
    rates = np.zeros(confusion.shape)
    for i in range(len(rates)):
        for j in range(len(rates)):
            if i != j and confusion[:, j].sum():
                rates[i, j] = confusion[i, j] / confusion[:, j].sum()
    return rates


def norm(matrix: np.ndarray) -> float:
    rows, columns = np.nonzero(matrix)
    return spectral_norm(rows, columns, matrix[rows, columns])


def test_by_hand():
    # Class 0: 1 of 4 wrong. Class 1: 1 of 2 wrong. Both norms are those of an anti-diagonal matrix.
    confusion = np.array([[3, 1], [1, 1]])
    assert confusion_bounds(confusion, np.array([1.0, 3.0])) == {
        "confusion_norm": pytest.approx(0.5),
        "weighted_confusion_norm": pytest.approx(1.5),
        "wce": pytest.approx(1.5),
    }
    # The largest weighted error need not be the largest error.
    assert confusion_bounds(confusion, np.array([4.0, 1.0]))["wce"] == pytest.approx(1.0)


counts = st.integers(2, 12).flatmap(
    lambda k: st.tuples(
        arrays.arrays(np.int64, (k, k), elements=st.integers(0, 30)),
        st.lists(st.integers(1, 1000), min_size=k, max_size=k),
    )
)


@given(counts)
@settings(deadline=None)
def test_norms_and_inequalities_of_any_confusion_matrix(sample):
    confusion, class_counts = sample
    weights = spectral_weights(class_counts)
    scores = confusion_bounds(confusion, weights)
    if not confusion.any():
        assert set(scores.values()) == {None}
        return
    rates = off_diagonal(confusion)
    expected = [np.linalg.svd(matrix, compute_uv=False)[0] for matrix in (rates, rates * weights)]
    assert [scores["confusion_norm"], scores["weighted_confusion_norm"]] == pytest.approx(expected, rel=1e-9, abs=0)
    errors = rates.sum(axis=0)
    assert scores["wce"] == pytest.approx((weights * errors).max())
    assert scores["wce"] / np.sqrt(len(rates)) <= scores["weighted_confusion_norm"] * (1 + 1e-9)
    assert (errors <= scores["wce"] / weights * (1 + 1e-9)).all()


def test_many_classes_and_few_images_agree_with_the_full_decomposition():
    random = np.random.default_rng(0)
    for density in (0.002, 0.05, 1.0):
        matrix = random.random((300, 300)) * (random.random((300, 300)) < density)
        assert norm(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-9, abs=0)


def test_singular_values_that_are_close_or_equal():
    # Pairs of classes that are taken for one another only: the singular values are the entries.
    for values in ([0.5, 0.5 + 1e-7, 0.2, 0.5], [0.3] * 6, [0.0] * 4):
        assert norm(np.fliplr(np.diag(values))) == pytest.approx(max(values), rel=1e-9, abs=0)


def test_the_largest_value_hides_in_one_column():
    matrix = np.zeros((1000, 1000))
    matrix[range(999), range(1, 1000)] = 0.9
    matrix[7, 500] = 0.91  # one entry of a thousand is a little larger
    assert norm(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-9, abs=0)


def test_sparse_and_dense_agree_and_give_the_same_bits_again(monkeypatch):
    random = np.random.default_rng(0)
    for shape in ((40, 40), (40, 7), (1, 40), (2, 2)):
        matrix = random.random(shape) * (random.random(shape) < 0.4)
        matrix[0, 0] = 0.5
        dense = norm(matrix)
        monkeypatch.setattr(bounds, "DENSE", 1)
        assert norm(matrix) == pytest.approx(dense, rel=1e-12, abs=0)
        assert norm(matrix) == norm(matrix)
        monkeypatch.undo()
    assert norm(np.zeros((3, 3))) == 0


@pytest.mark.parametrize("choices", [[0.3], [0.2, 1 / 3, 0.7], np.arange(1, 51) / 51])
def test_none_of_many_equal_singular_values_is_passed_over(choices):
    # Classes that are each taken for the next one only: the singular values are the entries.
    classes = 600
    places = np.arange(classes), np.roll(np.arange(classes), 1)
    values = np.random.default_rng(0).choice(choices, classes)
    for most in (1, 50):
        found = {tuple(bounds._largest(*places, values, most)) for _ in range(4)}
        assert len(found) == 1  # the same bits each time
        np.testing.assert_allclose(found.pop(), np.sort(values)[::-1][:most], rtol=1e-12)


def test_equal_columns_have_one_singular_value():
    rows, columns = (labels.ravel() for labels in np.indices((510, 510)))
    values = np.random.default_rng(0).random(510)[rows]
    found = bounds._largest(rows, columns, values, 3)
    np.testing.assert_allclose(found, [np.linalg.norm(values), 0, 0], rtol=1e-12, atol=1e-12)


def test_where_the_iteration_fails_the_full_decomposition_answers(monkeypatch):
    def fails(*_, **__):
        raise scipy.sparse.linalg.ArpackNoConvergence("no convergence", [], [])

    matrix = np.triu(np.random.default_rng(0).random((60, 60)), 1)
    rows, columns = np.nonzero(matrix)
    monkeypatch.setattr(bounds, "DENSE", 1)
    monkeypatch.setattr(scipy.sparse.linalg, "svds", fails)
    for most in (1, 30):
        values = bounds._largest(rows, columns, matrix[rows, columns], most)
        np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False)[:most], rtol=1e-12)


def test_a_broken_bound_is_reported():
    errors, weights = np.array([0.1, 0.4]), np.array([1.0, 2.0])
    check_bounds(errors, weights, wce=0.8, norm=0.8)
    check_bounds(errors, weights, wce=0.8, norm=0.8 / np.sqrt(2))
    with pytest.raises(AssertionError, match="spectral norm"):
        check_bounds(errors, weights, wce=0.8, norm=0.56)
    with pytest.raises(AssertionError, match="class 1"):
        check_bounds(errors, weights, wce=0.79, norm=0.8)


@pytest.mark.parametrize(("classes", "dense"), [(7, 500), (120, 500), (120, 60)])
def test_singular_values_are_those_of_the_whole_decomposition(monkeypatch, classes, dense):
    monkeypatch.setattr(bounds, "DENSE", dense)
    random = np.random.default_rng(classes)
    confusion = random.integers(0, 4, (classes, classes)) * (random.random((classes, classes)) < 0.3)
    confusion[:, 3] = 0  # a class without images
    weights = random.random(classes) + 0.5
    expected = np.linalg.svd(off_diagonal(confusion) * weights, compute_uv=False)[:50]
    values = bounds.singular_values(confusion, weights)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    assert values[0] == pytest.approx(bounds.confusion_bounds(confusion, weights)["weighted_confusion_norm"])


def test_no_mistake_has_no_spectrum(monkeypatch):
    for dense in (500, 50):
        monkeypatch.setattr(bounds, "DENSE", dense)
        assert (bounds.singular_values(np.diag(np.full(100, 3)), np.ones(100)) == np.zeros(50)).all()
