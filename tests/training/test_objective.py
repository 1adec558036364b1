"""A training step's loss and its parts."""

import pytest
import torch
import torch.nn.functional as F

from car_ext import CAR, InputError
from car_ext.methods.augment.mix import Mixed
from car_ext.methods.heads import build_head
from car_ext.training.objective import Objective

COUNTS = [40, 12, 3]


def batch():
    generator = torch.Generator().manual_seed(0)
    logits, features = torch.randn(8, 3, generator=generator), torch.randn(8, 5, generator=generator)
    return logits, torch.randint(0, 3, (8,), generator=generator), features, build_head("linear", 5, 3, COUNTS)


def mixed(targets):
    lam = torch.linspace(0, 1, len(targets))
    return Mixed(torch.empty(0), targets, targets.roll(1), lam)


def test_the_parts_add_up():
    logits, targets, features, head = batch()
    objective = Objective("ce", "car+ltwb:decay=0.3", COUNTS, {"alpha": 0.7})
    loss, base, sigma = objective(logits, targets, features, head)
    torch.testing.assert_close(base, F.cross_entropy(logits, targets))
    torch.testing.assert_close(0.7 * sigma, CAR(COUNTS, alpha=0.7)(logits, targets))
    torch.testing.assert_close(loss, base + 0.7 * sigma + 0.15 * head.weight.square().sum())


def test_the_word_of_car_wins_over_what_the_job_says():
    logits, targets, features, head = batch()
    objective = Objective("ce", "maxnorm+car:alpha=0.7,variant=reference-code", COUNTS, {"alpha": 0.5, "r0": 0.3})
    car = CAR(COUNTS, alpha=0.7, r0=0.3, variant="reference-code")
    assert objective.car.extra_repr() == car.extra_repr()
    assert len(objective.on_weight) == 1
    torch.testing.assert_close(0.7 * objective(logits, targets, features, head).sigma, car(logits, targets))


def test_a_mixed_image_is_two_weighted_images():
    logits, targets, features, head = batch()
    both = mixed(targets)
    loss, base, sigma = Objective("ce", "car", COUNTS, {"alpha": 1.0})(logits, both, features, head)
    own, partner = (F.cross_entropy(logits, labels, reduction="none") for labels in (targets, both.partner_targets))
    torch.testing.assert_close(base, (both.lam * own + (1 - both.lam) * partner).mean())
    doubled = torch.cat([logits, logits]), torch.cat([targets, both.partner_targets])
    torch.testing.assert_close(sigma, CAR(COUNTS, alpha=1.0)(*doubled, torch.cat([both.lam, 1 - both.lam])))
    assert loss == base + sigma


def test_a_batch_that_is_not_mixed_counts_as_before():
    logits, targets, features, head = batch()
    unmixed = Mixed(torch.empty(0), targets, targets, torch.ones(8))
    plain, same = (Objective("ce", "car", COUNTS, {})(logits, t, features, head) for t in (targets, unmixed))
    for a, b in zip(plain, same, strict=True):
        torch.testing.assert_close(a, b)


def test_a_loss_of_cosines_sees_them_unscaled():
    _, targets, features, _ = batch()
    head = build_head("cosine:scale=16", 5, 3, COUNTS)
    objective = Objective("ldam:scale=20", "none", COUNTS, {})
    objective.check(head)
    cosines = F.normalize(features) @ F.normalize(head.weight).T
    margins = 0.5 * (3 / torch.tensor(COUNTS)) ** 0.25
    shifted = 20 * (cosines - F.one_hot(targets, 3) * margins)
    torch.testing.assert_close(
        objective(head(features), targets, features, head).base, F.cross_entropy(shifted, targets)
    )


@pytest.mark.parametrize(
    ("loss", "regularizer", "head", "words"),
    [("ldam", "none", "linear", "--head cosine"), ("ce", "maxnorm", "ncm", "--head does not train one")],
)
def test_heads_that_do_not_fit_are_refused(loss, regularizer, head, words):
    with pytest.raises(InputError, match=words):
        Objective(loss, regularizer, COUNTS, {}).check(build_head(head, 5, 3, COUNTS))


def test_logits_that_are_not_finite_give_nan_and_leave_the_average():
    logits, targets, features, head = batch()
    objective = Objective("ce", "car", COUNTS, {})
    logits[0, 0] = torch.inf
    assert objective(logits, targets, features, head).loss.isnan()
    assert not objective.car.updates.any()
