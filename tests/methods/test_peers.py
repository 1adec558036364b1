"""Every method by its word against public code, whose results on fixed inputs are kept in peers.json: numbers, no code.

Each entry names the repository (at the commit given there), the file and what of it was run. The inputs are the
formulas below, in float64. What is left of a difference is our class constants, rounded to float32: 2e-7 at most.

Not here: whole training runs; AutoAugment, which is torchvision's; focal loss under class weights, the order of
class-aware sampling and the mean of ReMix over a batch, which differ here and say so; CCAR and LWR, of which we found
no public code.
"""

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.datasets.longtail import imbalance
from car_ext.methods.augment import boxes, mix
from car_ext.methods.contrast import Contrast, build_contrast
from car_ext.methods.heads import build_head
from car_ext.methods.losses import build_loss
from car_ext.methods.registry import build
from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.methods.samplers import build_sampler
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.summary import summarize
from car_ext.models.classifier import build_model

TEXT = (Path(__file__).parent / "peers.json").read_text(encoding="utf-8")
PEERS = json.loads(TEXT)
COUNTS = PEERS["class_counts"]
K, B, D, F_DIM = len(COUNTS), 9, 6, 3
CLASSES = torch.arange(K, dtype=torch.float64)


def grid(rows: int, columns: int) -> Tensor:
    """0 .. rows * columns - 1."""
    return torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)


def logits_of(step: int = 0) -> Tensor:
    samples = torch.arange(B, dtype=torch.float64)[:, None]
    return 2 * torch.sin(1 + K * (B * step + samples) + CLASSES)


def targets_of(step: int = 0) -> Tensor:
    return (torch.arange(B) ** 2 + step) % K


COSINES = logits_of() / 2
LOGITS = {"logits": logits_of(), "cosines": COSINES, "25 cosines": 25 * COSINES}
OTHERS = (targets_of() + 1) % K
MIXED_LABELS = 0.75 * F.one_hot(targets_of(), K) + 0.25 * F.one_hot(OTHERS, K).double()
FEATURES = torch.cos(2 + 3 * grid(B, D))
WEIGHT = (1 + CLASSES)[:, None] * torch.sin(3 + 2 * grid(K, D))
BIAS, SCALES = CLASSES.cos() / 2, 1 + CLASSES / 4


def every(kind: str):
    return pytest.mark.parametrize("peer", PEERS[kind], ids=lambda peer: f"{peer['word']} of {peer['repository']}")


def assert_close(ours: Tensor | float, theirs, tolerance: float = 1e-6) -> None:
    """Within `tolerance` of the largest entry."""
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, theirs))
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def finished() -> nn.Linear:
    head = nn.Linear(D, K, dtype=torch.float64)
    head.load_state_dict({"weight": WEIGHT, "bias": BIAS})
    return head


def test_every_peer_has_a_commit():
    assert set(re.findall(r'"repository": "(.+?)"', TEXT)) == set(PEERS["commits"])


@every("losses")
def test_loss(peer):
    loss = build_loss(peer["word"], COUNTS).double()
    loss.set_epoch(peer.get("epoch", 1), epochs=200)
    logits = LOGITS[peer["inputs"]].clone().requires_grad_()
    value = loss(logits, MIXED_LABELS if peer.get("labels") == "mixed" else targets_of(), FEATURES)
    value.backward()
    assert_close(value, peer["value"])
    assert_close(logits.grad, peer["gradient"])


@every("car")
def test_car(peer):
    car = build("regularizer", peer["word"], COUNTS, tolerance=1e-9, max_iterations=1000).double()
    for step, theirs in enumerate(peer["values"]):
        logits = logits_of(step).requires_grad_()
        value = car(logits, targets_of(step))
        assert_close(value, theirs)
    value.backward()
    assert_close(logits.grad, peer["gradient of the last"])
    assert_close(car.average(), peer["average after the last"])


def test_full_confusion():
    peer = PEERS["full_confusion"]
    full = FullConfusion(build("regularizer", peer["word"], COUNTS))
    for step in range(4):
        full.update(logits_of(step).float(), targets_of(step))
    assert_close(full.matrix(), peer["matrix"])


