"""The CUDA kernels' own source, run on the CPU through a shim (tests/cuda_shim), against the float64 oracle."""

import ctypes
import dataclasses
import functools
import itertools
import os
import shutil
import subprocess
import types
from pathlib import Path

import pytest
import torch
from cases import (
    DTYPES,
    Case,
    Options,
    assert_a_bad_sample_spares_the_state,
    assert_confusion_matches,
    assert_matches_oracle,
    assert_same_bits,
    assert_triple_matches,
    random_matrix,
    relative,
    tolerance_of,
    two_blocks,
)

WORKS = ("step", "confusion", "confusion_backward")
TENSORS = (  # after logits and targets, in the driver's order
    "sample_weights",
    "class_weights",
    "ema",
    "updates",
    "direction",
    "spectral_error",
    "sigma",
    "grad",
    "other_direction",
    "mass",
    "upstream",
)
HERE = Path(__file__).parent / "cuda_shim"


def build(output, source, *flags):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the CUDA shim with: the CUDA source is NOT tested here")
    command = [compiler, "-std=c++20", "-O2", "-g", "-Wall", "-Wno-unknown-pragmas", *flags]
    subprocess.run([*command, str(HERE / source), "-o", str(output)], check=True)
    return output


@pytest.fixture(scope="module")
def on_device(tmp_path_factory):
    """``on_device(blocks, shared_memory, refuses)`` is a made-up GPU; 1 block cannot wait for others."""
    library = build(tmp_path_factory.mktemp("shim") / "shim.so", "driver.cpp", "-shared", "-fPIC")
    loaded = ctypes.CDLL(str(library))

    def pointer(tensor):
        return None if tensor is None else tensor.data_ptr()

    def run(work, device, logits, o, targets=None, **tensors):
        spatial = logits.shape[2:].numel()
        shape = (logits.shape[0] * spatial, logits.shape[1], spatial, *logits.stride()[:2])
        shape = (ctypes.c_int64 * 6)(*shape, logits.stride()[-1] if logits.dim() > 2 else 0)
        real = (ctypes.c_double * 4)(o.beta, o.gamma, o.temperature, o.tolerance)
        flags = (o.softmax_over_all, o.detach_gate, o.start_from_first_batch, o.hold_absent, o.debias)
        flag = (ctypes.c_int64 * 11)(*flags, o.ignore_index, o.max_iterations, WORKS.index(work), *device)
        pointers = (ctypes.c_void_p * (2 + len(TENSORS)))(
            pointer(logits), pointer(targets), *(pointer(tensors.get(name)) for name in TENSORS)
        )
        loaded["run_" + str(logits.dtype).removeprefix("torch.")](pointers, shape, real, flag)

    def unwritten(shape, dtype):
        return torch.full(shape, torch.nan, dtype=dtype)

    def car_step(device, logits, targets, weights, class_weights, ema, updates, direction, error, *options):
        sigma, grad = unwritten((), ema.dtype), unwritten(logits.shape, logits.dtype)
        state = {"class_weights": class_weights, "ema": ema, "updates": updates, "direction": direction}
        batch = {"targets": targets, "sample_weights": weights, "grad": grad}
        run("step", device, logits, Options(*options), **batch, **state, spectral_error=error, sigma=sigma)
        return sigma, grad

    def options_of_batch(gamma, temperature, softmax_over_all, detach_gate, ignore_index):
        return Options(0, gamma, temperature, softmax_over_all, detach_gate, ignore_index=ignore_index)

    def confusion(device, logits, targets, weights, *form):
        classes, dtype = logits.shape[1], torch.float64 if logits.dtype == torch.float64 else torch.float32
        matrix, mass = unwritten((classes, classes), dtype), unwritten((classes,), dtype)
        batch = {"targets": targets, "sample_weights": weights}
        run("confusion", device, logits, options_of_batch(*form), **batch, ema=matrix, mass=mass)
        return matrix, mass

    def confusion_backward(device, upstream, logits, targets, weights, mass, *form):
        grad = unwritten(logits.shape, logits.dtype)
        batch = {"targets": targets, "sample_weights": weights, "mass": mass, "grad": grad}
        run("confusion_backward", device, logits, options_of_batch(*form), **batch, upstream=upstream.contiguous())
        return grad

    def spectral_norm(device, matrix, start, tolerance, max_iterations):
        k = len(matrix)
        sigma, error, left = (unwritten(shape, matrix.dtype) for shape in ((), (), (k,)))
        right = torch.full((k,), k**-0.5, dtype=matrix.dtype) if start is None else start.clone()
        options = Options(hold_absent=True, tolerance=tolerance, max_iterations=max_iterations)
        results = {"sigma": sigma, "other_direction": left, "direction": right, "spectral_error": error}
        run("step", device, matrix[:0], options, ema=matrix.contiguous(), **results)
        return sigma, left, right, error

    def device(blocks, shared_memory=1 << 17, refuses=False):
        operators = (car_step, confusion, confusion_backward, spectral_norm)
        made = {
            operator.__name__: functools.partial(operator, (blocks, shared_memory, refuses)) for operator in operators
        }
        return types.SimpleNamespace(**made)

    return device


