"""Weight regularizers against loops, by hand, and over epochs."""

import io
import math

import pytest
import torch

from car_ext.errors import InputError
from car_ext.methods.registry import build, methods

HAND = torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]])  # norms 5, 1, 2; cosines 0.8, 0.6, 0


def weight(rows=6, columns=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=g, dtype=torch.float64)


def repulsion(w, theta):
    """The sum over ordered pairs, one by one."""
    total = 0.0
    for i, w_i in enumerate(w.tolist()):
        for j, w_j in enumerate(w.tolist()):
            dot = sum(a * b for a, b in zip(w_i, w_j, strict=True))
            cosine = dot / math.hypot(*w_i) / math.hypot(*w_j)
            if i != j and cosine > theta:
                total += cosine - theta
    return total / len(w)


def test_all_are_registered():
    assert {"lwr", "maxnorm", "ltwb"} <= set(methods("regularizer"))
    assert "reconstruction" in methods("regularizer")["lwr"].notes


@pytest.mark.parametrize("theta", [-1.0, 0.0, 0.4, 0.9])
def test_repulsion_is_the_sum_over_active_pairs(theta):
    w = weight()
    penalty = build("regularizer", "lwr", theta=theta, lambda0=0.5).double().penalty(w)
    assert penalty.item() == pytest.approx(0.5 * repulsion(w, theta), rel=1e-9)


def test_repulsion_by_hand():
    lwr = build("regularizer", "lwr:theta=0.5,lambda0=3")
    assert lwr.penalty(HAND).item() == pytest.approx(2 * (0.3 + 0.1))
    raw = build("regularizer", "lwr:theta=0.5,lambda0=3,project=false")
    assert raw.penalty(HAND).item() == pytest.approx(2 * (4 + 6))


def test_repulsion_without_active_pairs_is_nothing():
    w = weight().requires_grad_()
    penalty = build("regularizer", "lwr:theta=1").penalty(w)
    penalty.backward()
    assert penalty.item() == 0
    assert not w.grad.any()


def test_repulsion_gradients():
    w = weight().requires_grad_()
    for word in ("lwr", "lwr:project=false", "lwr:theta=-1"):
        assert torch.autograd.gradcheck(build("regularizer", word).double().penalty, (w,))


def test_projected_repulsion_moves_no_weight_along_itself():
    w = weight().requires_grad_()
    build("regularizer", "lwr:theta=0").penalty(w).backward()
    assert w.grad.norm() > 0.01
    torch.testing.assert_close((w.grad * w).sum(1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-8)


def test_projection_takes_off_what_lies_along_the_weight():
    # Unit weights: the projected gradient is the raw one without its part along w_i.
    w = torch.nn.functional.normalize(weight(), dim=1).requires_grad_()
    projected, raw = (
        torch.autograd.grad(build("regularizer", f"lwr:theta=0,project={p}").double().penalty(w), w)[0]
        for p in ("true", "false")
    )
    torch.testing.assert_close(projected, raw - (raw * w).sum(1, keepdim=True) * w, rtol=1e-9, atol=1e-12)


def test_repulsion_grows_over_the_epochs():
    full = build("regularizer", "lwr").penalty(HAND).item()
    ramp, constant = build("regularizer", "lwr"), build("regularizer", "lwr:ramp=false")
    for epoch in (1, 5, 10):
        for regularizer, share in ((ramp, epoch / 10), (constant, 1)):
            regularizer.set_epoch(epoch, 10)
            assert regularizer.penalty(HAND).item() == pytest.approx(share * full)


def test_repulsion_of_a_head_of_zeros():
    w = torch.zeros(4, 3, requires_grad=True)
    for theta in (0.4, -1.0):
        penalty = build("regularizer", "lwr", theta=theta).penalty(w)
        penalty.backward()
        assert penalty.isfinite()
        assert not w.grad.any()


def test_max_norm_by_hand():
    w = HAND.clone().requires_grad_()
    max_norm = build("regularizer", "maxnorm:thresh=0.5")  # radius 1 + (5 - 1) / 2 = 3
    assert max_norm.penalty(w).item() == 0
    max_norm.after_epoch(w)
    torch.testing.assert_close(w.detach(), torch.tensor([[1.8, 2.4], [0.0, 1.0], [2.0, 0.0]]))
    assert w.requires_grad


def test_max_norm_keeps_the_radius_it_began_with():
    w = HAND.clone()
    max_norm = build("regularizer", "maxnorm")  # radius 1.4
    max_norm.penalty(w)
    for _ in range(2):
        w.mul_(10)
        max_norm.penalty(w)
        max_norm.after_epoch(w)
        torch.testing.assert_close(w.norm(dim=1), torch.full((3,), 1.4))


def test_a_resumed_run_keeps_the_radius():
    began, resumed = build("regularizer", "ltwb"), build("regularizer", "ltwb")
    began.penalty(HAND)
    file = io.BytesIO()
    torch.save(began.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    w = 10 * HAND
    resumed.penalty(w)
    resumed.after_epoch(w)
    torch.testing.assert_close(w.norm(dim=1), torch.full((3,), 1.4))


def test_weight_balancing_decays_as_sgd_does():
    start = weight()
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    ltwb = build("regularizer", "ltwb").double()
    (ours.sin().sum() + ltwb.penalty(ours)).backward()
    torch.optim.SGD([ours], lr=0.3).step()
    theirs.sin().sum().backward()
    torch.optim.SGD([theirs], lr=0.3, weight_decay=0.1).step()
    torch.testing.assert_close(ours, theirs)


def test_weight_balancing_bounds_unless_told_not_to():
    for word, largest in (("ltwb", 1.4), ("ltwb:bound=false", 5.0)):
        w, ltwb = HAND.clone(), build("regularizer", word)
        assert ltwb.penalty(w).item() == pytest.approx(0.05 * 30)
        ltwb.after_epoch(w)
        assert w.norm(dim=1).max().item() == pytest.approx(largest)


def test_a_bound_of_zero_is_refused():
    with pytest.raises(InputError, match="began with a weight of zeros"):
        build("regularizer", "maxnorm").after_epoch(torch.zeros(3, 2))


@pytest.mark.parametrize("word", ["lwr", "lwr:project=false", "maxnorm", "ltwb"])
def test_compile_fullgraph(word):
    regularizer, compiled = build("regularizer", word), build("regularizer", word)
    penalty = torch.compile(compiled.penalty, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(penalty(HAND), regularizer.penalty(HAND))
    ours, theirs = HAND.clone(), HAND.clone()
    regularizer.after_epoch(ours)
    compiled.after_epoch(theirs)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lwr:theta=2", "theta must be in"),
        ("lwr:lambda0=-1", "lambda0 must be finite"),
        ("maxnorm:thresh=2", "thresh must be in"),
        ("ltwb:decay=inf", "decay must be finite"),
        ("max_norm", "did you mean maxnorm"),
    ],
)
def test_bad_options_are_named(word, message):
    with pytest.raises(InputError, match=message):
        build("regularizer", word)