@every("heads")
def test_head(peer):
    head = build_head(peer["word"], D, K, COUNTS, init=finished()).double()
    with torch.no_grad():
        match peer["word"].partition(":")[0]:
            case "cosine":
                head.weight.copy_(WEIGHT)
            case "lws":
                head.scale.copy_(SCALES)
            case "disalign":
                head.scale.copy_(SCALES)
                head.offset.copy_(BIAS)
                head.confidence.bias.fill_(0.25)
    assert_close(head(FEATURES), peer["logits"])


@every("nearest_means")
def test_nearest_mean(peer):
    y = torch.arange(23) % K
    bumps = F.one_hot(y, D) + torch.sin(1 + grid(23, D)) / 2
    head = build_head(peer["word"], D, K, COUNTS).double()
    head.fit((1 + y)[:, None] * bumps + 1, y)
    logits = head(2 * FEATURES + 1)
    assert logits.argmax(dim=1).tolist() == peer["predictions"]
    # What is the same for every class may differ.
    ours, theirs = (x - x.mean(dim=1, keepdim=True) for x in (logits, torch.tensor(peer["logits"], dtype=logits.dtype)))
    assert_close(ours, theirs)


def test_max_norm():
    peer, weight = PEERS["maxnorm"], WEIGHT.clone()
    max_norm = build("regularizer", peer["word"]).double()
    max_norm.after_epoch(weight)
    assert_close(weight, peer["after the first"])
    weight = 2 * weight + WEIGHT / 10
    max_norm.after_epoch(weight)
    assert_close(weight, peer["after the second"])


RAW_VIEWS, RAW_PROTOTYPES = torch.sin(1 + grid(2 * B, F_DIM)), torch.cos(1 + grid(K, F_DIM))
VIEWS = F.normalize(RAW_VIEWS, dim=1).view(2, B, F_DIM)
PROTOTYPES = F.normalize(RAW_PROTOTYPES, dim=1)
QUEUE, QUEUE_TARGETS = F.normalize(torch.cos(2 + grid(7, F_DIM)), dim=1), torch.arange(7) % K


def network() -> nn.Module:
    model = nn.Module()
    model.backbone, model.head = nn.Identity(), nn.Linear(F_DIM, K)
    return model


def straight_through() -> nn.Sequential:
    """A projection that gives what it gets."""
    linear = nn.Linear(F_DIM, F_DIM, bias=False, dtype=torch.float64)
    nn.init.eye_(linear.weight)
    return nn.Sequential(linear)


def of_contrast(word: str) -> tuple[dict, Contrast]:
    """What public code computes, and ours by the same word."""
    peer = next(peer for peer in PEERS["contrasts"] if peer["word"].startswith(word))
    return peer, build_contrast(peer["word"], COUNTS, network()).double()


def test_balanced_contrast():
    peer, contrast = of_contrast("bcl")
    contrast.projection = contrast.prototype_projection = straight_through()
    views, prototypes = VIEWS.clone().requires_grad_(), PROTOTYPES.clone().requires_grad_()
    value, _ = contrast(logits_of(), targets_of(), targets_of(), VIEWS[0], views, prototypes)
    value.backward()
    assert_close(value, peer["value"])
    assert_close(views.grad, peer["gradient of the views"])
    assert_close(prototypes.grad, peer["gradient of the prototypes"])


def test_parametric_contrast():
    peer, contrast = of_contrast("paco")
    contrast.projection = contrast.key_projection = straight_through()
    contrast.queue, contrast.queue_targets = QUEUE, QUEUE_TARGETS
    logits, queries = logits_of().requires_grad_(), VIEWS[0].clone().requires_grad_()
    value, _ = contrast(logits, targets_of(), targets_of(), queries, VIEWS[1:], WEIGHT)
    value.backward()
    assert_close(value, peer["value"])
    assert_close(logits.grad, peer["gradient of the logits"])
    assert_close(queries.grad, peer["gradient of the queries"])


def test_semantic_labels():
    peer, contrast = of_contrast("concutmix")
    contrast.projection = contrast.prototype_projection = straight_through()
    contrast.set_epoch(peer["epoch"], epochs=200)
    batch = mix.Mixed(torch.empty(B, 1, 1, 1), targets_of(), OTHERS, torch.full((B,), 0.75))
    _, labels = contrast(logits_of(), batch, MIXED_LABELS, RAW_VIEWS[:B], VIEWS, RAW_PROTOTYPES)
    assert_close(labels, peer["labels"])


