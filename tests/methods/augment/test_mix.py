"""What is in a mixed batch, read back from painted images, and how its labels follow from it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from car_ext.errors import InputError
from car_ext.methods.augment.mix import CMO, Mixed, build_mix
from car_ext.methods.contrast.semantic import semantic_targets
from car_ext.methods.registry import methods

NAMES = ["mixup", "remix", "cutmix", "concutmix", "cmo"]
COUNTS = [900, 300, 100, 30, 10]
K, N, H, W = len(COUNTS), 12, 16, 10
EPOCH, EPOCHS = 50, 100  # well inside every window


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def painted(values, dtype=torch.uint8) -> torch.Tensor:
    """Image i is of the one colour ``values[i]``."""
    return torch.as_tensor(values).to(dtype).view(-1, 1, 1, 1).repeat(1, H, W, 3)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i has colour 10 i; the labels are random."""
    return painted(range(0, 10 * N, 10)), torch.randint(K, (N,), generator=generator(seed))


def partner_batch() -> tuple[torch.Tensor, torch.Tensor]:
    return painted(range(130, 130 + 10 * N, 10)), torch.randint(K, (N,), generator=generator(99))


def apply(name: str, seed: int = 0, epoch: int = EPOCH, epochs: int = EPOCHS) -> Mixed:
    mix = build_mix(name, COUNTS)
    partner = partner_batch() if mix.partner_sampler else None
    return mix(*batch(), generator(seed), partner, epoch, epochs)


def always(name: str) -> str:
    return f"{name}{',' if ':' in name else ':'}prob=1"


def test_all_of_them_are_known():
    assert list(methods("mix")) == sorted(NAMES)
    needed = {name: build_mix(name, COUNTS).partner_sampler for name in NAMES}
    assert needed == {name: "class_balanced" if name in ("concutmix", "cmo") else None for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_is_all_that_it_depends_on(name):
    images, targets = batch()
    before, state = (images.clone(), targets.clone()), torch.get_rng_state()
    mix = build_mix(always(name), COUNTS)
    partner = partner_batch() if mix.partner_sampler else None
    first = mix(images, targets, generator(3), partner, EPOCH, EPOCHS)
    again = mix(images, targets, generator(3), partner, EPOCH, EPOCHS)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, mix(images, targets, generator(4), partner, EPOCH, EPOCHS).images)
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_the_forms_of_what_comes_out(name):
    for spec in (always(name), f"{name}:prob=0"):
        mixed = apply(spec)
        assert mixed.images.shape == (N, H, W, 3)
        assert mixed.images.dtype == (torch.float32 if name in ("mixup", "remix") else torch.uint8)
        assert mixed.lam.shape == mixed.targets.shape == mixed.partner_targets.shape == (N,)
        assert mixed.lam.dtype == torch.float32
        assert ((mixed.lam >= 0) & (mixed.lam <= 1)).all()
        assert torch.equal(mixed.targets, batch()[1])


@pytest.mark.parametrize("name", NAMES)
def test_prob_is_how_often_a_batch_is_mixed(name):
    unmixed = apply(f"{name}:prob=0")
    assert (unmixed.lam == 1).all()
    assert torch.equal(unmixed.images.to(torch.uint8), batch()[0])
    assert torch.equal(unmixed.partner_targets, unmixed.targets)

    plain = batch()[0]
    changed = sum(not torch.equal(apply(f"{name}:prob=0.3", seed).images.to(torch.uint8), plain) for seed in range(500))
    assert abs(changed - 150) < 4.5 * math.sqrt(500 * 0.3 * 0.7)


def test_cutmix_kinds_mix_half_of_the_batches():
    default = {name: build_mix(name, COUNTS).prob for name in NAMES}
    assert default == {"mixup": 1, "remix": 1, "cutmix": 0.5, "concutmix": 0.5, "cmo": 0.5}


