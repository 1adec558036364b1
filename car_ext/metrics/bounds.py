"""How confusion bounds the worst class: norms of the confusion matrix that CAR makes small, measured on counts."""

import contextlib

import numpy as np

from car_ext.metrics.confusions import Confusion, Confusions

DENSE = 500  # classes up to which a full decomposition takes no noticeable time
LONG = 10_000  # rows or columns from which a matrix is not written out
TOLERANCE = 1e-9  # relative error that a spectral norm may have


def confusion_bounds(confusion: Confusion, weights: np.ndarray) -> dict[str, float | None]:
    """Spectral norms and weighted worst-class error of hard predictions.

    C is the confusion matrix with each column divided by the class's images and a zero diagonal, so that column j
    sums to the error e_j; Lambda = diag(weights). With the largest singular value sigma_1,

        wce = ||C Lambda||_1 = max_j weights_j e_j,    wce / sqrt(K) <= sigma_1(C Lambda),    e_j <= wce / weights_j.

    A class without images has a zero column. Source: arXiv 2603.16732 (CVPR 2026).

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        weights: (K,) positive, as of `car_ext.priors.spectral_weights`.

    Returns:
        {"confusion_norm": sigma_1(C), "weighted_confusion_norm": sigma_1(C Lambda), "wce"}; None when the matrix
        holds no image.
    """
    confusion = Confusions.of(confusion)
    correct, images = confusion.right, confusion.images
    if not images.any():
        return dict.fromkeys(("confusion_norm", "weighted_confusion_norm", "wce"))
    predicted, true, rates = error_rates(confusion)
    weighted = rates * weights[true]
    classes = images.size
    wce = float(np.bincount(true, weighted, classes).max())
    norm = spectral_norm(predicted, true, weighted)
    check_bounds((images - correct) / np.maximum(images, 1), weights, wce, norm)
    return {
        "confusion_norm": spectral_norm(predicted, true, rates),
        "weighted_confusion_norm": norm,
        "wce": wce,
    }


def error_rates(confusion: Confusion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of C: (E,) predicted and true labels, and which fraction of the true class that confusion is.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
    """
    confusion = Confusions.of(confusion)
    wrong = confusion.wrong
    return wrong.predicted, wrong.true, wrong.counts / confusion.images[wrong.true]


def singular_values(confusion: Confusion, weights: np.ndarray, most: int = 50) -> np.ndarray:
    """The largest singular values of C Lambda, falling: the first is `confusion_bounds`' weighted_confusion_norm.

    The second and third say how far the confusions have one common direction, the one that a spectral norm presses on.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        weights: (K,) positive, the diagonal of Lambda; ones for C itself.
        most: how many, unless K is smaller.

    Returns:
        (min(K, most),) float64.
    """
    predicted, true, rates = error_rates(confusion)
    values = np.zeros(min(len(confusion), most))
    found = _largest(predicted, true, rates * weights[true], most)
    values[: found.size] = found
    return values


def check_bounds(errors: np.ndarray, weights: np.ndarray, wce: float, norm: float) -> None:
    """Holds the two inequalities of `confusion_bounds` against numbers that were computed apart from one another.

    Args:
        errors: (K,) error of each class, 0 for one without images.
        weights: (K,) positive.
        wce: weighted worst-class error.
        norm: sigma_1(C Lambda).

    Raises:
        AssertionError: one does not hold, which no confusion matrix can bring about: a defect of this package.
    """
    slack = 1 + 10 * TOLERANCE
    if wce > norm * np.sqrt(errors.size) * slack:
        raise AssertionError(f"wce {wce} exceeds sqrt({errors.size}) times the spectral norm {norm}")
    if (errors * weights > wce * slack).any():
        label = int(np.argmax(errors * weights))
        raise AssertionError(f"class {label}: error {errors[label]} exceeds wce {wce} / weight {weights[label]}")


def spectral_norm(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> float:
    """Largest singular value of a matrix, from its nonzero entries.

    Args:
        rows, columns: (E,) int, the places of the entries, each once.
        values: (E,) float64.

    Returns:
        sigma_1; 0 for a matrix without entries.
    """
    found = _largest(rows, columns, values, 1)
    return float(found[0]) if found.size else 0.0


def _largest(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the largest singular values of a nonnegative matrix, falling; none of one without entries.

    The matrix is not made dense where it is large: K classes and N test images give at most N entries, however large
    K^2 is.
    """
    if not values.size:
        return np.zeros(0)
    # Rows and columns without an entry take no part: what is left has a rank that svds can find.
    (kept_rows, row), (kept_columns, column) = (np.unique(labels, return_inverse=True) for labels in (rows, columns))
    shape = kept_rows.size, kept_columns.size
    if min(shape) <= max(most, DENSE):
        return _all(row, column, values, shape)[:most]
    return _largest_of_sparse(row, column, values, shape, most)


def _all(row: np.ndarray, column: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Every singular value, falling; of a long and thin matrix M by the eigenvalues of the small one of M M^T, M^T M.

    That leaves half the digits to values far below the first, of which all digits are right.
    """
    if max(shape) > LONG:
        from scipy.sparse import csr_array

        matrix = csr_array((values, (row, column)), shape=shape)
        small = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
        return np.sqrt(np.maximum(np.linalg.eigvalsh(small.toarray())[::-1], 0))
    matrix = np.zeros(shape)
    matrix[row, column] = values
    return np.linalg.svd(matrix, compute_uv=False)


def _largest_of_sparse(
    row: np.ndarray, column: np.ndarray, values: np.ndarray, shape: tuple[int, int], most: int
) -> np.ndarray:
    """By scipy's svds, which may pass over some of several equal values, as small test sets have them; never the first.

    So what it found is taken out of the matrix, and the first of what is left is found, until that is no larger.
    The start is positive: it cannot miss the top vector, which is nonnegative (Perron-Frobenius).
    """
    # Imported here: a third of a second, which few classes need not wait for.
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import ArpackError, LinearOperator, svds

    matrix = csr_array((values, (row, column)), shape=shape)
    matrix = matrix if shape[0] >= shape[1] else matrix.T.tocsr()
    transposed = matrix.T.tocsr()
    start = np.random.default_rng(0).random(matrix.shape[1])
    found, right = np.zeros(0), np.zeros((0, start.size))
    with contextlib.suppress(ArpackError):  # nothing found, then
        _, found, right = svds(matrix, k=most, v0=start, return_singular_vectors="vh")

    def without_found(x: np.ndarray) -> np.ndarray:
        return x - right.T @ (right @ x)

    while found.size < most or most > 1:
        rest = LinearOperator(
            matrix.shape,
            matvec=lambda x: matrix @ without_found(x),
            rmatvec=lambda y: without_found(transposed @ y),
            dtype=matrix.dtype,
        )
        try:
            _, first, vector = svds(rest, k=1, v0=without_found(start), return_singular_vectors="vh")
        except ArpackError:  # nothing is left, or it does not converge
            if found.size and np.linalg.norm(rest @ start) <= TOLERANCE * found.max() * np.linalg.norm(start):
                break
            if min(shape) > LONG:  # 0.8 GB at the least
                raise
            return _all(row, column, values, shape)[:most]
        if found.size >= most and first[0] <= np.sort(found)[-most] * (1 + TOLERANCE):
            break
        found, right = np.append(found, first), np.vstack([right, without_found(vector[0])])
    # Between equal values ARPACK goes on from random vectors, of which the last digits tell. Without them the same
    # matrix gives the same bits.
    return np.array([float(f"{value:.13g}") for value in np.sort(found)[::-1][:most]])
