"""The CAR module: how users call it, in every way PyTorch lets them."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from car_ext import CAR, InputError, Variant, spectral_norm
from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.ops import reference

COUNTS = [100, 50, 10, 4]


def batch(seed=0, samples=16, classes=4):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 8, generator=g), torch.randint(0, classes, (samples,), generator=g)


class Model(nn.Module):
    """What torch.compile, script and export see: a network with its loss."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8, len(COUNTS))
        self.car = CAR(COUNTS, **options)

    def forward(self, x, y):
        logits = self.net(x)
        return F.cross_entropy(logits, y) + self.car(logits, y)


def run(model, steps=3, reference=None):
    """Losses, the gradient after accumulation over all steps, and the moving average."""
    losses = []
    for seed in range(steps):
        loss = model(*batch(seed))
        loss.backward()
        losses.append(loss.item())
    owner = reference or model
    return losses, owner.net.weight.grad, owner.car.ema


def assert_same_run(a, b, tolerance=1e-6):
    assert a[0] == pytest.approx(b[0], rel=tolerance)
    torch.testing.assert_close(a[1], b[1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a[2], b[2], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"absent": "hold"}, {"prior": 1.5}, {"variant": "reference-code"}], ids=str)
def test_three_steps_against_the_formulas(options):
    car = CAR(COUNTS, alpha=0.7, gamma=0.2, tolerance=1e-8, **options).double()
    frequency = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    weights = (frequency + 0.2) ** -0.5
    code = options.get("variant") == "reference-code"
    if code:
        weights = weights / weights.mean()
    confusion, seen = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4)
    for seed in range(3):
        x, y = batch(seed)
        logits = (x[:, :4] * 2).double().requires_grad_()
        copy_ = logits.detach().clone().requires_grad_()
        gamma = 0.0 if code else 0.2
        compared = copy_ + (options.get("prior", 0) * frequency.log()).float()
        values = reference.surrogate(compared, y, gamma, softmax_over_all=code, detach_gate=code)
        new, mass = reference.class_means(values, y)
        if code and seed == 0:
            confusion = new.detach()
        elif options.get("absent") == "hold":
            confusion = torch.where(mass > 0, 0.5 * confusion + 0.5 * new, confusion)
            seen += mass > 0
        else:
            confusion = 0.5 * confusion + 0.5 * new
        share = 1 - 0.5**seen if options.get("absent") == "hold" else 1
        expected = 0.7 * torch.linalg.matrix_norm(confusion * (weights / share), 2)
        loss = car(logits, y)
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=0)
        loss.backward()
        if confusion.requires_grad:
            expected.backward()
            torch.testing.assert_close(logits.grad, copy_.grad, rtol=1e-4, atol=1e-9)
        else:
            assert not logits.grad.any()  # the published code's first step is a constant
        confusion = confusion.detach()


def test_debias_undoes_the_cold_start():
    x, y = batch()
    logits = x[:, :4]
    plain, debiased = CAR(COUNTS), CAR(COUNTS, debias=True)
    assert debiased(logits, y).item() == pytest.approx(2 * plain(logits, y).item(), rel=1e-5)


def test_evaluation_leaves_the_state_alone():
    model = Model()
    model(*batch()).backward()
    before = {k: v.clone() for k, v in model.car.state_dict().items()}
    with torch.no_grad():
        seen = model(*batch(1))
    model.eval()
    assert model(*batch(1)).item() == seen.item()
    assert all(torch.equal(v, before[k]) for k, v in model.car.state_dict().items())
    model.train()
    model(*batch(1))
    assert not torch.equal(model.car.ema, before["ema"])


def test_sigma_without_gradient_equals_the_training_value():
    a, b = Model(), Model()
    with torch.no_grad():
        seen = a(*batch())
    assert seen.item() == b(*batch()).item()


