"""Heads, goals and the choice, on features whose best answer is known."""

import numpy as np
import pytest

from car_ext import InputError
from car_ext.automatic.choice import PLAIN, Candidate, Chooser
from car_ext.automatic.folds import deal
from car_ext.automatic.goal import Goal, Measured, Resampling
from car_ext.automatic.heads import Linear, fit, mean_of, portfolio, post_hoc
from car_ext.automatic.promise import gained, promise


def long_tail(counts, seed=0, distance=3.0, width=8):
    """Normal features about the corners of a simplex, and as many of every class to test on."""
    random = np.random.default_rng(seed)
    corners = distance * np.eye(len(counts), width)
    targets = np.repeat(np.arange(len(counts)), counts)
    test = np.repeat(np.arange(len(counts)), 200)
    return (
        (corners[targets] + random.normal(size=(len(targets), width))).astype(np.float32),
        targets,
        (corners[test] + random.normal(size=(len(test), width))).astype(np.float32),
        test,
    )


def test_every_recipe_gives_a_linear_head_for_raw_features_and_the_same_bits_twice():
    features, targets, test, labels = long_tail([120, 40, 12])
    features, test = 5 * features + 2, 5 * test + 2  # what is not standardised
    for recipe in portfolio(3):
        head = fit(recipe, features, targets, 3, seed=1)
        again = fit(recipe, features, targets, 3, seed=1)
        assert head.weight.tobytes() == again.weight.tobytes()
        right = (head(test).argmax(axis=1) == labels).mean()
        assert right > 0.6, recipe.name


def test_a_class_that_a_fold_has_not_is_never_predicted():
    features, targets, test, _ = long_tail([50, 30, 10])
    seen = targets != 1
    head = fit(portfolio(3)[0], features[seen], targets[seen], 3, seed=0)
    assert set(head(test).argmax(axis=1)) <= {0, 2}


def test_post_hoc_adjustment_by_hand():
    head = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    found = dict(post_hoc(portfolio(2)[0], head, np.array([9, 1])))
    assert found["post-hoc tau 2"].bias == pytest.approx([-2 * np.log(0.9), -2 * np.log(0.1)])
    assert [*dict(post_hoc(portfolio(2)[1], head, np.array([9, 1])))] == [portfolio(2)[1].name]


def test_the_mean_of_heads_has_the_mean_of_their_logits():
    random = np.random.default_rng(0)
    heads = [Linear(*(random.normal(size=shape).astype(np.float32) for shape in ((3, 4), (3,)))) for _ in range(3)]
    inputs = random.normal(size=(5, 4)).astype(np.float32)
    expected = np.mean([head(inputs) for head in heads], axis=0)
    assert mean_of(heads)(inputs) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "score"), [("worst", 0.1), ("worst10", 0.15), ("balanced", 0.55), ("overall>=0.5", 0.15)]
)
def test_goals_by_hand(text, score):
    accuracies = np.array([0.1, 0.2, *np.linspace(0.3, 0.9, 18)])
    accuracies[2:] += 0.55 * 20 / 18 - 0.3 / 18 - accuracies[2:].mean()
    assert float(Goal.parse(text).of(accuracies)) == pytest.approx(score)


def test_unknown_goals_are_refused():
    for text in ("best", "overall>=2", "overall>=x"):
        with pytest.raises(InputError, match="--target"):
            Goal.parse(text)


def test_a_floor_makes_what_misses_it_lose():
    targets = np.repeat([0, 1], [90, 10])
    resampling = Resampling(targets, np.arange(100), 2, 0)
    even = Measured.of(np.arange(100) % 10 < 7, targets, 2, resampling)
    uneven = Measured.of(np.arange(100) < 95, targets, 2, resampling)
    assert even.score(Goal("worst")) > uneven.score(Goal("worst"))
    assert even.score(Goal("worst", 0.8)) < uneven.score(Goal("worst", 0.8))


def test_groups_are_drawn_as_a_whole():
    """Ten images of two groups of which one is right: a draw has none, half or all of them right."""
    targets, groups = np.zeros(10, np.int64), np.repeat([0, 1], 5)
    measured = Measured.of(groups == 0, targets, 1, Resampling(targets, groups, 1, 0))
    assert set(measured.draws.ravel().tolist()) == {0.0, 5.0, 10.0}
    alone = Measured.of(groups == 0, targets, 1, Resampling(targets, np.arange(10), 1, 0))
    assert len(set(alone.draws.ravel().tolist())) > 5
    assert alone.draws.mean() == pytest.approx(5, abs=0.3)


