"""Every loss against its formula, its gradient, and the ways it is called."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_formulas import (
    ADDITIVE,
    COUNTS,
    PI,
    K,
    ce,
    class_balanced,
    equalization,
    geometric_mean,
    influence,
    ldam,
    mean_of,
    oracle,
)

from car_ext import InputError, build_loss
from car_ext.methods.losses.base import log_odds
from car_ext.methods.losses.class_balanced import DeferredReweighting
from car_ext.methods.losses.cross_entropy import CrossEntropy
from car_ext.methods.registry import methods

B, D = 9, 3
SPECS = [*ADDITIVE, "lade", "gml_nolb"]


def data(seed=0, dtype=torch.float64, scale=2.0):
    """Logits, hard targets without class 2, and features."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.tensor([0, 1, 3, 4, 0, 0, 1, 4, 3])
    logits = torch.randn(B, K, generator=g, dtype=torch.float64) + F.one_hot(targets, K)  # right more often than not
    return (logits * scale).to(dtype), targets, torch.randn(B, D, generator=g, dtype=torch.float64).to(dtype)


def soft_targets(seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(B, K, generator=g, dtype=torch.float64).softmax(1)


def test_every_registered_loss_is_tested_here():
    assert {spec.split(":")[0] for spec in SPECS} == set(methods("loss"))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "gml_nolb"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_losses_match_their_formulas(spec, dtype):
    z, y, h = data(dtype=dtype)
    for targets, t in ((y, F.one_hot(y, K)), (soft_targets(), soft_targets())):
        losses = build_loss(spec, COUNTS, reduction="none")(z, targets, h)
        tolerance = 2e-5 if dtype == torch.float32 else 1e-6  # the class weights are float32 in both
        np.testing.assert_allclose(losses, oracle(spec, z, t, h), rtol=tolerance, atol=1e-12)
        mean = build_loss(spec, COUNTS)(z, targets, h)
        assert mean.dtype == dtype
        assert mean.shape == ()
        assert mean.item() == pytest.approx(mean_of(spec, losses.numpy(), t), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_geometric_mean_matches_its_formula(dtype):
    z, y, _ = data(dtype=dtype)
    for targets, t in ((y, F.one_hot(y, K)), (soft_targets(), soft_targets())):
        expected = geometric_mean(z.double().numpy(), t.double().numpy())
        assert build_loss("gml_nolb", COUNTS)(z, targets).item() == pytest.approx(expected, rel=1e-5)
        shares = build_loss("gml_nolb", COUNTS, reduction="none")(z, targets)
        assert shares.mean().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spec", ADDITIVE)
@given(st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_a_mixed_label_is_a_mixture_of_losses(spec, lam, seed):
    z, a, h = data(seed)
    b = a.roll(1)
    loss = build_loss(spec, COUNTS, reduction="none")
    mixed = loss(z, lam * F.one_hot(a, K).double() + (1 - lam) * F.one_hot(b, K).double(), h)
    torch.testing.assert_close(mixed, lam * loss(z, a, h) + (1 - lam) * loss(z, b, h), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients(spec):
    z, y, h = data(scale=0.5)
    loss = build_loss(spec, COUNTS).double()
    for targets in (y, soft_targets()):
        leaves = z.clone().requires_grad_(), h.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda z, h, t=targets: loss(z, t, h), leaves)


@pytest.mark.parametrize("spec", SPECS)
def test_extreme_logits_stay_finite(spec):
    y = torch.arange(K)
    for z in (1e4 * torch.eye(K), -1e4 * torch.eye(K), 1e4 * torch.eye(K).roll(1, 0), torch.full((K, K), 1e4)):
        z = z.clone().requires_grad_()
        loss = build_loss(spec, COUNTS)(z, y, torch.zeros(K, D))
        loss.backward()
        assert loss.isfinite()
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_logits_are_computed_in_float32(spec, dtype):
    z, y, h = data(dtype=dtype)
    z.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = build_loss(spec, COUNTS)(z, y, h)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, build_loss(spec, COUNTS)(z.float(), y, h.float()))
    loss.backward()
    assert z.grad.dtype == dtype
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("spec", [*SPECS, "ldam+drw", "equalization"])
def test_compile_fullgraph(spec):
    torch.compiler.reset()  # all losses share one forward, and its cache is small
    loss = build_loss(spec, COUNTS)
    compiled = torch.compile(copy.deepcopy(loss), fullgraph=True, backend="aot_eager")
    arguments = data(dtype=torch.float32)
    torch.manual_seed(0)
    expected = loss(*arguments)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(*arguments), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spec", SPECS)
def test_cuda_agrees_with_the_cpu(spec):
    z, y, h = data(dtype=torch.float32)
    loss = build_loss(spec, COUNTS)
    expected = loss(z, y, h)
    there = copy.deepcopy(loss).cuda()
    torch.testing.assert_close(there(z.cuda(), y.cuda(), h.cuda()).cpu(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.compile(there)(z.cuda(), y.cuda(), h.cuda()).cpu(), expected, rtol=1e-5, atol=1e-6)


# By hand, two classes: logits (log 3, 0) give p = (3/4, 1/4).
HAND = torch.tensor([[math.log(3), 0.0]])


@pytest.mark.parametrize(
    ("spec", "counts", "target", "expected"),
    [
        ("ce", [1, 1], 0, math.log(4 / 3)),
        ("los", [1, 1], 0, 0.51 * math.log(4 / 3) + 0.49 * math.log(4)),
        ("focal", [1, 1], 0, math.log(4 / 3) / 16),
        ("focal", [1, 1], 1, math.log(4) * 9 / 16),
        ("focal:gamma=1,form=sigmoid", [1, 1], 0, math.log(4 / 3) / 4 + math.log(2) / 2),
        ("cb_ce:beta=0.5", [1, 2], 0, 1.2 * math.log(4 / 3)),  # weights 2 : 4/3, so 1.2 and 0.8
        ("cb_ce:beta=0.5", [1, 2], 1, 0.8 * math.log(4)),
        ("cb_bce:beta=0", [1, 2], 0, math.log(4 / 3) + math.log(2)),
        ("cb_bce:beta=0,form=softmax", [1, 2], 0, math.log(4 / 3)),  # both classes say the same, averaged
        ("cb_focal:beta=0,gamma=1", [1, 2], 0, math.log(4 / 3) / 4 + math.log(2) / 2),
        ("balanced_softmax", [3, 1], 0, math.log(10 / 9)),
        ("logit_adjusted:tau=2", [3, 1], 1, math.log(28)),
        ("ldam:scale=1", [16, 1], 1, math.log(1 + 3 * math.exp(0.5))),
        ("ldam:scale=1", [16, 1], 0, math.log(1 + math.exp(0.25) / 3)),
        ("ccar", [3, 1], 0, math.log(4 / 3)),  # at the pivot
        ("ccar", [3, 1], 1, math.exp(-0.25 * 0.5) * math.log(4)),
        ("ccar:omega=0.5", [3, 1], 0, math.exp(0.25 * 0.25) * math.log(4 / 3)),
        ("equalization:gamma=1,threshold=0.4", [3, 1], 0, 0.0),
        ("equalization:gamma=1,threshold=0.4", [3, 1], 1, math.log(4)),
        ("gml_nolb", [3, 1], 0, math.log(10 / 9)),
    ],
)
def test_by_hand(spec, counts, target, expected):
    loss = build_loss(spec, counts)(HAND, torch.tensor([target])).item()
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_influence_by_hand():
    loss = build_loss("ib:alpha=2,start_epoch=1", [1, 1])
    # ||p - e_y||_1 = 1/2, ||h||_1 = 4
    value = loss(HAND, torch.tensor([0]), torch.tensor([[1.0, -3.0]])).item()
    assert value == pytest.approx(math.log(4 / 3) * 2 / 2.001, rel=1e-5)


def test_geometric_mean_by_hand():
    # Balanced counts; class 0 has p = 3/4 and 1/4, class 1 has 1/4: means 1/2 and 1/4.
    logits = torch.cat([HAND, HAND.flip(1), HAND])
    loss = build_loss("gml_nolb", [5, 5])(logits, torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-5)


def test_lade_by_hand():
    # Balanced counts and one sample, so L = z = (log 3, 0): the bound is half of z_0 - L_0 - L_0^2.
    loss = build_loss("lade:alpha=1,lam=1", [5, 5])(HAND, torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(3) ** 2 / 2, rel=1e-5)


def test_logit_adjustment_of_one_is_balanced_softmax():
    z, y, _ = data()
    assert torch.equal(build_loss("logit_adjusted", COUNTS)(z, y), build_loss("balanced_softmax", COUNTS)(z, y))


def test_cross_entropy_is_torch_s():
    z, y, _ = data()
    for smoothing in (0.0, 0.1, 0.98):
        expected = F.cross_entropy(z, y, label_smoothing=smoothing)
        torch.testing.assert_close(build_loss("ce", COUNTS, smoothing=smoothing)(z, y), expected)


def test_ccar_gradient_is_psi_times_the_residual():
    z, y, _ = data()
    z.requires_grad_()
    build_loss("ccar", COUNTS, reduction="none")(z, y).sum().backward()
    p = z.detach().softmax(1)
    p_y, pi = p.gather(1, y[:, None]), torch.from_numpy(PI)[y][:, None]
    f = torch.where(p_y < 0.75, pi, 1 - pi)
    assert (p_y < 0.75).any()
    assert (p_y > 0.75).any(), "both phases"
    psi = (-f * (0.75 - p_y)).exp() * (1 + p_y * f * p_y.log())
    torch.testing.assert_close(z.grad, psi * (p - F.one_hot(y, K)), rtol=1e-6, atol=1e-8)


def test_class_weights_are_averaged_over_samples_or_over_weights():
    z, y, _ = data()
    y = y.clamp_max(1)  # frequent classes: the batch's mean weight is far from 1
    weights = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS], dtype=torch.float64)
    weights = weights / weights.mean()
    per_sample = F.cross_entropy(z, y, weights, reduction="none")
    ours = build_loss("cb_ce:beta=0.9", COUNTS)(z, y)
    torchs = build_loss("cb_ce:beta=0.9,weighted_mean=true", COUNTS)(z, y)
    deferred = build_loss("ce+drw:beta=0.9", COUNTS, drw_epoch=1)(z, y)
    switched_off = build_loss("ce+drw:beta=0.9,weighted_mean=false", COUNTS, drw_epoch=1)(z, y)
    torch.testing.assert_close(ours, per_sample.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torchs, F.cross_entropy(z, y, weights), rtol=1e-6, atol=0)
    assert torch.equal(deferred, torchs)
    assert torch.equal(switched_off, ours)
    assert abs(ours - torchs) > 0.1 * ours, "the two must differ for this test to mean something"


@pytest.mark.parametrize(
    ("drw_epoch", "epochs", "first"), [(None, 200, 161), (None, 100, 81), (None, 7, 6), (3, 7, 3), (1, 7, 1), (9, 7, 9)]
)
def test_deferred_reweighting_switches_at_its_epoch(drw_epoch, epochs, first):
    z, y, h = data()
    loss = build_loss("ldam:scale=10+drw", COUNTS, drw_epoch=drw_epoch)
    weights = class_balanced(lambda *_: 1, 0.9999)
    plain = np.mean(_ldam(z, y, h))
    weighted = np.sum(_weighted_ldam(z, y, h)) / sum(weights(None, label, None) for label in y.tolist())
    for epoch in range(1, epochs + 1):
        loss.set_epoch(epoch, epochs)
        assert loss(z, y).item() == pytest.approx(weighted if epoch >= first else plain, rel=1e-6), epoch


def _ldam(z, y, h):
    return [ldam(0.5, 10)(z[q].numpy(), int(y[q]), None) for q in range(B)]


def _weighted_ldam(z, y, h):
    return [class_balanced(ldam(0.5, 10), 0.9999)(z[q].numpy(), int(y[q]), None) for q in range(B)]


@pytest.mark.parametrize(
    ("spec", "weighed_by"),
    [
        (
            "ccar:base=reweighted",
            "reweighted",
        ),  # a wrapper divides as what it wraps, by the weights of the labels alone
        ("ccar:base=ce+drw", "drw"),
        ("reweighted+drw", "both"),
        ("reweighted:weighted_mean=false+drw:beta=0", "reweighted"),
    ],
)
def test_wrappers_divide_by_all_weights(spec, weighed_by):
    z, y, _ = data()
    reweighted = 1 / PI[y] / np.mean(1 / PI)
    balanced = np.array([class_balanced(lambda *_: 1, 0.9999)(None, label, None) for label in y.tolist()])
    weights = {"reweighted": reweighted, "drw": balanced, "both": reweighted * balanced}[weighed_by]
    losses, mean = (build_loss(spec, COUNTS, reduction=reduction) for reduction in ("none", "mean"))
    for loss in (losses, mean):
        loss.set_epoch(1, 1)  # the last of the epochs
    assert mean(z, y).item() == pytest.approx(losses(z, y).sum().item() / weights.sum(), rel=1e-6)


def test_epochs_reach_the_wrapped_loss():
    z, y, h = data()
    loss = build_loss("ccar:base=ib+drw", COUNTS)
    assert loss.needs_features
    values = []
    for epoch in (1, 5, 6, 8, 9):
        loss.set_epoch(epoch, 10)
        values.append(loss(z, y, h).item())
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert len(set(values)) == 3  # ib from epoch 6, the weights from epoch 9


def test_influence_starts_in_the_second_half():
    z, y, h = data()
    loss = build_loss("ib", COUNTS, reduction="none")
    for epoch, formula in ((1, ce), (100, ce), (101, influence(1000)), (200, influence(1000))):
        loss.set_epoch(epoch, 200)
        expected = [formula(z[q].numpy(), int(y[q]), h[q].numpy()) for q in range(B)]
        np.testing.assert_allclose(loss(z, y, h), expected, rtol=1e-6)


def test_equalization_draws_for_every_sample_and_class():
    z, y, _ = data()
    draws = torch.Generator().manual_seed(3)
    loss = build_loss(
        "equalization:gamma=0.6,threshold=0.08", COUNTS, reduction="none", generator=torch.Generator().manual_seed(3)
    )
    for _ in range(2):
        drawn = (torch.rand(B, K, generator=draws) < 0.6).numpy()
        expected = [equalization(0.08, drawn[q])(z[q].numpy(), int(y[q]), None) for q in range(B)]
        np.testing.assert_allclose(loss(z, y), expected, rtol=1e-6)
    assert 0 < drawn[:, 2:].sum() < drawn[:, 2:].size


def test_equalization_repeats_with_the_seed():
    z, y, _ = data()
    loss = build_loss("equalization:gamma=0.5,threshold=1", COUNTS)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(loss(z, y).item())
    assert values[0] == values[1] != values[2]


def test_equalization_where_every_class_is_rare():
    z, y, _ = data()
    z.requires_grad_()
    loss = build_loss("equalization:gamma=1,threshold=1", COUNTS)(z, y)  # nobody else is in the denominator
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_log_odds_lose_no_digits(scale):
    z = data()[0] * scale
    expected = [[z_q[k] - np.logaddexp.reduce(np.delete(z_q, k)) for k in range(K)] for z_q in z.numpy()]
    np.testing.assert_allclose(log_odds(z), expected, rtol=1e-12)
    ties = torch.zeros(1, K, dtype=torch.float64)
    np.testing.assert_allclose(log_odds(ties), -math.log(K - 1), rtol=1e-12)


def test_a_confident_sample_keeps_a_gradient_in_float32():
    # 1 - p = 4e-9 rounds away beside 1; the loss and its slope must not.
    z = torch.tensor([[20.0, 0, 0, 0, 0]], requires_grad=True)
    loss = build_loss("focal:gamma=0", COUNTS)(z, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(4 * math.exp(-20), rel=1e-4)
    assert z.grad[0, 0].item() == pytest.approx(-4 * math.exp(-20), rel=1e-4)


def test_nothing_is_saved():
    assert not build_loss("ccar:base=ldam+drw", COUNTS).state_dict()


def test_what_a_loss_needs_shows_through_wrappers():
    assert build_loss("ldam", COUNTS).cosine_logits
    assert build_loss("ccar:base=ldam+drw", COUNTS).cosine_logits
    assert not build_loss("ldam:scaled_logits=true", COUNTS).cosine_logits
    assert not build_loss("ce+drw", COUNTS).needs_features


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("focl", {}, "did you mean focal"),
        ("ce+drv", {}, "'drv' is not a weighting; there are drw; did you mean drw"),
        ("ce", {"reduction": "sum"}, "reduction must be 'mean' or 'none', got 'sum'"),
        ("ce", {"smoothing": 2}, "smoothing must be in"),
        ("ce", {"drw_epoch": 3}, r"drw_epoch is 3, but loss 'ce' has no \+drw; write ce\+drw"),
        ("ce+drw", {"drw_epoch": 0}, "drw_epoch must be an epoch from 1 on, got 0"),
        ("los:smoothing=nan", {}, "smoothing must be in"),
        ("focal:gamma=-1", {}, "gamma must be finite"),
        ("focal:form=tanh", {}, "form must be 'softmax' or 'sigmoid', got 'tanh'"),
        ("cb_bce:form=tanh", {}, "form must be 'softmax' or 'sigmoid', got 'tanh'"),
        ("cb_ce:beta=1", {}, "beta is 1"),
        ("ldam:max_margin=-1", {}, "max_margin must be finite"),
        ("ldam:scale=0", {}, "scale must be finite and positive"),
        ("logit_adjusted:tau=inf", {}, "tau must be finite"),
        ("lade:alpha=-1", {}, "alpha must be"),
        ("lade:lam=-1", {}, "lam must be"),
        ("ccar:omega=2", {}, "omega must be in"),
        ("ccar:base=nothing", {}, "'nothing' is not a loss"),
        ("ccar:base=lade", {}, "ccar cannot wrap LADE"),
        ("gml_nolb+drw", {}, "re-weighting cannot wrap GeometricMean"),
        ("ce+drw:beta=1", {}, "beta is 1"),
        ("ib:alpha=0", {}, "alpha must be"),
        ("ib:start_epoch=0", {}, "start_epoch must be"),
        ("equalization:gamma=2", {}, "gamma must be in"),
        ("equalization:threshold=-1", {}, "threshold must be in"),
    ],
)
def test_bad_options_are_named(spec, options, message):
    with pytest.raises(InputError, match=message):
        build_loss(spec, COUNTS, **options)