def test_gradient_accumulation_sums_the_steps():
    model, single = Model(), Model()
    total = sum(model(*batch(seed)) for seed in range(3))
    total.backward()  # three forwards before one backward
    assert_same_run(([0], model.net.weight.grad, model.car.ema), ([0], *run(single)[1:]))


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_kept_graph_gives_the_same_gradient_every_time(factor):
    x, y = batch()
    logits = x[:, :4].clone().requires_grad_()
    loss = factor * CAR(COUNTS)(logits, y)
    (expected,) = torch.autograd.grad(loss, logits, retain_graph=True)
    expected = expected.clone()
    for times in (1, 2, 3):
        loss.backward(retain_graph=True)
        torch.testing.assert_close(logits.grad, times * expected)
    torch.autograd.grad(loss, logits, retain_graph=True)[0].zero_()
    (last,) = torch.autograd.grad(loss, logits)
    assert torch.equal(last, expected)


def test_gradients_of_several_upstreams_at_once():
    x, y = batch()
    logits = x[:, :4].clone().requires_grad_()
    loss, upstreams = CAR(COUNTS)(logits, y), torch.tensor([1.0, -2.0, 1.0])
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (several,) = torch.autograd.grad(loss, logits, upstreams, is_grads_batched=True)
    torch.testing.assert_close(several, upstreams[:, None, None] * once)


def test_state_dict_and_deepcopy_continue_with_the_same_bits():
    model = Model(absent="hold")
    run(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded, copied = Model(absent="hold"), copy.deepcopy(model)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    losses = [m(*batch(9)).item() for m in (model, loaded, copied)]
    assert losses[0] == losses[1] == losses[2]
    assert torch.equal(model.car.ema, loaded.car.ema)
    assert torch.equal(model.car.ema, copied.car.ema)


def test_compile_fullgraph():
    plain, model = Model(), Model()
    compiled = torch.compile(model, fullgraph=True)
    assert_same_run(run(compiled, reference=model), run(plain), tolerance=1e-5)
    with torch.no_grad():
        compiled(*batch())
    assert torch.equal(model.car.updates, torch.full((4,), 3))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [lambda car: car, torch.jit.script], ids=["eager", "scripted"])