def test_mixup_is_the_weighted_mean():
    images, targets = batch()
    for seed in range(20):
        mixed = apply("mixup", seed)
        lam = mixed.lam[0].item()
        assert (mixed.lam == lam).all()
        own = lam * images.double()
        order = [int(((mixed.images[i] - own[i]).mean() / (1 - lam) / 10).round()) for i in range(N)]
        assert sorted(order) == list(range(N))
        expected = own + (1 - lam) * images[order].double()
        torch.testing.assert_close(mixed.images.double(), expected, rtol=1e-5, atol=1e-4)
        assert torch.equal(mixed.partner_targets, targets[order])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratios_follow_the_beta_distribution(alpha):
    lam = [apply(f"mixup:alpha={alpha}", seed).lam[0].item() for seed in range(400)]
    assert stats.kstest(lam, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_float_images_stay_in_their_range():
    images, targets = batch()
    mixed = build_mix("mixup", COUNTS)(images.float(), targets, generator())
    assert torch.equal(mixed.images, apply("mixup").images)
    cut = build_mix(always("cutmix"), COUNTS)(images.float(), targets, generator())
    assert torch.equal(cut.images, apply(always("cutmix")).images.float())


REMIX = [  # (n_a, n_b, l, lam) with kappa 3 and tau 0.5
    (90, 30, 0.4, 0.0),  # a is just frequent enough, and l small enough, for the label to be b's
    (90, 30, 0.6, 0.6),
    (90, 31, 0.4, 0.4),
    (30, 90, 0.6, 1.0),  # and the other way round
    (30, 90, 0.4, 0.4),
    (31, 90, 0.6, 0.6),
    (90, 30, 0.5, 0.5),  # l < tau is strict
    (30, 90, 0.5, 0.5),
    (50, 50, 0.1, 0.1),
    (900, 10, 0.01, 0.0),
    (10, 900, 0.99, 1.0),
]


@pytest.mark.parametrize(("own", "partner", "ratio", "expected"), REMIX)
def test_remix_label_table(own, partner, ratio, expected, monkeypatch):
    monkeypatch.setattr("car_ext.methods.augment.mix._beta", lambda alpha, generator: ratio)
    mix = build_mix("remix", [own, partner])
    mixed = mix(painted([100]), torch.tensor([0]), generator(), partner=(painted([200]), torch.tensor([1])))
    assert mixed.lam.tolist() == pytest.approx([expected])
    torch.testing.assert_close(mixed.images, painted([100 * ratio + 200 * (1 - ratio)], torch.float32))


@given(st.integers(0, 10**6), st.floats(1, 10), st.floats(0, 1))
@example(seed=0, kappa=1.0000000000000002, tau=1.0)
def test_remix_decides_for_each_sample(seed, kappa, tau):
    plain = apply("mixup", seed)
    mixed = build_mix(f"remix:kappa={kappa!r},tau={tau!r}", COUNTS)(*batch(), generator(seed))
    assert torch.equal(mixed.images, plain.images)
    assert torch.equal(mixed.partner_targets, plain.partner_targets)
    columns = (x.tolist() for x in (plain.targets, plain.partner_targets, plain.lam, mixed.lam))
    for a, b, ratio, lam in zip(*columns, strict=True):
        much_more, much_less = COUNTS[a] >= kappa * COUNTS[b], COUNTS[b] >= kappa * COUNTS[a]
        if much_more and ratio < tau - 1e-6:
            assert lam == 0
        elif much_less and 1 - ratio < tau - 1e-6 and not much_more:
            assert lam == 1
        elif not (much_more or much_less) or tau + 1e-6 < ratio < 1 - tau - 1e-6:
            assert lam == ratio


@pytest.mark.parametrize("name", ["cutmix", "concutmix", "cmo"])
def test_what_is_pasted_is_one_box_of_the_partner_and_lam_is_the_rest(name):
    background, targets = batch()
    areas = set()
    for seed in range(60):
        mixed = apply(always(name), seed)
        pasted = (mixed.images != background).all(dim=3)
        own = pasted.any(dim=0)  # a sample that is its own partner shows nothing
        area = int(own.sum())
        areas.add(area)
        torch.testing.assert_close(mixed.lam, torch.full((N,), 1 - area / (H * W)))
        if not area:
            continue
        rows, columns = own.any(dim=1).nonzero().flatten(), own.any(dim=0).nonzero().flatten()
        assert area == len(rows) * len(columns)
        assert int(rows[-1] - rows[0]) + 1 == len(rows)
        colour = mixed.images[:, rows[0], columns[0], 0]
        assert torch.equal(mixed.images[:, own], colour.view(-1, 1, 1).expand(-1, area, 3))
        assert torch.equal(mixed.images[:, ~own], background[:, ~own])
        if name == "cutmix":
            order = colour // 10
            assert sorted(order.tolist()) == list(range(N))
            assert torch.equal(mixed.partner_targets, targets[order.long()])
        else:
            assert torch.equal(colour, partner_batch()[0][:, 0, 0, 0])
            assert torch.equal(mixed.partner_targets, partner_batch()[1])
    assert len(areas) > 20


def test_the_box_has_the_sides_of_the_ratio(monkeypatch):
    monkeypatch.setattr("car_ext.methods.augment.mix._beta", lambda alpha, generator: 0.75)
    sizes = set()
    for seed in range(300):
        pasted = (apply(always("concutmix"), seed).images != batch()[0]).all(dim=3)[0]
        sizes.add((int(pasted.any(dim=1).sum()), int(pasted.any(dim=0).sum())))
    # Half of each side, 8 by 5, of which 4 rows and 2 columns on either side of the centre; less at the border.
    assert {height for height, _ in sizes} == {4, 5, 6, 7, 8}
    assert {width for _, width in sizes} == {2, 3, 4}


def test_cmo_leaves_the_first_four_and_the_last_three_epochs_alone():
    mix = build_mix(always("cmo"), COUNTS)
    active = [epoch for epoch in range(1, 21) if mix.active(epoch, 20)]
    assert active == list(range(5, 18))
    assert active == [epoch + 1 for epoch in range(20) if 3 < epoch < 20 - 3]
    mixed = {epoch: (apply(always("cmo"), 1, epoch, 20).lam != 1).any().item() for epoch in range(1, 21)}
    assert [epoch for epoch, is_mixed in mixed.items() if is_mixed] == active
    assert all(build_mix(name, COUNTS).active(1, 20) for name in NAMES if name != "cmo")
    assert mix(*batch(), generator(), epoch=1, epochs=20).lam.min() == 1  # needs no partner then


def test_a_partner_is_needed_and_must_fit():
    with pytest.raises(ValueError, match="CMO mixes with a batch from a class_balanced sampler"):
        CMO(COUNTS, prob=1.0)(*batch(), generator(), epoch=EPOCH, epochs=EPOCHS)
    images, targets = partner_batch()
    with pytest.raises(ValueError, match="the partner batch has shape"):
        CMO(COUNTS, prob=1.0)(*batch(), generator(), (images[:5], targets[:5]), EPOCH, EPOCHS)


def test_any_mix_takes_a_partner():
    mixed = build_mix("mixup", COUNTS)(*batch(), generator(), partner_batch())
    assert torch.equal(mixed.partner_targets, partner_batch()[1])


def test_soft_targets():
    mixed = Mixed(painted([0, 0, 0]), torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0]), torch.tensor([0.75, 0.25, 1.0]))
    expected = [[0.75, 0.25, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert mixed.soft_targets(4).tolist() == expected
    assert mixed.soft_targets(4).dtype == torch.float32


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("mixup:alpha=0", "alpha must be a positive number, got 0"),
        ("cutmix:prob=1.5", "prob must be a probability, from 0 to 1, got 1.5"),
        ("remix:kappa=0.5", "kappa must be a number of at least 1, got 0.5"),
        ("remix:tau=2", "tau must be a number from 0 to 1, got 2"),
        ("mixup:kappa=3", "kappa of mix 'mixup' is not an option"),
    ],
)
def test_bad_options_are_named(spec, named):
    with pytest.raises(InputError, match=named):
        build_mix(spec, COUNTS)


