"""The CPU operator against the float64 oracle."""

import itertools
import warnings

import pytest
import torch
from cases import (
    DTYPES,
    FORMS,
    Case,
    Options,
    assert_matches_oracle,
    assert_same_bits,
    car_step_by_power_iteration,
    layouts,
    name_of,
    relative,
    two_blocks,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import library

from car_ext.ops import operators as ops
from car_ext.ops import reference


@pytest.mark.parametrize("form", FORMS, ids=name_of)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_form_matches_the_oracle(form, temperature):
    for (samples, classes), cold in itertools.product([(1, 2), (9, 5), (40, 37)], [False, True]):
        options = Options(temperature=temperature, **form)
        assert_matches_oracle(
            Case(samples, classes, weighted=True, ignored=True, cold=cold, options=options), ops.car_step
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(128, 10), (7, 100), (64, 130), (3, 257), (300, 2)], ids=str)
def test_dtypes_and_shapes(dtype, shape):
    assert_matches_oracle(Case(*shape, dtype=dtype, scale=2.0), ops.car_step)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 20),
    classes=st.integers(2, 40),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 0.1, 3.0, 60.0]),  # equal logits to hopelessly confident ones
    weighted=st.booleans(),
    ignored=st.booleans(),
    form=st.sampled_from(FORMS),
    gamma=st.sampled_from([0.0, 0.1, -2.0]),
)
def test_property_any_batch_matches_the_oracle(samples, classes, seed, scale, weighted, ignored, form, gamma):
    options = Options(gamma=gamma, **form)
    case = Case(samples, classes, seed=seed, scale=scale, weighted=weighted, ignored=ignored, options=options)
    assert_matches_oracle(case, ops.car_step)


def test_one_class_only_and_huge_logits():
    for value in (0.0, 1e4, -1e4):
        case = Case(6, 5, scale=1.0)
        case.targets.fill_(3)
        case.logits[:, 2] += value
        assert_matches_oracle(case, ops.car_step)


def test_masked_classes_may_be_minus_infinity():
    case = Case(8, 6)
    case.logits[:, 1] = -torch.inf
    case.logits[2] = -torch.inf
    case.logits[2, 3] = 1.0
    assert_matches_oracle(case, ops.car_step)


def test_zero_matrix_has_sigma_and_gradient_zero():
    case = Case(4, 3, cold=True, ignored=True)
    case.targets.fill_(case.options.ignore_index)
    sigma, grad, _ = case.run(ops.car_step)
    assert sigma == 0
    assert not grad.any()


def test_any_strides_give_the_same_bits():
    case = Case(6, 9, dtype=torch.float32)
    for logits in layouts(case.logits):
        assert_same_bits(case.run(ops.car_step, logits), case.run(ops.car_step))
    broadcast = case.logits[:, :1].expand(6, 9)
    assert_same_bits(case.run(ops.car_step, broadcast), case.run(ops.car_step, broadcast.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("samples", "classes", "spatial"), [(2, 5, (3, 4)), (3, 5, (7, 9)), (3, 40, (13, 11))])
def test_dense_prediction_in_place(samples, classes, spatial, dtype):
    case = Case(samples, classes, dtype=dtype, spatial=spatial, weighted=True, ignored=True)
    assert_matches_oracle(case, ops.car_step)
    for logits in layouts(case.logits):
        assert_same_bits(case.run(ops.car_step, logits), case.run(ops.car_step))


@pytest.mark.parametrize(("samples", "classes", "spatial"), [(257, 301, ()), (3, 301, (9, 11))])
def test_the_same_bits_at_any_thread_count(samples, classes, spatial):
    case = Case(samples, classes, dtype=torch.float32, weighted=True, spatial=spatial)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(case.run(ops.car_step))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("softmax_over_all", [False, True])
def test_gradient_against_finite_differences(temperature, softmax_over_all):
    case = Case(
        7,
        5,
        weighted=True,
        options=Options(temperature=temperature, softmax_over_all=softmax_over_all, tolerance=1e-12),
    )

    def sigma(logits):
        state = [t.clone() for t in case.state]
        value, grad = ops.car_step(logits.detach(), case.targets, case.weights, *state, *case.options.args())
        return ops.attach_gradient(logits, value, grad)

    assert torch.autograd.gradcheck(sigma, case.logits.clone().requires_grad_(), eps=1e-6, atol=1e-8)


def test_detached_gate_leaves_the_true_logit_alone():
    # METHODS: with the softmax over the others and the gate detached, dL/dz_y = 0 exactly.
    case = Case(9, 6, options=Options(detach_gate=True))
    _, grad, _ = case.run(ops.car_step)
    assert grad.any()
    assert not grad.gather(1, case.targets[:, None]).any()


def test_gradient_rows_sum_to_zero():
    for all_classes in (False, True):
        _, grad, _ = Case(9, 6, options=Options(softmax_over_all=all_classes)).run(ops.car_step)
        assert grad.sum(1).abs().max() < 1e-15


def test_near_degenerate_top_values():
    case = two_blocks(60)
    sigma, _, state = case.run(ops.car_step)
    assert relative(sigma, torch.linalg.matrix_norm(case.state[1], 2)) < 1e-9
    assert state[3][:30].norm() < 1e-3


@pytest.mark.parametrize("op", ["car_step", "attach_gradient"])
def test_opcheck(op):
    case = Case(6, 4, dtype=torch.float32, weighted=True)
    if op == "car_step":
        args = (case.logits, case.targets, case.weights, *case.state, *case.options.args())
    else:
        args = (case.logits.requires_grad_(), torch.tensor(1.0), torch.rand_like(case.logits))
    library.opcheck(getattr(torch.ops.car_ext, op), args)


def bad(change, **kwargs):
    case = Case(5, 4, dtype=torch.float32, **kwargs)
    change(case)
    return case


def set_item(tensor, index, value):
    tensor[index] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: set_item(c.targets, 3, 4), "class 4 at position 3.*0 to 3"),
        (lambda c: set_item(c.targets, 0, -1), "class -1 at position 0"),
        (lambda c: set_item(c.logits, (2, 1), torch.nan), "sample 2 hold NaN or infinity"),
        (lambda c: set_item(c.logits, (1, 0), torch.inf), "sample 1 hold NaN or infinity"),
        (lambda c: set_item(c.weights, 2, -1), "sample_weights must be finite and not negative, got -1"),
        (lambda c: setattr(c, "targets", c.targets[:3]), "targets must have the logits' shape"),
        (lambda c: setattr(c, "targets", c.targets.int()), "int64"),
        (lambda c: setattr(c, "logits", c.logits[:, :3].contiguous()), "class_weights must be contiguous with 3"),
        (lambda c: setattr(c, "logits", c.logits.double()), "float64 logits float64 state"),
        (lambda c: setattr(c, "logits", c.logits[:, :1]), "at least two classes"),
        (lambda c: setattr(c.options, "beta", 1.0), "beta must be in"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(change, message):
    case = bad(change, weighted=True)
    state = [t.clone() for t in case.state]
    with pytest.raises(RuntimeError, match=message) as caught:
        ops.car_step(case.logits, case.targets, case.weights, *state, *case.options.args())
    assert "\n" not in str(caught.value).strip()
    assert ".cpp" not in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(state, case.state, strict=True))


