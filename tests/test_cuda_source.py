"""The CUDA kernels' own source, run on the CPU through a shim (tests/cuda_shim), against the float64 oracle."""

import ctypes
import dataclasses
import functools
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cases import (
    DTYPES,
    Case,
    Options,
    assert_a_bad_sample_spares_the_state,
    assert_matches_oracle,
    assert_same_bits,
    tolerance_of,
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
    """``on_device(blocks, shared_memory)`` is car_step on a made-up GPU; 1 block cannot wait for others."""
    library = build(tmp_path_factory.mktemp("shim") / "shim.so", "driver.cpp", "-shared", "-fPIC")
    loaded = ctypes.CDLL(str(library))

    def pointer(tensor):
        return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())

    def car_step(device, logits, targets, weights, class_weights, ema, updates, direction, error, *options):
        o = Options(*options)
        sigma, grad = ema.new_zeros(()), torch.full(logits.shape, torch.nan, dtype=logits.dtype)
        spatial = logits.shape[2:].numel()
        shape = (logits.shape[0] * spatial, logits.shape[1], spatial, *logits.stride()[:2])
        shape = (ctypes.c_int64 * 6)(*shape, logits.stride()[-1] if logits.dim() > 2 else 0)
        real = (ctypes.c_double * 4)(o.beta, o.gamma, o.temperature, o.tolerance)
        flags = (o.softmax_over_all, o.detach_gate, o.start_from_first_batch, o.hold_absent, o.debias)
        flag = (ctypes.c_int64 * 9)(*flags, o.ignore_index, o.max_iterations, *device)
        run = loaded["car_step_" + str(logits.dtype).removeprefix("torch.")]
        tensors = (logits, targets, weights, class_weights, ema, updates, direction, error, sigma, grad)
        run(*map(pointer, tensors), shape, real, flag)
        return sigma, grad

    return lambda blocks, shared_memory=1 << 17: functools.partial(car_step, (blocks, shared_memory))


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
        assert_matches_oracle(case, on_device(blocks))


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
        assert_matches_oracle(case, on_device(blocks, ROOM[way][dtype == torch.float64]))


def test_dense_prediction_in_place(on_device):
    for blocks in (SEPARATE, TOGETHER):
        assert_matches_oracle(Case(2, 4, spatial=(5,), ignored=True), on_device(blocks))
        assert_matches_oracle(Case(2, 133, spatial=(5,), ignored=True), on_device(blocks))


def test_strides_and_no_samples(on_device):
    for classes in (6, 150):
        case = Case(7, classes)
        strided = torch.zeros(classes, 14, dtype=torch.float64).T[::2]
        assert_matches_oracle(case, on_device(TOGETHER), strided.copy_(case.logits))
        assert_matches_oracle(Case(0, classes, dtype=torch.float32), on_device(TOGETHER))
        assert_matches_oracle(Case(0, classes, dtype=torch.float32), on_device(SEPARATE))


def test_zero_matrix_has_sigma_and_gradient_zero(on_device):
    for classes in (3, 131):
        case = Case(4, classes, cold=True)
        case.targets.fill_(case.options.ignore_index)
        sigma, grad, _ = case.run(on_device(TOGETHER))
        assert sigma == 0
        assert not grad.any()


def test_the_same_bits_again(on_device):
    for classes in (20, 140):
        case = Case(30, classes, dtype=torch.float32)
        assert_same_bits(case.run(on_device(TOGETHER)), case.run(on_device(TOGETHER)))


@pytest.mark.parametrize("blocks", [SEPARATE, TOGETHER], ids=["separate", "together"])
def test_nan_logits_spare_the_state(on_device, blocks):
    def spoil(case):
        case.logits[2, 1] = torch.nan

    for classes in (4, 140):
        assert_a_bad_sample_spares_the_state(Case(6, classes), on_device(blocks), spoil)


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
