"""The operators as PyTorch sees them: kernels from C++, shapes, gradients and the fallback from here.

``torch.ops.car_ext.car_step`` does the whole regularizer in the forward call and returns its gradient; it updates its
state in place, and PyTorch allows such an operator no autograd formula. ``torch.ops.car_ext.attach_gradient`` has one:
it returns the loss unchanged and multiplies the ready gradient by the upstream scalar on the way back.
"""

import warnings

import torch
from torch import Tensor

from . import _library, functional

car_step = torch.ops.car_ext.car_step
attach_gradient = torch.ops.car_ext.attach_gradient


@torch.library.register_fake("car_ext::car_step")
def _(logits, targets, sample_weights, class_weights, ema, *_):
    return ema.new_empty(()), torch.empty_like(logits, memory_format=torch.contiguous_format)


@torch.library.register_fake("car_ext::attach_gradient")
def _(logits, loss, grad):
    return torch.empty_like(loss)


def _save_gradient(ctx, inputs, output):
    ctx.save_for_backward(inputs[2])


def _scale_gradient(ctx, upstream: Tensor):
    (grad,) = ctx.saved_tensors
    return (grad * upstream.to(grad.dtype)), None, None


torch.library.register_autograd("car_ext::attach_gradient", _scale_gradient, setup_context=_save_gradient)


_warned: set[str] = set()


def _warn_of_fallback(device: str) -> None:
    if device in _warned:
        return
    _warned.add(device)
    reason = f" ({_library.CUDA_STATUS})" if device == "cuda" else ""
    warnings.warn(
        f"car_ext has no kernel for {device} tensors here{reason}: CAR runs as plain PyTorch with a full SVD a step, "
        "which is slow. `python -m car_ext` shows what was built.",
        stacklevel=2,
    )


def _fallback(logits, *args):
    _warn_of_fallback(logits.device.type)
    return functional.car_step(logits, *args)


# Kernels go before CompositeExplicitAutograd in the dispatcher, so this runs only where there is none.
torch.library.impl("car_ext::car_step", "CompositeExplicitAutograd", _fallback)