def test_the_oracle_itself_by_hand():
    # One sample of class 0 among three, logits (1, 0, ln 3): softmax over the others is (1/4, 3/4).
    logits = torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64)
    logits[0, 2] = torch.log(torch.tensor(3.0, dtype=torch.float64))
    v = reference.surrogate(logits, torch.tensor([0]), gamma=0.0)
    gates = 1 / (1 + torch.exp(1 - logits[0]))
    torch.testing.assert_close(v[0], torch.tensor([0, 0.25, 0.75], dtype=torch.float64) * gates)
    columns, mass = reference.class_means(v, torch.tensor([0]))
    torch.testing.assert_close(columns[:, 0], v[0])
    assert mass.tolist() == [1, 0, 0]


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_the_two_oracles_agree(form):
    for samples, cold in itertools.product([0, 9], [False, True]):
        spatial = (3,) if samples else ()
        case = Case(samples, 7, spatial=spatial, weighted=True, ignored=True, cold=cold, options=Options(**form))
        sigma, grad, state = case.run(car_step_by_power_iteration)
        true_sigma, true_grad, true_state = case.oracle()
        torch.testing.assert_close(sigma, true_sigma, rtol=1e-11, atol=0)
        torch.testing.assert_close(grad, true_grad, rtol=1e-7, atol=1e-11)
        torch.testing.assert_close(state[1:4], true_state[1:4], rtol=0, atol=1e-8)


def test_fallback_warns_once_and_agrees(monkeypatch):
    # What a device without kernels runs, and what a CUDA kernel without code for its GPU calls.
    monkeypatch.setattr(ops, "_warned", set())
    case = Case(4, 3)
    with pytest.warns(UserWarning, match="no kernel for cpu"):
        sigma, grad, state = case.run(torch.ops.car_ext.car_step_reference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.run(torch.ops.car_ext.car_step_reference)
    true_sigma, true_grad, true_state = case.oracle()
    assert torch.equal(sigma, true_sigma)
    assert torch.equal(grad, true_grad)
    assert all(torch.equal(a, b) for a, b in zip(state, true_state, strict=True))


def test_fallback_says_how_to_get_a_kernel(monkeypatch):
    monkeypatch.setattr(ops, "_warned", set())
    monkeypatch.setattr(ops.library, "CUDA_OBJECT", "_C_cuda.so")
    monkeypatch.setattr(ops.library, "build_info", lambda: {"cuda_architectures": "8.0;9.0"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (12, 0))
    with pytest.warns(UserWarning, match=r"built for 8.0;9.0, this GPU is 12.0: .*TORCH_CUDA_ARCH_LIST=12.0 pip"):
        ops._warn_of_fallback(torch.device("cuda"))


@pytest.mark.parametrize("name", ["car_step", "confusion", "confusion_backward", "spectral_norm"])
def test_every_operator_has_a_reference_of_the_same_schema(name):
    operator, reference = (getattr(torch.ops.car_ext, n).default._schema for n in (name, name + "_reference"))
    assert str(reference) == str(operator).replace(name, name + "_reference", 1)