def test_prior_joins_dense_logits_too(make):
    options = {"prior": 1.0, "absent": "hold"}
    dense = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.randint(0, 4, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    rows = reference.rows_of_classes(dense)
    loss = make(CAR(COUNTS, **options))(dense, targets)
    flat = CAR(COUNTS, prior=0.0, absent="hold")(rows + torch.tensor(COUNTS).log(), targets.flatten())
    assert loss.item() == pytest.approx(flat.item(), rel=1e-6)  # log n and log frequency differ by a constant
    (grad,) = torch.autograd.grad(loss, dense)
    torch.testing.assert_close(grad, torch.autograd.grad(flat, dense)[0], rtol=1e-4, atol=1e-8)


def test_torchscript():
    plain, scripted = Model(), torch.jit.script(Model())
    assert_same_run(run(scripted), run(plain))
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    assert torch.jit.load(file)(*batch(5)).item() == scripted(*batch(5)).item()


def test_export_with_a_dynamic_batch():
    model, plain = Model(), Model()
    size = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, batch(), dynamic_shapes={"x": {0: size}, "y": {0: size}})
    module = program.module()
    for seed, samples in ((0, 16), (1, 5)):
        loss, expected = module(*batch(seed, samples)), plain(*batch(seed, samples))
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    lowered = program.run_decompositions()
    assert any("ema" in name for name in lowered.graph_signature.buffers_to_mutate.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    model, plain = Model(), Model()
    with torch.autocast("cpu", dtype=dtype):
        loss = model(*batch())
    loss.backward()
    assert model.car.ema.dtype == torch.float32
    assert loss.item() == pytest.approx(plain(*batch()).item(), rel=2e-2)
    assert model.net.weight.grad.isfinite().all()


def test_float16_gradients_survive_with_a_gradient_scaler():
    classes, scale = 1000, 2.0**16
    g = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(256, classes, generator=g).half(), torch.randint(0, classes, (256,), generator=g)
    half, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    (CAR([5] * classes)(half, targets) * scale).backward()
    (CAR([5] * classes).double()(exact, targets) * scale).backward()
    assert exact.grad.abs().median() / scale < 6e-8, "the test must need the scale: below float16's smallest number"
    assert (half.grad.double() - exact.grad).norm() < 1e-3 * exact.grad.norm()


def test_a_mixed_sample_is_two_weighted_samples():
    # Mixup with weight 1/2 of a label with itself is that label.
    x, y = batch()
    logits = x[:, :4]
    plain, mixed = CAR(COUNTS), CAR(COUNTS)
    half = torch.full((32,), 0.5)
    twice = mixed(logits.repeat(2, 1), y.repeat(2), half)
    assert twice.item() == pytest.approx(plain(logits, y).item(), rel=1e-5)


def test_ignored_samples_do_not_exist():
    x, y = batch()
    logits = x[:, :4]
    some = y.clone()
    some[::3] = -100
    kept = some != -100
    assert CAR(COUNTS)(logits, some).item() == pytest.approx(CAR(COUNTS)(logits[kept], y[kept]).item(), rel=1e-5)


def test_training_tracks_the_exact_svd_at_every_step():
    """120 classes, a network that learns them: sigma within 1e-4 and the gradient within 1e-3 of the exact ones."""
    torch.manual_seed(0)
    classes, steps = 120, 150
    counts = torch.tensor([max(2, int(200 * 0.01 ** (c / (classes - 1)))) for c in range(classes)])
    labels = torch.repeat_interleave(torch.arange(classes), counts)
    inputs = (torch.randn(classes, 32) * 0.7)[labels] + torch.randn(len(labels), 32)
    for options in ({}, {"absent": "hold"}, {"variant": "reference-code"}):
        net = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, classes))
        car = CAR(counts, **options)
        optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
        worst_sigma = worst_gradient = 0.0
        for _ in range(steps):
            chosen = torch.randint(0, len(labels), (128,))
            logits = net(inputs[chosen])
            exact_car = copy.deepcopy(car).double()
            state = (exact_car.class_weights, exact_car.ema, exact_car.updates, exact_car.direction)
            sigma, exact = reference.car_step(
                logits.detach().double(), labels[chosen], None, *state, exact_car.spectral_error,
                car.beta, car.gamma, car.temperature, car.softmax_over_all, car.detach_gate,
                car.start_from_first_batch, car.hold_absent, car.debias, car.ignore_index, 1.0, 1,
            )  # fmt: skip
            logits.retain_grad()
            penalty = car(logits, labels[chosen])
            penalty.backward(retain_graph=True)
            gradient = logits.grad.double() / car.alpha
            worst_sigma = max(worst_sigma, abs(penalty.item() / car.alpha / sigma.item() - 1))
            if exact.any():
                worst_gradient = max(worst_gradient, ((gradient - exact).norm() / exact.norm()).item())
            else:
                assert not gradient.any()
            F.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
            optimizer.zero_grad()
        accuracy = (net(inputs).argmax(1) == labels).float().mean()
        assert accuracy > 0.7, "the test must visit a fitted network"
        assert worst_sigma < 1e-4
        assert worst_gradient < 1e-3


