"""Contrastive methods against their formulas in plain loops, and as parts of a run that resumes to the bit."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from car_ext.cli.flags import parse
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.methods.augment.images import Augmentation
from car_ext.methods.augment.mix import Mixed
from car_ext.methods.contrast import build_contrast
from car_ext.methods.contrast.balanced import balanced_contrastive
from car_ext.methods.contrast.concutmix import ConCutMix
from car_ext.methods.contrast.parametric import parametric_contrastive
from car_ext.methods.contrast.semantic import semantic_targets
from car_ext.methods.heads.cosine import Cosine
from car_ext.methods.left_out import LEFT_OUT
from car_ext.methods.registry import methods
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.training.job import Job
from car_ext.training.objective import Objective
from car_ext.training.train import train

COUNTS = [50, 20, 7, 3]
K, N, D, SIDE = len(COUNTS), 6, 5, 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=generator(seed), dtype=torch.float64), dim=-1)


def classes(count: int, seed: int = 0, low: int = 0, high: int = K) -> torch.Tensor:
    return torch.randint(low, high, (count,), generator=generator(seed))


def network() -> Classifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, D), nn.BatchNorm1d(D))
    return Classifier(backbone, Cosine(D, K), [0.5], [0.2])


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (*shape, SIDE, SIDE, 1), generator=generator(seed), dtype=torch.uint8)


def mixed_batch(targets: torch.Tensor, lam: list[float]) -> Mixed:
    return Mixed(pictures(len(targets)), targets, targets.roll(1), torch.tensor(lam))


# Balanced contrastive learning.


def balanced_oracle(views: np.ndarray, prototypes: np.ndarray, targets: list[int], t: float) -> float:
    """Every sum of the paper's formula as a loop; (class, vector) of all there is."""
    everything = [(c, view[i]) for view in views for i, c in enumerate(targets)]
    anchors = len(everything)
    everything += list(enumerate(prototypes))
    losses = []
    for i in range(anchors):
        own_class, z = everything[i]
        by_class = {c: [] for c in range(len(prototypes))}
        for k, (c, other) in enumerate(everything):
            if k != i:
                by_class[c].append(math.exp(z @ other / t))
        denominator = sum(sum(terms) / len(terms) for terms in by_class.values())
        ratios = [math.log(term / denominator) for term in by_class[own_class]]
        losses.append(-sum(ratios) / len(ratios))
    return sum(losses) / anchors


