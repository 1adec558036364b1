"""Temperatures of models that are too sure of themselves."""

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.temperature import balanced_loss, fit_group_temperatures, fit_temperature, of_classes, tempered


def images(number, sureness, seed=0):
    """Logits of three classes, and targets drawn from the softmax of the logits over `sureness`."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(number, 3)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (random.random((number, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return logits * sureness, targets


def scored(logits, targets):
    statistics = ScoreStatistics(3)
    statistics.update(logits, targets)
    return statistics.summary()


@pytest.mark.parametrize("sureness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_is_too_sure(sureness):
    fitted = fit_temperature(*images(4000, sureness))
    assert fitted == pytest.approx(sureness, rel=0.06)
    logits, targets = images(4000, sureness, seed=1)  # others
    cooled = tempered(logits, [fitted])
    assert (cooled.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert scored(cooled, targets)["ece"] < 0.03
    if sureness == 3:
        before, after = scored(logits, targets), scored(cooled, targets)
        assert after["nll"] < before["nll"] - 0.1
        assert after["ece"] < before["ece"] - 0.1


def test_it_is_the_minimum():
    logits, targets = images(300, 2.0)
    fitted = fit_temperature(logits, targets)
    losses = [balanced_loss(tempered(logits, [fitted * factor]), targets) for factor in (0.99, 1.0, 1.01)]
    assert min(losses) == losses[1]


def test_every_class_weighs_the_same():
    logits, targets = images(3000, 2.0)
    by_class = [scored(logits[targets == label], targets[targets == label])["nll"] for label in range(3)]
    assert balanced_loss(logits, targets) == pytest.approx(np.mean(by_class))
    kept = (targets != 0) | (np.arange(3000) % 10 == 0)  # a tenth of one class
    assert fit_temperature(logits[kept], targets[kept]) == pytest.approx(fit_temperature(logits, targets), rel=0.1)
    assert balanced_loss(logits[targets > 0], targets[targets > 0]) == pytest.approx(np.mean(by_class[1:]))


def test_groups_have_their_own_and_change_no_prediction():
    logits, targets = images(6000, 1.0)
    logits[logits.argmax(axis=1) == 0] *= 3  # too sure of the frequent class alone
    counts = [200, 50, 3]
    found, notes = fit_group_temperatures(logits, targets, counts)
    assert notes == []
    assert found == pytest.approx({"many": 3.0, "medium": 1.0, "few": 1.0}, rel=0.15)
    by_class = of_classes(found, counts)
    assert by_class.tolist() == list(found.values())
    cooled = tempered(logits, by_class)
    assert (cooled.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert scored(cooled, targets)["nll"] < scored(tempered(logits, [fit_temperature(logits, targets)]), targets)["nll"]


def test_a_group_without_enough_images_has_that_of_all():
    logits, targets = images(200, 2.0)
    logits[:, 2] -= 6
    found, notes = fit_group_temperatures(logits, targets, [200, 50, 3])
    assert found["few"] == fit_temperature(logits, targets)
    (note,) = notes
    assert note.startswith("few-shot classes have the temperature of all")
    assert set(fit_group_temperatures(logits, targets, [200, 200, 200])[0]) == {"many"}


@pytest.mark.parametrize(("right", "why"), [(1, "all of them are right"), (-1, "tell nothing"), (0, "no image")])
def test_no_temperature_where_there_is_none(right, why):
    logits = np.eye(3)[:, [0, 1, 2]] * right
    with pytest.raises(InputError, match=why):
        fit_temperature(logits if right else logits[:0], np.arange(3)[: 3 * abs(right)])