def test_variant_switches_are_orthogonal():
    mixed = CAR(COUNTS, variant=Variant(detach_gate=True))
    assert mixed.detach_gate
    assert not mixed.softmax_over_all


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"class_counts": [5]}, InputError, "at least 2 classes"),
        ({"class_counts": [5, 0, 3]}, InputError, "class 1"),
        ({"class_counts": [5, -1]}, InputError, "-1"),
        ({"class_counts": COUNTS, "beta": 1}, InputError, "beta must be a finite number >= 0 and < 1, got 1"),
        ({"class_counts": COUNTS, "alpha": -1}, InputError, "alpha must be a finite number >= 0, got -1"),
        ({"class_counts": COUNTS, "alpha": float("nan")}, InputError, "alpha must be a finite number >= 0, got nan"),
        ({"class_counts": COUNTS, "r0": 0}, InputError, "r0 must be a finite number > 0, got 0"),
        ({"class_counts": COUNTS, "temperature": 0}, InputError, "temperature must be a finite number > 0, got 0"),
        (
            {"class_counts": COUNTS, "variant": "papr"},
            InputError,
            "variant must be one of paper, reference-code, got 'papr'",
        ),
        ({"class_counts": COUNTS, "absent": "keep"}, InputError, "absent must be one of decay, hold, got 'keep'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        CAR(**arguments)


@pytest.mark.parametrize(
    "options",
    [{}, {"debias": True}, {"absent": "hold"}, {"variant": "reference-code", "temperature": 2.0, "gamma": 0.3}],
    ids=str,
)
def test_the_average_is_what_the_loss_sees_and_its_gap_to_all_samples(options):
    car = CAR(COUNTS, alpha=1.0, beta=0.7, **options)
    full = FullConfusion(car)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(90, 4, generator=generator) * 2
    targets = torch.randint(0, 3, (90,), generator=generator)  # no sample of class 3
    for start in range(0, 90, 20):
        part = slice(start, start + 20)
        sigma = car(logits[part].requires_grad_(), targets[part])
        full.update(logits[part].detach(), targets[part])
    average, weights = car.average().double(), car.class_weights.double()
    assert torch.linalg.matrix_norm(average * weights, 2).item() == pytest.approx(sigma.item(), rel=1e-5)

    form = (car.gamma, car.temperature, car.softmax_over_all, False, -100)
    exact = reference.confusion(logits.double(), targets, None, *form)[0].T
    torch.testing.assert_close(full.matrix().double(), exact, rtol=1e-5, atol=1e-7)
    assert full.gap() == {
        "sigma": pytest.approx(sigma.item(), rel=1e-5),
        "full_sigma": pytest.approx(torch.linalg.matrix_norm(exact * weights, 2).item(), rel=1e-5),
        "distance": pytest.approx(((average - exact).norm() / exact.norm()).item(), rel=1e-5),
    }


def test_an_average_without_a_batch_is_zero():
    for options in ({}, {"debias": True}, {"absent": "hold"}):
        car = CAR(COUNTS, **options)
        assert (car.average() == 0).all()
        assert FullConfusion(car).gap() == {"sigma": 0.0, "full_sigma": 0.0, "distance": None}


def test_of_too_many_classes_there_is_no_full_matrix():
    assert FullConfusion.unavailable(10_000) is None
    gap = FullConfusion.unavailable(10_001)
    assert gap.keys() == {*FullConfusion(CAR(COUNTS)).gap(), "note"}
    assert "10,001 x 10,001" in gap["note"]


def test_a_second_derivative_is_an_error_and_never_a_constant():
    model = Model()
    weight = model.net.weight
    for loss in (model(*batch()), 3 * model(*batch()), model.car(model.net(batch()[0]), batch()[1])):
        (grad,) = torch.autograd.grad(loss, weight, create_graph=True)
        with pytest.raises(RuntimeError, match=r"cannot be differentiated twice .* create_graph=True out"):
            grad.square().sum().backward()
    z = model.net(batch()[0]).detach()
    for vectorize in (False, True):
        with pytest.raises(RuntimeError, match="differentiated twice"):
            torch.autograd.functional.hessian(lambda z: model.car(z, batch()[1]), z, vectorize=vectorize)
    matrix = torch.rand(4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(spectral_norm(matrix) + matrix.square().sum(), matrix, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        grad.sum().backward()


def test_first_derivatives_do_not_notice():
    x, y = batch()
    car, net = CAR(COUNTS).eval(), Model().net  # evaluation leaves the state alone
    z = net(x).detach().requires_grad_()
    (plain,) = torch.autograd.grad(car(z, y), z)
    (with_graph,) = torch.autograd.grad(car(z, y), z, create_graph=True)
    assert torch.equal(plain, with_graph)
    checkpointed = z.detach().clone().requires_grad_()
    for reentrant in (False, True):
        checkpointed.grad = None
        kept = torch.utils.checkpoint.checkpoint(lambda z: car(z, y), checkpointed, use_reentrant=reentrant)
        kept.backward()
        torch.testing.assert_close(checkpointed.grad, plain)
    # Another part may be differentiated twice beside it.
    loss = F.cross_entropy(z, y)
    (grad,) = torch.autograd.grad(loss, z, create_graph=True)
    (grad.square().sum() + car(z, y)).backward()
    assert z.grad.isfinite().all()