def semantic_oracle(features, prototypes, targets, counts, topk, omega_scale):
    rows = []
    for f, t in zip(features.double().numpy(), targets.double().numpy(), strict=True):
        distances = [math.sqrt(sum((a - b) ** 2 for a, b in zip(f, p, strict=True))) for p in prototypes.double()]
        nearest = sorted(range(len(counts)), key=lambda k: distances[k])[:topk]
        total = sum(1 / distances[k] for k in nearest)
        q = np.array([1 / distances[k] / total if k in nearest else 0.0 for k in range(len(counts))])
        omega = omega_scale * math.log(sum(n * x for n, x in zip(counts, t, strict=True)))
        omega /= sum(math.log(n) for n in counts)
        rows.append(omega * q + (1 - omega) * t)
    return np.array(rows)


@pytest.mark.parametrize("topk", [1, 3, K])
@pytest.mark.parametrize("omega_scale", [20 / 255, 2.0])
def test_semantic_targets(topk, omega_scale):
    features, prototypes = torch.randn(N, 7, generator=generator(1)), torch.randn(K, 7, generator=generator(2))
    targets = apply(always("cutmix")).soft_targets(K)
    soft = semantic_targets(features.requires_grad_(), prototypes, targets, COUNTS, topk, omega_scale)
    expected = semantic_oracle(features.detach(), prototypes, targets, COUNTS, topk, omega_scale)
    np.testing.assert_allclose(soft.numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(soft.sum(dim=1), 1, rtol=1e-5)
    assert not soft.requires_grad


def test_semantic_targets_of_a_feature_on_a_prototype_and_of_single_images():
    prototypes = torch.eye(K)
    targets = torch.full((1, K), 1 / K)
    soft = semantic_targets(prototypes[2:3], prototypes, targets, COUNTS, 2, 1.0)
    assert soft.isfinite().all()
    assert soft.argmax() == 2
    assert torch.equal(semantic_targets(prototypes[2:3], prototypes, targets, [1] * K, 2, 1.0), targets)


@pytest.mark.parametrize(
    ("prototypes", "topk", "named"),
    [((7, K), 3, "7 prototypes"), ((K, 7), 0, "topk is 0"), ((K, 7), K + 1, f"topk is {K + 1}")],
)
def test_bad_prototypes_are_named(prototypes, topk, named):
    features, targets = torch.zeros(2, prototypes[1]), torch.full((2, K), 1 / K)
    with pytest.raises(InputError, match=named):
        semantic_targets(features, torch.zeros(prototypes), targets, COUNTS, topk, 0.1)