def chosen(counts, goal="worst10", seed=0, distance=3.0):
    features, targets, test, labels = long_tail(counts, seed, distance)
    classes, groups = len(counts), np.arange(len(targets))
    fold = deal(targets, groups, seed)
    measured = np.flatnonzero(fold >= 0)
    candidates: dict[str, np.ndarray] = {}
    finals = {}
    for recipe in portfolio(classes)[:4]:
        for number in np.unique(fold[measured]):
            rest = fold != number
            head = fit(recipe, features[rest], targets[rest], classes, seed)
            for name, one in post_hoc(recipe, head, np.bincount(targets[rest], minlength=classes).clip(1)):
                logits = candidates.setdefault(name, np.empty((len(measured), classes), np.float32))
                logits[fold[measured] == number] = one(features[fold == number])
        finals |= dict(post_hoc(recipe, fit(recipe, features, targets, classes, seed), np.array(counts)))
    chooser = Chooser(targets[measured], fold[measured], groups[measured], np.array(counts), Goal.parse(goal), seed)
    choice = chooser.choose([Candidate(name, logits) for name, logits in candidates.items()])

    def worst(head):
        hit = head(test).argmax(axis=1) == labels
        return float(np.sort(np.bincount(labels[hit], minlength=classes) / 200)[: -(-classes // 10)].mean())

    return choice, worst(choice.head(finals)), worst(finals["cross-entropy"]), test.shape


def test_the_choice_is_far_better_than_cross_entropy_and_says_so():
    choice, ours, plain, _ = chosen([800, 200, 60, 20, 12, 8], distance=2.2)
    assert ours > plain + 0.2
    gain = gained(choice.row.measured, choice.without.measured, Goal())
    assert gain.low > 0
    assert choice.without.name == "cross-entropy"
    assert sum(row.measured is choice.row.measured for row in choice.rows) == 1  # what was chosen is in the table
    assert choice.without.offsets == PLAIN
    promised = promise(choice.row.measured, np.full(6, 200), Goal())
    assert promised.low - 0.05 <= ours <= promised.high + 0.05  # one of twenty is outside, and this one is by 0.015


def test_equal_classes_keep_the_simplest():
    choice, *_ = chosen([100] * 4, goal="balanced", distance=4.0)
    assert (choice.name, choice.values.any()) == ("cross-entropy", False)
    assert sum(row.measured is choice.row.measured for row in choice.rows) == 1


def test_offsets_of_a_single_fold_are_measured_on_groups_that_they_were_not_fitted_on(monkeypatch):
    targets, groups = np.tile([0, 1], 12), np.repeat(np.arange(6), 4)
    logits = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    chooser = Chooser(targets, np.zeros(24, np.int64), groups, np.array([6, 6]), Goal())
    fitted = []
    monkeypatch.setattr(chooser, "_offsets", lambda logits, labels, how: fitted.append(logits) or np.zeros(2))
    chooser._row(Candidate("any", logits), "minimax")
    assert [len(part) for part in fitted] == [12, 12]
    for part, parity in zip(fitted, (1, 0), strict=True):
        assert (part == logits[groups % 2 == parity]).all()


def test_a_class_that_no_fold_can_measure_takes_the_offset_of_the_prior():
    targets = np.repeat([0, 1, 2, 3], [400, 100, 30, 8])
    random = np.random.default_rng(0)
    prior = np.log([400, 100, 30, 8, 1])
    logits = random.normal(size=(len(targets), 5)) + 2 * np.eye(5)[targets] + prior
    groups = np.array([400, 100, 30, 8, 1])
    chooser = Chooser(targets, np.arange(len(targets)) % 5, np.arange(len(targets)), groups, Goal())
    found = chooser._offsets(logits.astype(np.float32), targets, "minimax")
    assert found[4] > found[3] > found[0]  # the rarer, the more; the unmeasured class is on the line
    assert choice_counts(chooser) == [400, 100, 30, 8, 0]


def choice_counts(chooser):
    return np.bincount(chooser.targets, minlength=chooser.classes).tolist()


def test_a_promise_is_within_its_interval_for_most_folders():
    """Sixty classes with accuracies of a Beta distribution, thirty times: 95 % promised, at least 83 % kept."""
    random, kept = np.random.default_rng(0), 0
    for _ in range(30):
        truth = random.beta(6, 4, size=60)
        images = np.geomspace(200, 4, 60).astype(int)
        right = random.binomial(images, truth)
        measured = Measured(right, images, np.zeros((1, 60)))
        told = promise(measured, np.full(60, 50), Goal())
        test = float(Goal().of(random.binomial(50, truth) / 50))
        kept += told.low <= test <= told.high
    assert kept >= 25
