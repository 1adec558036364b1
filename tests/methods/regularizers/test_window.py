"""CAR whose average is kept as the columns of the classes seen lately, against the one kept whole."""

import copy

import pytest
import torch

from car_ext import CAR, InputError
from car_ext.config.config import Config
from car_ext.methods.regularizers.window import WindowAverage
from car_ext.training.train import train

EXACT = {"tolerance": 1e-9}


def pair(classes: int, **options) -> tuple[CAR, CAR]:
    counts = (torch.arange(classes) % 37 + 1).tolist()
    dense, window = (CAR(counts, **options, **EXACT, estimator=kind).double() for kind in ("dense", "window"))
    return dense, window


def batch(seed: int, classes: int, samples: int = 8, spatial: tuple[int, ...] = ()):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, classes, *spatial, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (samples, *spatial), generator=generator)
    weights = torch.rand(samples, *spatial, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), targets, weights


def loss_and_gradient(car: CAR, logits, targets, weights=None):
    loss = car(logits, targets, weights)
    return loss.detach(), *torch.autograd.grad(loss, logits)


def assert_same(dense: CAR, window: CAR, *inputs, tolerance: float):
    for mine, expected in zip(loss_and_gradient(window, *inputs), loss_and_gradient(dense, *inputs), strict=True):
        scale = expected.abs().max().clamp_min(1e-30)
        assert (mine - expected).abs().max() / scale < tolerance
    assert (dense.average() - window.average()).abs().max() < tolerance


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"absent": "hold"},
        {"debias": True, "prior": 1.0, "beta": 0.9},
        {"variant": "reference-code"},
        {"variant": "reference-code", "absent": "hold", "beta": 0.0},
    ],
    ids=str,
)
def test_it_is_the_dense_average(options):
    dense, window = pair(40, **options)
    for seed in range(30):
        logits, targets, weights = batch(seed, 40)
        assert_same(dense, window, logits, targets, weights if seed % 2 else None, tolerance=1e-6)


@pytest.mark.parametrize("absent", ["decay", "hold"])
def test_it_is_the_dense_average_of_a_thousand_classes(absent):
    dense, window = pair(1000, absent=absent)
    for seed in range(12):
        assert_same(dense, window, *batch(seed, 1000, 64)[:2], tolerance=1e-5)
    assert (window.recent.classes >= 0).sum() < 600


def test_dense_prediction_what_is_ignored_and_what_has_no_weight():
    dense, window = pair(6)
    for seed in range(3):
        logits, targets, weights = batch(seed, 6, 3, (2, 2))
        targets[0, 0] = -100
        weights[1, 1] = 0
        assert_same(dense, window, logits, targets, weights, tolerance=1e-7)
    nothing = torch.full_like(targets, -100)
    assert_same(dense, window, logits, nothing, tolerance=1e-7)


def test_without_training_it_stays():
    _, car = pair(20)
    for seed in range(3):
        car(*batch(seed, 20)[:2])
    before, inputs = copy.deepcopy(car.state_dict()), batch(3, 20)[:2]
    with torch.no_grad():
        value = car(*inputs)
    assert all(torch.equal(car.state_dict()[key], before[key]) for key in before)
    assert value == car(*inputs)
    assert not torch.equal(car.state_dict()["recent.rows"], before["recent.rows"])


def test_a_saved_average_goes_on():
    _, car = pair(200)
    for seed in range(4):
        car(*batch(seed, 200)[:2])
    _, fresh = pair(200)
    saved = car.state_dict()
    assert len(saved["recent.rows"]) <= 32 < len(car.recent.rows)  # free rows are not saved
    fresh.load_state_dict(saved)
    for seed in range(4, 8):
        inputs = batch(seed, 200)[:2]
        assert [*map(torch.equal, loss_and_gradient(car, *inputs), loss_and_gradient(fresh, *inputs))] == [True, True]


def test_room_for_the_window_and_no_more():
    car = CAR([1] * 5000, estimator="window", window=3, absent="hold")
    for seed in range(20):
        logits, targets, _ = batch(seed, 5000, 16)
        car(logits.float(), targets)
    recent = car.recent
    assert recent.rows.shape == (48, 5000)
    assert sum(tensor.numel() for tensor in car.buffers()) < 60 * 5000
    lately = torch.cat([batch(seed, 5000, 16)[1] for seed in (17, 18, 19)]).unique()
    assert set(lately.tolist()) <= set(recent.classes.tolist())
    assert recent.evicted >= 20 * 16 - 48 - 10
    assert (recent.updates > 0).sum() == (recent.classes >= 0).sum() == 48  # who made way begins anew


def test_a_larger_batch_makes_room():
    dense, window = pair(300)
    for seed, samples in enumerate([4, 32, 4, 64, 4]):
        assert_same(dense, window, *batch(seed, 300, samples)[:2], tolerance=1e-6)


def test_a_class_that_was_away_too_long_has_no_row():
    car = CAR([1] * 50, estimator="window", beta=0.5, window=4)
    for seed in range(12):
        car(torch.randn(2, 50).requires_grad_(), torch.tensor([seed, seed + 1]))
    held = car.recent.classes[car.recent.classes >= 0]
    assert sorted(held.tolist()) == [8, 9, 10, 11, 12]  # of the last four batches


def test_what_is_refused():
    car = CAR([5, 3, 2], estimator="window")
    logits, targets = torch.randn(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 0])
    for fault, inputs in {
        "target is outside": (logits, targets + 1),
        "samples, but 3 targets": (logits, targets[:3]),
        "negative": (logits, targets, -torch.ones(4)),
        "NaN": (logits.detach() * torch.nan, targets),
    }.items():
        with pytest.raises(RuntimeError, match=fault):
            car(*inputs)
    assert car.recent.batches == 0
    with pytest.raises(InputError, match="estimator is dense"):
        CAR([5, 3], window=3)
    with pytest.raises(InputError, match="window"):
        CAR([5, 3], estimator="window", window=0)


def test_a_training_of_too_many_classes_says_what_it_has_not_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("car_ext.methods.regularizers.full_confusion.LARGEST", 9)
    monkeypatch.setattr(WindowAverage, "matrix", None)  # that of all classes
    summary = train(Config(regularizer="car:estimator=window", epochs=1, out=str(tmp_path / "run")), progress=False)
    assert summary["moving_average"]["sigma"] is None
    assert "made up to 9 classes" in summary["moving_average"]["note"]
    assert summary["train_worst_class_accuracy"] is not None


def test_a_training_with_it_ends_as_with_the_dense_one(tmp_path):
    rows = []
    for estimator in ("dense", "window"):
        job = Config(regularizer=f"car:estimator={estimator}", epochs=2, out=str(tmp_path / estimator))
        rows.append(train(job, progress=False))
    assert rows[1]["overall_accuracy"] == pytest.approx(rows[0]["overall_accuracy"], abs=0.03)
    assert rows[1]["moving_average"]["sigma"] == pytest.approx(rows[0]["moving_average"]["sigma"], rel=0.05)
