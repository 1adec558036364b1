"""The CUDA kernels' own source, run on the CPU through a shim (tests/cuda_shim), against the float64 oracle."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cases import Case, Options, assert_matches_oracle

HERE = Path(__file__).parent / "cuda_shim"


@pytest.fixture(scope="module")
def cuda_source(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler to build the CUDA shim with")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [compiler, "-std=c++20", "-O1", "-Wall", "-Wno-unknown-pragmas", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*command, str(HERE / "driver.cpp"), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))

    def pointer(tensor):
        return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())

    def car_step(logits, targets, weights, class_weights, ema, updates, direction, error, *options):
        o = Options(*options)
        sigma, grad = ema.new_zeros(()), torch.zeros(logits.shape, dtype=logits.dtype)
        spatial = logits[0, 0].numel()
        shape = (logits.shape[0] * spatial, logits.shape[1], spatial, *logits.stride()[:2])
        shape = (ctypes.c_int64 * 6)(*shape, logits.stride()[-1] if logits.dim() > 2 else 0)
        real = (ctypes.c_double * 4)(o.beta, o.gamma, o.temperature, o.tolerance)
        flags = (o.softmax_over_all, o.detach_gate, o.start_from_first_batch, o.hold_absent, o.debias)
        flag = (ctypes.c_int64 * 7)(*flags, o.ignore_index, o.max_iterations)
        run = loaded.car_step_double if logits.dtype == torch.float64 else loaded.car_step_float
        tensors = (logits, targets, weights, class_weights, ema, updates, direction, error, sigma, grad)
        run(*map(pointer, tensors), shape, real, flag)
        return sigma, grad

    return car_step


FORMS = [
    Options(),
    Options(softmax_over_all=True, detach_gate=True, start_from_first_batch=True, gamma=0.0),
    Options(hold_absent=True, debias=True, temperature=0.7),
    Options(detach_gate=True, debias=True),
]


@pytest.mark.parametrize("options", FORMS, ids=["paper", "reference-code", "held", "detached"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_matches_the_oracle(cuda_source, options, dtype):
    for (samples, classes), cold in itertools.product([(1, 2), (70, 5), (9, 41)], [False, True]):
        case = Case(samples, classes, dtype=dtype, weighted=True, ignored=True, cold=cold, options=options)
        assert_matches_oracle(case, cuda_source)


def test_dense_prediction_in_place(cuda_source):
    assert_matches_oracle(Case(2, 4, spatial=(5,), ignored=True), cuda_source)


def test_nan_logits_spare_the_state(cuda_source):
    case = Case(6, 4)
    clean = Case(6, 4)
    clean.targets[2] = clean.options.ignore_index
    case.logits[2, 1] = torch.nan
    sigma, grad, state = case.run(cuda_source)
    assert sigma.isnan()
    assert grad[2].isnan().all()
    assert grad[[0, 1, 3, 4, 5]].isfinite().all()
    torch.testing.assert_close(state[1], clean.oracle()[2][1])