FORMS = [
    Options(),
    Options(softmax_over_all=True, detach_gate=True, start_from_first_batch=True, gamma=0.0),
    Options(hold_absent=True, debias=True, temperature=0.7),
    Options(detach_gate=True, debias=True),
]
SEPARATE, TOGETHER = 1, 3  # blocks: one launch a phase, one launch for all


@pytest.mark.parametrize("options", FORMS, ids=["paper", "reference-code", "held", "detached"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
def test_matches_the_oracle(on_device, options, dtype, blocks):
    options = dataclasses.replace(options, tolerance=tolerance_of(dtype))
    for (samples, classes), cold in itertools.product([(1, 2), (70, 5), (9, 41)], [False, True]):
        case = Case(samples, classes, dtype=dtype, weighted=True, ignored=True, cold=cold, options=options)
        assert_matches_oracle(case, on_device(blocks).car_step)


ROOM = {  # bytes of shared memory, by dtype, that leave the plan no better way
    "resident": (1 << 18, 1 << 19),  # all of a block's rows stay on chip
    "streamed": (14000, 27000),
    "in-place": (4400, 6000),  # rows are read where they lie
    "none": (3000, 4000),  # not even a vector of K fits
}


@pytest.mark.parametrize("way", ROOM)
@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_matches_the_oracle_on_any_room(on_device, way, blocks, dtype):
    for samples in (2, 23):
        options = Options(tolerance=tolerance_of(dtype))
        case = Case(samples, 141, dtype=dtype, weighted=True, ignored=samples > 2, scale=2.0, options=options)
        assert_matches_oracle(case, on_device(blocks, ROOM[way][dtype == torch.float64]).car_step)


@pytest.mark.parametrize(("samples", "classes", "blocks"), [(128, 1000, TOGETHER), (5, 1024, 132), (4, 2050, SEPARATE)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_matches_the_oracle_with_many_classes(on_device, samples, classes, blocks, dtype):
    h200 = on_device(blocks, 227 << 10)
    case = Case(samples, classes, dtype=dtype, weighted=True, options=Options(tolerance=tolerance_of(dtype)))
    assert_matches_oracle(case, h200.car_step)


def test_dense_prediction_in_place(on_device):
    for blocks in (SEPARATE, TOGETHER):
        assert_matches_oracle(Case(2, 4, spatial=(5,), ignored=True), on_device(blocks).car_step)
        assert_matches_oracle(Case(2, 133, spatial=(5,), ignored=True), on_device(blocks).car_step)


def test_strides_and_no_samples(on_device):
    for classes in (6, 150):
        case = Case(7, classes)
        strided = torch.zeros(classes, 14, dtype=torch.float64).T[::2]
        assert_matches_oracle(case, on_device(TOGETHER).car_step, strided.copy_(case.logits))
        assert_matches_oracle(Case(0, classes, dtype=torch.float32), on_device(TOGETHER).car_step)
        assert_matches_oracle(Case(0, classes, dtype=torch.float32), on_device(SEPARATE).car_step)


def test_zero_matrix_has_sigma_and_gradient_zero(on_device):
    for classes in (3, 131):
        case = Case(4, classes, cold=True)
        case.targets.fill_(case.options.ignore_index)
        sigma, grad, _ = case.run(on_device(TOGETHER).car_step)
        assert sigma == 0
        assert not grad.any()


def test_a_matrix_of_low_rank_exhausts_the_iteration(on_device):
    # A first batch gives a matrix of as few dimensions as it has classes: what is left of a Krylov vector is rounding.
    for (classes, samples), seed in itertools.product(itertools.product((20, 140), (1, 2, 3, 5, 8)), range(4)):
        options = Options(tolerance=1e-5)
        case = Case(samples, classes, dtype=torch.float32, cold=True, seed=seed, options=options)
        assert_matches_oracle(case, on_device(SEPARATE).car_step)
    for classes in (60, 200):
        case = two_blocks(classes)
        sigma, _, _ = case.run(on_device(TOGETHER).car_step)
        assert relative(sigma, torch.linalg.matrix_norm(case.state[1], 2)) < 1e-9


def test_the_same_bits_again(on_device):
    for classes in (20, 140):
        case = Case(30, classes, dtype=torch.float32)
        assert_same_bits(case.run(on_device(TOGETHER).car_step), case.run(on_device(TOGETHER).car_step))


@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
def test_nan_logits_spare_the_state(on_device, blocks):
    def spoil(case):
        case.logits[2, 1] = torch.nan

    for classes in (4, 140):
        assert_a_bad_sample_spares_the_state(Case(6, classes), on_device(blocks).car_step, spoil)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("options", FORMS[:3], ids=["paper", "reference-code", "tempered"])
def test_confusion(on_device, options, dtype):
    gpu = on_device(SEPARATE)
    for samples, classes in [(1, 2), (70, 5), (9, 41), (0, 3)]:
        case = Case(samples, classes, dtype=dtype, weighted=True, ignored=True, options=options)
        assert_confusion_matches(gpu.confusion, gpu.confusion_backward, case)


def test_confusion_on_any_room(on_device):
    for room in (1 << 17, 5000, 3000):  # rows of logits all kept on chip, some, none
        for samples in (2, 23):
            gpu, case = on_device(SEPARATE, room), Case(samples, 141, dtype=torch.float32, scale=2.0)
            assert_confusion_matches(gpu.confusion, gpu.confusion_backward, case)
            dense = Case(2, 133, dtype=torch.float32, spatial=(5,), ignored=True)
            assert_confusion_matches(gpu.confusion, gpu.confusion_backward, dense)


def test_confusion_of_unusable_samples_is_nan(on_device):
    gpu = on_device(SEPARATE)
    for spoil in (lambda c: c.logits[2].fill_(torch.nan), lambda c: c.targets[2].fill_(9)):
        case = Case(6, 4)
        spoil(case)
        matrix, mass = gpu.confusion(case.logits, case.targets, None, *case.options.form())
        grad = gpu.confusion_backward(case.upstream(), case.logits, case.targets, None, mass, *case.options.form())
        assert matrix.isnan().all()
        assert grad[2].isnan().all()
        assert grad[[0, 1, 3, 4, 5]].isfinite().all()


@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_spectral_norm(on_device, blocks, dtype):
    for kind, k in itertools.product(["dense", "sparse", "rank one"], [1, 7, 141]):
        assert_triple_matches(random_matrix(kind, k).to(dtype), on_device(blocks, 1 << 18).spectral_norm)
        tiny = (random_matrix(kind, k) * 1e-12).to(dtype)
        assert_triple_matches(tiny, on_device(blocks, 14000).spectral_norm)


@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
def test_spectral_norm_of_zero_and_of_nan(on_device, blocks):
    for k in (5, 141):
        matrix, start = torch.zeros(k, k), torch.rand(k)
        sigma, left, right, error = on_device(blocks).spectral_norm(matrix, start, 1e-5, 96)
        assert sigma == error == 0
        assert not left.any()
        assert torch.equal(right, start)
        for entry in (torch.nan, torch.inf):
            matrix[3, 1] = entry
            sigma, left, right, _ = on_device(blocks).spectral_norm(matrix, start, 1e-5, 96)
            assert sigma.isnan()
            assert left.isnan().all()
            assert torch.equal(right, start)


def test_a_refused_launch_falls_back_to_one_a_phase(on_device):
    for classes in (20, 140):
        case = Case(30, classes, dtype=torch.float32, weighted=True, options=Options(tolerance=1e-5))
        refused = case.run(on_device(TOGETHER, refuses=True).car_step)
        separate = case.run(on_device(SEPARATE).car_step)
        assert torch.equal(refused[0], separate[0])
        assert torch.equal(refused[1], separate[1])
        assert all(torch.equal(a, b) for a, b in zip(refused[2], separate[2], strict=True))


# Fibres count as threads that only barriers order, and shared memory has the size a launch asks for: a race or a bad
# index is found on every run. The seeded ones prove it.
RACE = ("-O1", "-fsanitize=thread")
MEMORY = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.parametrize(
    ("sanitizer", "seed", "finding"),
    [
        (RACE, None, None),
        (MEMORY, None, None),
        (RACE, "CAR_SEED_MISSING_BARRIER", "data race"),
        (MEMORY, "CAR_SEED_BAD_INDEX", "heap-buffer-overflow"),
    ],
    ids=["threads", "memory", "seeded-race", "seeded-index"],
)
def test_sanitizers(tmp_path, sanitizer, seed, finding):
    program = build(tmp_path / "sanitized", "sanitized.cpp", *sanitizer, *([f"-D{seed}"] if seed else []))
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    run = subprocess.run([program], capture_output=True, text=True, check=False, env=environment)
    if finding is None:
        assert run.returncode == 0, run.stdout + run.stderr
    else:
        assert run.returncode != 0
        assert finding in run.stderr