@given(st.integers(1, 7), st.integers(1, 3), st.floats(0.05, 2), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_balanced_contrastive_matches_its_formula(batch, views, temperature, seed):
    z, prototypes, targets = unit(views, batch, 3, seed=seed), unit(K, 3, seed=seed + 1), classes(batch, seed)
    loss = balanced_contrastive(z, prototypes, targets, temperature)
    expected = balanced_oracle(z.numpy(), prototypes.numpy(), targets.tolist(), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_balanced_contrastive_by_hand():
    e1, e2 = torch.eye(2, dtype=torch.float64)
    # The other view and the prototype are at cosine 1, the other class's prototype at 0.
    loss = balanced_contrastive(e1.expand(2, 1, 2), torch.stack([e1, e2]), torch.tensor([0]), 1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_balanced_contrastive_gradient():
    views, prototypes, targets = unit(2, N, 3).requires_grad_(), unit(K, 3, seed=1).requires_grad_(), classes(N)
    assert torch.autograd.gradcheck(lambda *x: balanced_contrastive(*x, targets, 0.3), (views, prototypes))


# Parametric contrastive learning.


def parametric_oracle(logits, queries, keys, targets, key_targets, alpha, beta, t) -> float:
    losses = []
    batch, waiting = list(zip(targets, queries, strict=True)), list(zip(key_targets, keys, strict=True))
    for i, y in enumerate(targets):
        scored = [(beta * (c == y), logits[i, c]) for c in range(K)]
        scored += [(alpha * (c == y), queries[i] @ q / t) for j, (c, q) in enumerate(batch) if j != i]
        scored += [(alpha * (c == y), queries[i] @ k / t) for c, k in waiting if c >= 0]
        denominator = sum(math.exp(score) for _, score in scored)
        ratios = [weight * math.log(math.exp(score) / denominator) for weight, score in scored]
        losses.append(-sum(ratios) / sum(weight for weight, _ in scored))
    return sum(losses) / len(losses)


def parametric_case(seed: int = 0) -> tuple[torch.Tensor, ...]:
    logits = torch.randn(N, K, generator=generator(seed), dtype=torch.float64)
    return logits, unit(N, 3, seed=seed + 1), unit(9, 3, seed=seed + 2), classes(N), classes(9, seed, low=-1)


@given(st.floats(0, 3), st.floats(0.1, 3), st.floats(0.05, 2), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_parametric_contrastive_matches_its_formula(alpha, beta, temperature, seed):
    case = parametric_case(seed)
    loss = parametric_contrastive(*case, alpha, beta, temperature)
    logits, queries, keys, targets, key_targets = (x.numpy() for x in case)
    expected = parametric_oracle(logits, queries, keys, targets, key_targets, alpha, beta, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_parametric_contrastive_gradient():
    *inputs, targets, key_targets = parametric_case()
    inputs = [x.requires_grad_() for x in inputs]
    assert (key_targets < 0).any()
    assert torch.autograd.gradcheck(lambda *x: parametric_contrastive(*x, targets, key_targets, 0.3, 0.8, 0.5), inputs)


# The modules.


def step(contrast, model, targets, seed=0):
    """One forward pass as a training loop does it: term, labels, and the features it began with."""
    images, views = pictures(N, seed=seed), pictures(N, contrast.views, seed=seed + 1)
    features, others = contrast.encode(model, images, views)
    hard = targets.targets if isinstance(targets, Mixed) else targets
    labels = targets.soft_targets(K) if isinstance(targets, Mixed) else hard
    term, labels = contrast(model.head(features), targets, labels, features, others, model.head.weight)
    return term, labels, features, others


def test_all_of_them_are_known_and_what_is_not_says_why():
    assert list(methods("contrast")) == ["bcl", "concutmix", "paco"]
    everything = {name for kind in ("loss", "regularizer", "mix", "contrast", "head") for name in methods(kind)}
    assert not everything & {name.lower() for name in LEFT_OUT}
    assert all(reason.endswith(".") and len(reason) > 40 for reason in LEFT_OUT.values())


def test_views_are_encoded_in_one_pass_and_in_order():
    model, contrast = network(), build_contrast("bcl", COUNTS, network())
    images, views = pictures(N), pictures(N, 2, seed=1)
    features, others = contrast.encode(model, images, views)
    together = model.features(torch.cat([images, views[:, 0], views[:, 1]]))
    assert torch.equal(torch.cat([features, *others]), together)
    assert model.backbone[2].num_batches_tracked == 2


def test_bcl_contrasts_normalised_projections_with_those_of_the_class_vectors():
    model = network()
    contrast = build_contrast("bcl:beta=0.7,temperature=0.2,hidden=8,dim=3", COUNTS, model)
    targets = classes(N)
    before = copy.deepcopy(contrast)
    term, labels, features, others = step(contrast, model, targets)
    assert labels is targets
    assert contrast.base_weight == 2
    projected = before.projection(torch.cat([features, *others]))
    views = F.normalize(projected.unflatten(0, (3, N))[1:], dim=2)
    prototypes = F.normalize(before.prototype_projection(model.head.weight), dim=1)
    expected = 0.7 * balanced_oracle(
        views.detach().double().numpy(), prototypes.detach().double().numpy(), targets.tolist(), 0.2
    )
    assert term.item() == pytest.approx(expected, rel=1e-5)
    assert contrast.projection[1].num_batches_tracked == 1  # all views at once

    term.backward()
    assert model.head.weight.grad.any()
    assert all(parameter.grad is not None for parameter in (*contrast.parameters(), *model.backbone.parameters()))


@pytest.mark.parametrize("name", ["bcl", "concutmix", "paco"])
def test_half_precision_features_give_a_float32_term(name):
    model = network()
    contrast = build_contrast(name, COUNTS, model)
    contrast.set_epoch(2, 2)
    targets = classes(N) if name == "paco" else mixed_batch(classes(N), [0.5] * N)
    with torch.autocast("cpu", torch.bfloat16):
        term, labels, features, _ = step(contrast, model, targets)
        assert features.dtype == torch.bfloat16
    assert term.dtype == torch.float32
    assert term.isfinite()
    assert labels.isfinite().all()
    term.backward()
    assert all(p.grad.isfinite().all() for p in model.backbone.parameters())


def test_concutmix_labels_mixed_images_by_what_they_look_like():
    model, targets = network(), mixed_batch(classes(N), [0.25, 0.5, 1.0, 0.75, 0.0, 1.0])
    contrast = build_contrast("concutmix:omega=4,topk=2,hidden=8,dim=3", COUNTS, model)
    area = targets.soft_targets(K)
    assert torch.equal(step(contrast, model, targets)[1], area)
    contrast.set_epoch(52, 100)
    before = copy.deepcopy(contrast)
    _, labels, features, others = step(contrast, model, targets)
    projected = before.projection(torch.cat([features, *others]))[:N]
    expected = semantic_targets(projected, before.prototype_projection(model.head.weight), area, COUNTS, 2, 4.0)
    unmixed = targets.lam == 1
    torch.testing.assert_close(labels[~unmixed], expected[~unmixed])
    assert (labels[~unmixed] - area[~unmixed]).abs().amax(dim=1).min() > 1e-3
    assert torch.equal(labels[unmixed], area[unmixed])
    assert not labels.requires_grad

    plain = build_contrast("bcl:hidden=8,dim=3", COUNTS, model)
    plain.load_state_dict(before.state_dict())
    assert torch.equal(step(plain, network(), targets.targets)[0], step(before, network(), targets)[0])  # not mixed


@pytest.mark.parametrize(
    ("warm_epochs", "epochs", "first"), [(0.5, 200, 102), (160, 400, 162), (0.25, 10, 4), (0, 3, 2), (1, 5, 3)]
)
def test_concutmix_changes_labels_after_its_warm_epochs(warm_epochs, epochs, first):
    contrast = ConCutMix(COUNTS, D, warm_epochs=warm_epochs)
    model, targets = network(), mixed_batch(classes(N), [0.5] * N)
    area, changed = targets.soft_targets(K), []
    for epoch in {first - 1, first, epochs}:
        contrast.set_epoch(epoch, epochs)
        changed += [epoch] * (not torch.equal(step(contrast, model, targets)[1], area))
    assert set(changed) == {first, epochs}


@pytest.mark.parametrize(
    ("size", "topk", "omega"), [(10, 3, 2 / 255), (100, 30, 20 / 255), (1000, 30, 200 / 255), (3, 1, 3 / 1275)]
)
def test_concutmix_defaults_are_those_of_the_published_data_sets(size, topk, omega):
    contrast = ConCutMix([5] * size, D)
    assert contrast.topk == topk
    assert contrast.omega == pytest.approx(omega)


def test_paco_is_its_formula_over_batch_and_queue():
    model = network()
    contrast = build_contrast("paco:queue=10,dim=3,temperature=0.5,alpha=0.3,momentum=0.9", COUNTS, model)
    assert (contrast.views, contrast.base_weight) == (1, 0)
    waiting, waiting_targets = np.zeros((10, 3)), np.full(10, -1)
    for number in range(3):
        targets = classes(N, number)
        term, labels, features, others = step(contrast, model, targets, seed=10 * number)
        assert labels is targets
        queries = F.normalize(contrast.projection(features), dim=1).detach().double().numpy()
        keys = F.normalize(contrast.key_projection(others[0]), dim=1).detach().double().numpy()
        logits = (model.head(features).detach().double() + torch.tensor(COUNTS).double().log() - math.log(80)).numpy()
        every_key, every_target = np.concatenate([waiting, keys]), np.concatenate([waiting_targets, targets])
        expected = parametric_oracle(logits, queries, every_key, targets.tolist(), every_target.tolist(), 0.3, 1, 0.5)
        assert term.item() == pytest.approx(expected, rel=1e-4)
        waiting, waiting_targets = every_key[-10:], every_target[-10:]
        np.testing.assert_allclose(contrast.queue.numpy(), waiting, atol=1e-6)
        assert contrast.queue_targets.tolist() == waiting_targets.tolist()
    assert (contrast.queue_targets >= 0).all()


def test_paco_keys_follow_by_a_moving_average_and_get_no_gradient():
    model = network()
    contrast = build_contrast("paco:momentum=0.9", COUNTS, model)
    key, query = contrast.key_network.backbone[1].weight, model.backbone[1].weight
    assert torch.equal(key, query)
    with torch.no_grad():
        query += 1
    expected = 0.9 * key + 0.1 * query
    term, _, _, others = step(contrast, model, classes(N))
    torch.testing.assert_close(key, expected)
    assert not others.requires_grad
    term.backward()
    assert key.grad is None
    assert query.grad.any()
    assert model.head.weight.grad.any()
    trained = {name.split(".")[0] for name, p in contrast.named_parameters() if p.requires_grad}
    assert trained == {"projection"}
    assert model.backbone[2].num_batches_tracked == 1  # the keys have statistics of their own
    assert contrast.key_network.backbone[2].num_batches_tracked == 1


@pytest.mark.parametrize("queue", [0, 4])
def test_paco_takes_batches_longer_than_its_queue(queue):
    model = network()
    contrast = build_contrast(f"paco:queue={queue}", COUNTS, model)
    targets = classes(N)
    assert step(contrast, model, targets)[0].isfinite()
    assert contrast.queue_targets.tolist() == targets[N - queue :].tolist()


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("bcl:temperature=0", "temperature must be positive, got 0"),
        ("bcl:beta=-1", "beta must be"),
        ("bcl:alpha=inf", "alpha must be"),
        ("bcl:dim=0", "dim must be at least 1"),
        ("bcl:topk=3", "topk of contrast 'bcl' is not an option"),
        ("concutmix:topk=5", "topk must be from 1 to the 4 classes, got 5"),
        ("concutmix:omega=-1", "omega must be"),
        ("concutmix:warm_epochs=-1", "warm_epochs must be"),
        ("paco:beta=0", "beta must be finite and positive"),
        ("paco:queue=-1", "queue must be"),
        ("paco:momentum=2", "momentum must be"),
        ("pcao", "did you mean paco"),
    ],
)
def test_bad_words_are_named(word, named):
    with pytest.raises(InputError, match=named):
        build_contrast(word, COUNTS, network())


# In the objective, the loader and a run.


def test_the_objective_weighs_loss_and_term():
    model, targets = network(), mixed_batch(classes(N), [0.5] * N)
    contrast = build_contrast("concutmix:alpha=3,omega=4", COUNTS, model)
    objective = Objective("balanced_softmax", "none", COUNTS, {}, contrast=contrast)
    objective.set_epoch(9, 10)
    before = copy.deepcopy(contrast)
    features, others = contrast.encode(model, pictures(N), pictures(N, 2, seed=1))
    logits = model.head(features)
    terms = objective(logits, targets, features, model.head, others)
    term, labels = before(logits, targets, targets.soft_targets(K), features, others, model.head.weight)
    assert not torch.equal(labels, targets.soft_targets(K))
    base = F.cross_entropy(logits + torch.tensor(COUNTS).log(), labels)
    assert terms.base.item() == pytest.approx(base.item(), rel=1e-5)
    assert terms.loss.item() == pytest.approx((3 * base + term).item(), rel=1e-5)


@pytest.mark.parametrize("epoch", [1, 2])
def test_views_differ_from_the_images_and_from_one_another(epoch):
    config = Config(contrast="bcl", augment="crop", view_augment="simclr", loss="balanced_softmax", head="cosine")
    job = Job(config)
    (stored, _, keys), _ = next(job.begin_epoch(epoch))
    images, (views,) = job.batches.seen(stored, keys), job.batches.views(stored, keys)
    assert images.shape[1:] == views.shape[2:]
    assert views.shape[:2] == (len(images), 2)
    assert views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for pair in views for view in pair}) > 1.9 * len(images)
    expected = Augmentation("simclr", job.image_size, config.seed, "view 1")(stored, keys)
    assert torch.equal(views[:, 1], expected)


JOBS = {
    "bcl": Config(contrast="bcl", loss="balanced_softmax", head="cosine", clip_grad=1.0, imbalance_ratio=20),
    "concutmix": Config(
        contrast="concutmix:warm_epochs=0", mix="concutmix:prob=1", regularizer="car", optimizer="sgd", lr=0.05
    ),
    "paco": Config(contrast="paco:queue=100,temperature=0.2", augment="crop", view_augment="simclr"),
}


@pytest.mark.parametrize("name", JOBS)
def test_an_interrupted_run_ends_in_the_same_bits(name, tmp_path, monkeypatch):
    config = dataclasses.replace(JOBS[name], epochs=2, out=str(tmp_path / "whole"))
    summary = train(config, progress=False)
    save, interrupted = checkpoint.save, dataclasses.replace(config, out=str(tmp_path / "run"), resume=True)

    def dies(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, progress=False)
    monkeypatch.setattr(checkpoint, "save", save)
    epoch, first, _ = checkpoint.load_latest(interrupted.run_dir)
    assert epoch == 1
    again = train(interrupted, progress=False)

    _, expected, _ = checkpoint.load_latest(config.run_dir)
    _, tensors, _ = checkpoint.load_latest(interrupted.run_dir)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    moved = {key for key in first if key.startswith("objective.contrast") and not torch.equal(first[key], tensors[key])}
    assert {"objective.contrast.projection.0.weight", "objective.contrast.projection.1.running_mean"} <= moved

    model, _ = load_run(config.run_dir)
    assert not [key for key in model.state_dict() if "contrast" in key or "projection" in key]
    assert summary["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_bcl_learns_the_digits(tmp_path):
    plain, contrasted = Config(out=str(tmp_path / "a")), dataclasses.replace(JOBS["bcl"], out=str(tmp_path / "b"))
    start = [Job(config).model.state_dict() for config in (plain, dataclasses.replace(plain, contrast="bcl"))]
    assert all(torch.equal(start[0][key], start[1][key]) for key in start[0])  # the same network to begin with
    assert train(dataclasses.replace(contrasted, epochs=8), progress=False)["overall_accuracy"] > 0.75


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--contrast concutmix", "add --mix concutmix"),
        ("--contrast paco --mix cutmix", "leave --mix out"),
        ("--contrast paco --loss focal", "leave --loss focal out"),
        ("--contrast bcl --head ncm", "--contrast acts on the classifier's weight"),
        ("--contrast bcll", "did you mean bcl"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, named, tmp_path):
    with pytest.raises(InputError, match=named):
        train(parse([*flags.split(), "--out", str(tmp_path / "run")]), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_second_stage_takes_no_contrast_over(tmp_path):
    config = dataclasses.replace(JOBS["bcl"], epochs=1, out=str(tmp_path / "run"))
    train(config, progress=False)
    assert parse(["--stage2", config.out, "--retrain", "crt"]).contrast == "none"
    assert parse(["--stage2", config.out]).contrast == "none"
    with pytest.raises(InputError, match="the head alone trains no features"):
        parse(["--stage2", config.out, "--contrast", "bcl"])
    assert config.method == "balanced_softmax+cosine+bcl"
