"""Threads, kernels that give the same bits twice, and kernels compiled for a network."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from car_ext.errors import InputError, first_line


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads; as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """The same bits twice, as far as CUDA has deterministic kernels; the old settings come back after.

    PyTorch would also fill each new tensor before it is written to, so that reading one too early shows; here nothing
    does, and a training step on a CPU took 1.04 (ViT-Tiny, 32 pixels), 1.05 (ResNet-18, 64 pixels) and 1.12 times as
    long (ResNet-32, 32 pixels; one thread, medians of steps in turns).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # a module with a property
    before, filling = (cudnn.deterministic, cudnn.benchmark), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = before
        memory.fill_uninitialized_memory = filling


def compile_forward(module: nn.Module, device: torch.device, replayed: bool) -> None:
    """Let torch.compile fuse what a module computes, forward and backward.

    It is compiled at its first call, and anew for each shape of a batch. The module stays what it is, with the same
    names in its `state_dict`.

    Args:
        module: the network.
        device: where it is.
        replayed: as CUDA graphs. What a call gives, and its gradients, are then written over by the next one.

    Raises:
        InputError: nothing to compile with.
    """
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler  # a second to import
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except (InvalidCxxCompiler, RuntimeError) as error:
            raise InputError(
                f"--compile needs a C++ compiler on a CPU, and finds none ({first_line(error)}); install g++, name one "
                "in the environment variable CXX, or leave --compile out."
            ) from error
    elif importlib.util.find_spec("triton") is None:
        raise InputError("--compile needs Triton on CUDA, which is not here; pip install triton, or leave it out.")
    torch.compiler.reset()  # what earlier jobs of this process compiled counts against a limit, behind which nothing is
    module.compile(dynamic=False, mode="reduce-overhead" if replayed else None)
