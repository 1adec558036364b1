"""``confusion`` and ``spectral_norm``: the CPU operators against the float64 oracle, and the functions around them."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from cases import (
    CONFUSION_TOLERANCE,
    Case,
    Options,
    assert_confusion_matches,
    assert_triple_matches,
    random_matrix,
    relative,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import library

import car_ext
from car_ext.ops import operators as ops
from car_ext.ops import reference

OPERATORS = ops.confusion, ops.confusion_backward
FORMS = [
    Options(softmax_over_all=a, detach_gate=d, temperature=t)
    for a, d, t in itertools.product([False, True], [False, True], [1.0, 0.7])
]


@pytest.mark.parametrize("dtype", CONFUSION_TOLERANCE, ids=str)
@pytest.mark.parametrize("options", FORMS, ids=lambda o: f"{o.softmax_over_all}-{o.detach_gate}-{o.temperature}")
def test_every_form_and_dtype(options, dtype):
    for samples, classes in [(1, 2), (9, 5), (40, 37), (300, 2), (3, 130), (0, 4)]:
        assert_confusion_matches(
            *OPERATORS, Case(samples, classes, dtype=dtype, weighted=True, ignored=True, options=options)
        )
    assert_confusion_matches(*OPERATORS, Case(50, 10, dtype=dtype, options=options))


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 200),
    classes=st.integers(2, 40),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 0.1, 3.0, 60.0]),
    weighted=st.booleans(),
    ignored=st.booleans(),
    options=st.sampled_from(FORMS),
)
def test_property_any_batch(samples, classes, seed, scale, weighted, ignored, options):
    case = Case(samples, classes, seed=seed, scale=scale, weighted=weighted, ignored=ignored, options=options)
    assert_confusion_matches(*OPERATORS, case)


def test_masked_classes_and_weights_of_zero():
    case = Case(8, 6, weighted=True)
    case.logits[:, 1] = -torch.inf
    case.weights[case.targets == case.targets[0]] = 0
    assert_confusion_matches(*OPERATORS, case)
    assert not car_ext.confusion(case.logits, case.targets, case.weights)[:, case.targets[0]].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_dense_prediction_and_strides_in_place(dtype):
    case = Case(2, 5, dtype=dtype, spatial=(3, 4), weighted=True, ignored=True)
    plain = ops.confusion(case.logits, case.targets, case.weights, *case.options.form())[0]
    for logits in (
        case.logits,
        case.logits.to(memory_format=torch.channels_last),
        case.logits.transpose(2, 3).contiguous().transpose(2, 3),
        case.logits.flip(0).flip(0).expand(2, 5, 3, 4)[:, :, :],
    ):
        assert_confusion_matches(*OPERATORS, case, logits)
        again = ops.confusion(logits, case.targets, case.weights, *case.options.form())[0]
        assert torch.equal(again, plain)


def test_the_same_bits_at_any_thread_count():
    case = Case(2000, 11, dtype=torch.float32, weighted=True)  # classes of several pieces each
    matrix = torch.rand(200, 200)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            batch = (case.logits, case.targets, case.weights)
            confusion, mass = ops.confusion(*batch, *case.options.form())
            grad = ops.confusion_backward(case.upstream(), *batch, mass, *case.options.form())
            results.append((confusion, grad, *ops.spectral_norm(matrix, None, 1e-6, 96)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
    assert_confusion_matches(*OPERATORS, case)


def test_by_hand_row_is_predicted():
    # Softmax over the others: (1/4, 3/4); both gates at gamma 0 see a margin of ln 3 - 1 or -1.
    logits = torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64)
    logits[0, 2] = logits[0, 2].log()
    matrix = car_ext.confusion(logits, torch.tensor([0]), gamma=0.0)
    column = torch.tensor([0, 0.25, 0.75], dtype=torch.float64) * torch.sigmoid(logits[0] - 1)
    torch.testing.assert_close(matrix, F.pad(column[:, None], (0, 2)))


@pytest.mark.parametrize("options", FORMS[::2], ids=lambda o: f"{o.softmax_over_all}-{o.detach_gate}")
def test_confusion_gradient_against_finite_differences(options):
    case = Case(7, 4, weighted=True, ignored=True, options=options)
    upstream = case.upstream()

    def value(logits):
        form = {name: getattr(options, name) for name in ("softmax_over_all", "ignore_index")}
        return (car_ext.confusion(logits, case.targets, case.weights, **form).T * upstream).sum()

    if not options.detach_gate:
        assert torch.autograd.gradcheck(value, case.logits.clone().requires_grad_(), eps=1e-6, atol=1e-8)
    leaf = case.logits.clone().requires_grad_()
    matrix, _ = ops.confusion(leaf, case.targets, case.weights, *options.form())
    truth = case.logits.clone().requires_grad_()
    expected, _ = reference.confusion(truth, case.targets, case.weights, *options.form())
    (matrix * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(leaf.grad, truth.grad)


def test_a_gradient_of_the_diagonal_reaches_no_logit():
    case = Case(40, 5)
    leaf, other = (case.logits.clone().requires_grad_() for _ in range(2))
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    car_ext.confusion(leaf, case.targets).log().where(off_diagonal, 0.0).sum().backward()  # the logarithm of 0: 0 / 0
    car_ext.confusion(other, case.targets)[off_diagonal].log().sum().backward()
    assert leaf.grad.any()
    assert torch.equal(leaf.grad, other.grad)


def test_car_is_made_of_these_parts():
    case = Case(30, 6)
    car = car_ext.CAR([30, 20, 10, 5, 3, 2], alpha=1.0, beta=0.0, gamma=0.2).double()
    ours, parts = (case.logits.clone().requires_grad_() for _ in range(2))
    car(ours, case.targets).backward()
    matrix = car_ext.confusion(parts, case.targets, gamma=0.2) * car.class_weights
    car_ext.spectral_norm(matrix, tolerance=1e-9).backward()
    torch.testing.assert_close(parts.grad, ours.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kind", ["dense", "sparse", "rank one", "permutation"])
@pytest.mark.parametrize("k", [1, 2, 7, 33, 150])
def test_top_singular_triple(kind, k, dtype):
    exact = random_matrix(kind, k)
    for matrix in (exact.to(dtype), exact.to(dtype).T.contiguous().T, exact.to(dtype).repeat(1, 2)[:, :k]):
        assert_triple_matches(matrix, ops.spectral_norm)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["dense", "sparse", "rank one"]),
    exponent=st.integers(-15, 15),
)
def test_property_sigma_at_any_scale(k, seed, kind, exponent):
    matrix = (random_matrix(kind, k, seed) * 10.0**exponent).float()
    sigma = car_ext.spectral_norm(matrix, max_iterations=400)
    truth = torch.linalg.matrix_norm(matrix.double(), 2)
    assert abs(sigma.double() - truth) <= 1e-5 * truth


def test_zero_matrix():
    matrix = torch.zeros(5, 5, requires_grad=True)
    start = torch.tensor([0.0, 1, 0, 0, 0])
    sigma, left, right, error = ops.spectral_norm(matrix, start, 1e-5, 96)
    assert sigma == error == 0
    assert not left.any()
    assert torch.equal(right, start)
    sigma.backward()
    assert matrix.grad is not None
    assert not matrix.grad.any()


def test_spectral_norm_gradient_against_finite_differences():
    matrix = random_matrix("dense", 6).requires_grad_()

    def sigma(m):
        return car_ext.spectral_norm(m, tolerance=1e-12, max_iterations=200)

    assert torch.autograd.gradcheck(sigma, matrix, eps=1e-6, atol=1e-8)
    assert torch.autograd.gradcheck(lambda m: sigma(m.T), matrix, eps=1e-6, atol=1e-8)


def test_a_warm_start_saves_iterations_and_blinds_nobody():
    matrix = random_matrix("dense", 120).float() ** 8
    _, _, right, _ = ops.spectral_norm(matrix, None, 1e-6, 400)
    _, _, _, cold = ops.spectral_norm(matrix, None, 1e-12, 2)
    _, _, _, warm = ops.spectral_norm(matrix, right, 1e-12, 2)
    assert warm < cold / 2
    blocks = torch.block_diag(torch.full((30, 30), 0.01), torch.full((30, 30), 0.02))
    wrong = torch.cat([torch.ones(30), torch.zeros(30)])
    assert relative(car_ext.spectral_norm(blocks, wrong), torch.tensor(0.6).double()) < 1e-5


def test_a_second_derivative_is_refused():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    sigma = car_ext.spectral_norm(car_ext.confusion(logits, torch.tensor([0, 1, 2, 0])))
    for value, message in ((sigma, "does not require grad"), (sigma.square(), "twice")):
        (grad,) = torch.autograd.grad(value, logits, create_graph=True)
        with pytest.raises(RuntimeError, match=message):
            grad.sum().backward()


def test_only_the_matrix_and_sigma_are_differentiable():
    logits = torch.randn(4, 3, requires_grad=True)
    weights = torch.rand(4, requires_grad=True)
    matrix, mass = ops.confusion(logits, torch.tensor([0, 1, 2, 0]), weights, *Options().form())
    assert matrix.requires_grad
    assert not mass.requires_grad
    matrix.sum().backward()
    assert weights.grad is None
    sigma, *others = ops.spectral_norm(torch.rand(3, 3, requires_grad=True), None, 1e-5, 96)
    assert sigma.requires_grad
    assert not any(t.requires_grad for t in others)


def test_opcheck():
    case = Case(6, 4, dtype=torch.float32, weighted=True)
    form = case.options.form()
    batch = (case.logits.requires_grad_(), case.targets, case.weights)
    library.opcheck(torch.ops.car_ext.confusion, (*batch, *form))
    backward = (case.upstream(), case.logits.detach(), case.targets, case.weights, torch.ones(4), *form)
    library.opcheck(torch.ops.car_ext.confusion_backward, backward)
    library.opcheck(torch.ops.car_ext.spectral_norm, (torch.rand(4, 4, requires_grad=True), None, 1e-5, 96))
    library.opcheck(torch.ops.car_ext.spectral_norm, (torch.rand(4, 4), torch.rand(4), 1e-5, 96))


def test_compiles_without_graph_breaks_to_the_same_bits():
    def loss(logits, targets):
        return car_ext.spectral_norm(car_ext.confusion(logits, targets, detach_gate=True))

    case = Case(12, 5, dtype=torch.float32)
    plain, compiled = (case.logits.clone().requires_grad_() for _ in range(2))
    loss(plain, case.targets).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled, case.targets).backward()
    assert torch.equal(compiled.grad, plain.grad)


@pytest.mark.filterwarnings("ignore:car_ext has no kernel")
def test_the_references_answer_under_the_dispatcher():
    case = Case(9, 4, weighted=True, ignored=True)
    twins = torch.ops.car_ext.confusion_reference, torch.ops.car_ext.confusion_backward_reference
    assert_confusion_matches(*twins, case)
    matrix = random_matrix("dense", 5)
    sigma, left, right, _ = torch.ops.car_ext.spectral_norm_reference(matrix, None, 1e-5, 96)
    torch.testing.assert_close(matrix @ right, sigma * left)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.tensor([0, 1, 4])}, "class 4 at position 2.*0 to 3"),
        ({"logits": torch.tensor([[0.0, torch.nan, 0, 0]]).repeat(3, 1)}, "sample 0 hold NaN or infinity"),
        ({"sample_weights": torch.tensor([1.0, -1, 1])}, "sample_weights must be finite and not negative, got -1"),
        ({"sample_weights": torch.ones(2)}, "sample_weights must have the targets' shape"),
        ({"sample_weights": torch.ones(3, dtype=torch.float64)}, "sample_weights has the wrong dtype"),
        ({"targets": torch.tensor([0, 1])}, "targets must have the logits' shape"),
        ({"logits": torch.zeros(3, 1)}, "at least two classes"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"gamma": torch.inf}, "gamma must be finite"),
    ],
)
def test_bad_batches_are_refused(change, message):
    good = {"logits": torch.zeros(3, 4), "targets": torch.tensor([0, 1, 2])}
    with pytest.raises(RuntimeError, match=message) as caught:
        car_ext.confusion(**good | change)
    assert "\n" not in str(caught.value).strip()
    assert ".cpp" not in str(caught.value)


def test_bad_upstreams_are_refused():
    batch = (torch.zeros(3, 4), torch.tensor([0, 1, 2]), None)
    form = Options().form()
    for upstream, mass, message in (
        (torch.zeros(4, 3), torch.ones(4), "upstream must be .4, 4"),
        (torch.zeros(4, 4).double(), torch.ones(4), "upstream has the wrong dtype"),
        (torch.zeros(4, 4), torch.ones(3), "mass must be contiguous with 4"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.confusion_backward(upstream, *batch, mass, *form)
    with pytest.raises(RuntimeError, match="class 4 at position 2"):
        ops.confusion_backward(torch.zeros(4, 4), batch[0], torch.tensor([0, 1, 4]), None, torch.ones(4), *form)
    with pytest.raises(RuntimeError, match="sample 0 hold NaN"):
        ops.confusion_backward(torch.zeros(4, 4), batch[0] / 0, batch[1], None, torch.ones(4), *form)


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (torch.rand(2, 3, 3), {}, "takes one matrix .* got 3 dimension.*batches are not supported"),
        (torch.rand(3, 4), {}, "a square matrix, got 3 x 4"),
        (torch.rand(0, 0), {}, "a square matrix, got 0 x 0"),
        (torch.rand(3, 3).half(), {}, "float32 or float64; use matrix.float"),
        (
            torch.rand(3, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(torch.nan)),
            {},
            "nan in row 1, c.* 2",
        ),
        (
            torch.rand(3, 3).index_put((torch.tensor(2), torch.tensor(0)), torch.tensor(torch.inf)),
            {},
            "inf in row 2, c.* 0",
        ),
        (torch.full((3, 3), 1e30), {}, "too large"),
        (torch.rand(3, 3), {"start": torch.rand(4)}, "start must be .3,"),
        (torch.rand(3, 3), {"start": torch.tensor([1, torch.nan, 1])}, "start holds nan at 1"),
        (torch.rand(3, 3), {"tolerance": 0.0}, "must be positive"),
    ],
)
def test_bad_matrices_are_refused(matrix, options, message):
    with pytest.raises(RuntimeError, match=message) as caught:
        car_ext.spectral_norm(matrix, **options)
    assert ".cpp" not in str(caught.value)
