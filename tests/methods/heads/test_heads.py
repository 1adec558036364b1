"""Each head against its formula in float64; the frozen parts stay as they were."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from car_ext.errors import InputError
from car_ext.methods.heads import build_head
from car_ext.methods.heads.post_hoc import logit_adjusted, tau_normalized
from car_ext.methods.registry import methods

D, K, COUNTS = 6, 4, [50, 20, 5, 1]
NAMES = ["linear", "cosine", "ncm", "finished", "lws", "disalign", "tau_norm", "logit_adjusted"]


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(9, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def finished() -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(D, K)


@pytest.fixture
def finished_cosine() -> nn.Module:
    torch.manual_seed(3)
    return build_head("cosine", D, K, COUNTS)


def numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def linear_logits(head: nn.Linear, features: torch.Tensor) -> np.ndarray:
    return numpy(features) @ numpy(head.weight).T + numpy(head.bias)


def cosines(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.array([[x @ w / np.sqrt((x @ x) * (w @ w)) for w in weight] for x in features])


def close(logits: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(numpy(logits), expected, rtol=1e-5, atol=1e-5)


def test_all_of_them_are_known():
    assert set(methods("head")) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_head_is_plain(name, finished, features):
    """It has a weight a class, its state can be loaded, it exports, and it leaves the head it starts from alone."""
    before = [tensor.clone() for tensor in finished.parameters()]
    head = build_head(name, D, K, COUNTS, init=finished)
    if name == "ncm":
        head.fit(features, torch.arange(len(features)) % K)
    assert head.weight.shape == (K, D)
    logits = head(features)
    assert logits.shape == (len(features), K)
    assert logits.isfinite().all()

    other = build_head(name, D, K, COUNTS, init=nn.Linear(D, K))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features), logits)

    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(head, (features,), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(features[:5]), logits[:5])

    assert all(torch.equal(a, b) for a, b in zip(before, finished.parameters(), strict=True))
    assert not {id(tensor) for tensor in head.parameters()} & {id(tensor) for tensor in finished.parameters()}


@pytest.mark.parametrize("name", ["lws", "disalign", "tau_norm", "logit_adjusted"])
def test_heads_on_another_need_it(name):
    with pytest.raises(InputError, match=f"'{name}' starts from a finished head"):
        build_head(name, D, K, COUNTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_of_another_shape_is_named(name):
    with pytest.raises(InputError, match=r"weight \(3, 6\), not \(4, 6\)"):
        build_head(name, D, K, COUNTS, init=nn.Linear(D, 3))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("cosine:scale=0", "scale of head 'cosine' is 0"),
        ("cosine:scale=inf", "scale"),
        ("ncm:metric=l1", "'l1': give cosine, l2, l2n, centred"),
        ("tau_norm:tau=nan", "tau of head 'tau_norm'"),
        ("logit_adjusted:tau=inf", "tau of head 'logit_adjusted'"),
        ("linear:scale=2", "scale of head 'linear' is not an option"),
    ],
)
def test_bad_options_are_named(spec, named, finished):
    with pytest.raises(InputError, match=named):
        build_head(spec, D, K, COUNTS, init=finished)


def test_linear(features):
    torch.manual_seed(0)
    head = build_head("linear", D, K, COUNTS)
    assert type(head) is nn.Linear
    close(head(features), linear_logits(head, features))


def test_cosine(features):
    head = build_head("cosine", D, K, COUNTS)
    close(head(features), 30 * cosines(numpy(features), numpy(head.weight)))
    assert build_head("cosine:scale=2", D, K, COUNTS)(features).abs().max() <= 2 + 1e-5
    np.testing.assert_allclose(np.linalg.norm(numpy(head.weight), axis=1), 1, rtol=1e-6)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    torch.testing.assert_close(head(7 * features), head(features))


def test_cosine_starts_from_uniform_weights():
    """A point drawn uniformly from the square, then normalised: the smaller over the larger side is uniform."""
    torch.manual_seed(0)
    weight = build_head("cosine", 2, 4000, [1] * 4000).weight.detach()
    ratios = weight.abs().amin(dim=1) / weight.abs().amax(dim=1)
    assert stats.kstest(ratios, stats.uniform.cdf).pvalue > 1e-2
    quadrants = ((weight > 0).long() @ torch.tensor([1, 2])).bincount()
    assert ((quadrants - 1000).abs() < 4.5 * (4000 * 3 / 16) ** 0.5).all()


@pytest.mark.parametrize("on_cosine", [False, True], ids=["linear", "cosine"])
def test_lws_learns_its_scale_alone(on_cosine, finished, finished_cosine, features):
    base = finished_cosine if on_cosine else finished
    head = build_head("lws", D, K, COUNTS, init=base)
    assert torch.equal(head(features), base(features))
    with torch.no_grad():
        head.scale.copy_(torch.tensor([1.0, 2.0, -0.5, 0.0]))
    close(head(features), numpy(head.scale) * numpy(base(features)))

    head.requires_grad_(True)  # as a second stage would do with what it trains
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, weight_decay=0.1)
    head(features).square().sum().backward()
    optimizer.step()
    assert [name for name, _ in head.named_parameters()] == ["scale"]
    close(head.scale.grad, 2 * numpy(torch.tensor([1.0, 2.0, -0.5, 0.0])) * (numpy(base(features)) ** 2).sum(axis=0))
    assert torch.equal(head.weight, base.weight)


def test_disalign(finished, features):
    head = build_head("disalign", D, K, COUNTS, init=finished)
    x, z = numpy(features), linear_logits(finished, features)
    confidence = 1 / (1 + np.exp(-0.1 * x.sum(axis=1, keepdims=True)))
    close(head(features), (1 + confidence) * z)

    scale, offset = np.array([1.5, -1.0, 0.0, 2.0]), np.array([0.5, 0.0, -3.0, 1.0])
    with torch.no_grad():
        head.scale.copy_(torch.from_numpy(scale))
        head.offset.copy_(torch.from_numpy(offset))
        head.confidence.bias.fill_(0.7)
    confidence = 1 / (1 + np.exp(-0.1 * x.sum(axis=1, keepdims=True) - 0.7))
    close(head(features), (1 + confidence * scale) * z + confidence * offset)
    assert {name for name, _ in head.named_parameters()} == {"scale", "offset", "confidence.weight", "confidence.bias"}


def test_disalign_gradients():
    torch.manual_seed(0)
    head = build_head("disalign", D, K, COUNTS, init=nn.Linear(D, K).double())
    features = torch.randn(3, D, dtype=torch.float64)
    parameters = tuple(head.parameters())
    assert torch.autograd.gradcheck(lambda *_: head(features), parameters)


def test_heads_on_a_head_on_a_head_are_frozen(finished, features):
    inner = build_head("disalign", D, K, COUNTS, init=finished)
    head = build_head("lws", D, K, COUNTS, init=inner)
    assert [name for name, _ in head.named_parameters()] == ["scale"]
    assert torch.equal(head(features), inner(features))


@pytest.mark.parametrize("metric", ["l2n", "centred"])
def test_ncm_of_normalised_features(metric, features):
    targets = torch.tensor([0, 1, 2, 3, 0, 1, 0, 3, 0])
    head = build_head(f"ncm:metric={metric}", D, K, COUNTS).fit(features, targets)
    x, y = numpy(features), targets.numpy()
    x = x - x.mean(axis=0) if metric == "centred" else x
    x = np.array([row / np.sqrt((row**2).sum()) for row in x])
    means = np.array([x[y == c].mean(axis=0) for c in range(K)])
    distances = np.array([[((row - mean) ** 2).sum() for mean in means] for row in x])
    close(head(features), 1 - distances)  # |x|^2 is 1
    again = build_head(f"ncm:metric={metric}", D, K, COUNTS)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(features), head(features))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_ncm(metric, features):
    targets = torch.tensor([0, 1, 2, 3, 0, 1, 0, 3, 0])
    head = build_head(f"ncm:metric={metric}", D, K, COUNTS)
    assert head(features).isnan().all()
    assert head.fit(features, targets) is head
    x, y = numpy(features), targets.numpy()
    means = np.array([x[y == c].mean(axis=0) for c in range(K)])
    close(head.weight, means)
    logits = cosines(x, means) if metric == "cosine" else -((x[:, None] - means) ** 2).sum(axis=2)
    shift = 0 if metric == "cosine" else (x**2).sum(axis=1, keepdims=True)
    close(head(features), logits + shift)
    assert head(features).argmax(dim=1).tolist() == logits.argmax(axis=1).tolist()
    assert not list(head.parameters())


def test_ncm_names_a_class_without_features(features):
    with pytest.raises(InputError, match="class 2 has no feature"):
        build_head("ncm", D, K, COUNTS).fit(features[:3], torch.tensor([0, 1, 3]))


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("drop_bias", [True, False])
def test_tau_normalized(tau, drop_bias, finished, features):
    head = tau_normalized(finished, tau, drop_bias)
    assert type(head) is nn.Linear
    weight = numpy(finished.weight)
    scaled = np.array([w / np.sqrt((w**2).sum()) ** tau for w in weight])
    close(head(features), numpy(features) @ scaled.T + (0 if drop_bias else numpy(finished.bias)))
    assert not any(parameter.requires_grad for parameter in head.parameters())
    by_name = build_head(f"tau_norm:tau={tau},drop_bias={drop_bias}", D, K, COUNTS, init=finished)
    assert torch.equal(by_name(features), head(features))


def test_tau_of_zero_is_the_head_without_its_bias(finished, features):
    assert torch.equal(tau_normalized(finished, 0)(features), nn.functional.linear(features, finished.weight))


def test_tau_normalized_keeps_a_vector_of_zeros(finished, features):
    with torch.no_grad():
        finished.weight[1] = 0
    assert (tau_normalized(finished, 2.0)(features)[:, 1] == 0).all()


def test_tau_normalized_is_for_linear_heads(finished_cosine):
    with pytest.raises(InputError, match="not for Cosine"):
        tau_normalized(finished_cosine)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("kind", ["bias", "no bias", "cosine"])
def test_logit_adjusted(tau, kind, finished, finished_cosine, features):
    base = {"bias": finished, "no bias": nn.Linear(D, K, bias=False), "cosine": finished_cosine}[kind]
    head = logit_adjusted(base, COUNTS, tau)
    assert (type(head) is nn.Linear) == (kind != "cosine")
    expected = numpy(base(features)) - tau * np.log(np.array(COUNTS) / sum(COUNTS))
    close(head(features), expected)
    assert head(features).argmax(dim=1).tolist() == expected.argmax(axis=1).tolist()
    assert not any(parameter.requires_grad for parameter in head.parameters())
    torch.testing.assert_close(
        build_head(f"logit_adjusted:tau={tau}", D, K, COUNTS, init=base)(features), head(features)
    )


def test_logit_adjusted_needs_a_count_a_class(finished):
    with pytest.raises(InputError, match="3 entries for a head of 4 classes"):
        logit_adjusted(finished, [3, 2, 1])


def test_post_hoc_heads_leave_the_generator_alone(finished):
    state = torch.get_rng_state()
    tau_normalized(finished)
    logit_adjusted(finished, COUNTS)
    assert torch.equal(torch.get_rng_state(), state)