@every("samplers")
def test_sampler(peer):
    targets = np.repeat(np.arange(K), 40 * np.array(COUNTS))
    sampler = build_sampler(peer["word"], targets, batch_size=128, seed=0)
    sampler.set_epoch(peer.get("epoch", 1), epochs=10)
    drawn = np.bincount(targets[np.concatenate(list(sampler))]) / len(targets)
    theirs = np.array(peer["class_probabilities"])
    assert (np.abs(drawn - theirs) < 4.5 * np.sqrt(theirs * (1 - theirs) / len(targets))).all()


@torch.no_grad()
def test_network():
    peer = PEERS["network"]
    model = build_model(peer["word"], COUNTS, 32, 3, [0.0] * 3, [1.0] * 3).double().eval()
    state = {**model.backbone.state_dict(), **model.head.state_dict()}
    for n, (name, tensor) in enumerate((name, x) for name, x in state.items() if x.is_floating_point()):
        sines = torch.sin(n + 2 * torch.arange(tensor.numel(), dtype=torch.float64)).view(tensor.shape)
        if tensor.ndim == 4:
            sines *= 2 / tensor[0].numel() ** 0.5
        elif tensor.ndim == 1:
            sines = 1 + sines / 2 if name.endswith(("weight", "running_var")) else sines / 4
        tensor.copy_(sines)
    assert_close(model(torch.arange(2 * 32 * 32 * 3).square().remainder(251).view(2, 32, 32, 3)), peer["logits"])


@pytest.mark.parametrize("ratio", PEERS["remix"]["label weights by ratio"])
def test_remix(ratio, monkeypatch):
    monkeypatch.setattr(mix, "_beta", lambda alpha, generator: float(ratio))
    pairs, images = torch.arange(K * K), torch.zeros(K * K, 1, 1, 1)
    remix = mix.build_mix(PEERS["remix"]["word"], COUNTS)
    mixed = remix(images, pairs // K, torch.Generator(), partner=(images, pairs % K))
    assert_close(mixed.lam.view(K, K), PEERS["remix"]["label weights by ratio"][ratio])


@pytest.mark.parametrize("box", PEERS["cutmix"]["boxes"], ids=lambda box: f"{box['ratio']}-{box['centre']}")
def test_cutmix(box, monkeypatch):
    centre = iter(box["centre"])
    monkeypatch.setattr(mix, "_beta", lambda alpha, generator: box["ratio"])
    monkeypatch.setattr(boxes, "torch", SimpleNamespace(randint=lambda side, size, generator: next(centre)))
    cutmix = mix.build_mix(PEERS["cutmix"]["word"], COUNTS)
    images, labels = torch.zeros(1, 32, 32, 1), torch.zeros(1, dtype=torch.int64)
    mixed = cutmix(images, labels, torch.Generator(), partner=(images + 1, labels))
    expected = torch.zeros(32, 32)
    expected[slice(*box["rows"]), slice(*box["columns"])] = 1
    assert torch.equal(mixed.images[0, ..., 0], expected)
    assert_close(mixed.lam, [1 - expected.mean().item()])


@pytest.mark.parametrize(
    "peer",
    PEERS["selections"],
    ids=lambda p: f"{p['selection']}-{p['classes']}-{p['profile']}-{p['imbalance_ratio']}-{p['seed']}",
)
def test_which_images_are_kept(peer):
    images, classes = np.arange(50_000), peer["classes"]
    options = peer["imbalance_ratio"], peer["profile"], peer["selection"], peer["seed"]
    kept = imbalance((images + images // classes) % classes, list(map(str, range(classes))), *options).tolist()
    assert len(kept) == peer["images"]
    assert kept[:4] == peer["begins"]
    assert hashlib.sha256(",".join(map(str, kept)).encode()).hexdigest()[:16] == peer["sha256"]


def test_scores():
    images = np.arange(60)
    confusion = confusion_counts((images**2 + images // 7) % K, images % K, K)
    ours = summarize(confusion, [101, 100, 20, 19, 5], list("abcde"))
    for peer in PEERS["scores"]:
        for score in peer.keys() - {"repository", "file", "what"}:
            assert_close(ours[score], peer[score])
