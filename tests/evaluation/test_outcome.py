"""Two outcomes side by side."""

import numpy as np

from car_ext.evaluation.outcome import places


def test_names_are_found_among_others():
    random = np.random.default_rng(0)
    among = [f"kind {number}" for number in random.permutation(200)]
    names = [among[at] for at in random.permutation(200)[:50]]
    assert places(names, among).tolist() == [among.index(name) for name in names]
    assert places([], among).dtype == np.int64