def test_bad_counts_are_named():
    with pytest.raises(InputError, match="class 1"):
        build_loss("ce", [3, 0])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), r"logits have shape \(2, 4\), but must be \(batch, 5\)"),
        (torch.zeros(5), torch.zeros(2, dtype=torch.int64), "logits have shape"),
        (torch.zeros(2, K), torch.zeros(2, dtype=torch.int32), r"targets are torch.int32 of shape \(2,\)"),
        (torch.zeros(2, K), torch.zeros(3, dtype=torch.int64), r"must be int64 \(2,\)"),
        (torch.zeros(2, K), torch.zeros(2), r"or floating point \(2, 5\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        build_loss("ce", COUNTS)(logits, targets)


def test_missing_features_are_named_from_the_first_step():
    z, y, h = data()
    with pytest.raises(ValueError, match=r"needs features \(batch, D\) for 9 samples, got none"):
        build_loss("ib", COUNTS)(z, y)
    with pytest.raises(ValueError, match=r"got \(8, 3\)"):
        build_loss("ib", COUNTS)(z, y, h[:8])


def test_a_wrapper_takes_the_reduction_of_what_it_wraps():
    z, y, _ = data()
    assert DeferredReweighting(CrossEntropy(COUNTS, "none"))(z, y).shape == (B,)
