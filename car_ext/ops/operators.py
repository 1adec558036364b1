"""The operators as PyTorch sees them: kernels from C++, shapes, gradients and the fallback from here.

`torch.ops.car_ext.car_step` does the whole regularizer in the forward call and returns its gradient; it updates its
state in place, and PyTorch allows such an operator no autograd formula. `torch.ops.car_ext.attach_gradient` has one:
it returns the loss unchanged and multiplies the ready gradient by the upstream scalar on the way back.

`torch.ops.car_ext.confusion` and `torch.ops.car_ext.spectral_norm` are two of its parts, functional and
differentiable once. `car_ext.confusion` and `car_ext.spectral_norm` are how to call them.
"""

import warnings

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.library import impl, register_autograd, register_fake

from car_ext.ops import library, reference

car_step = torch.ops.car_ext.car_step
attach_gradient = torch.ops.car_ext.attach_gradient
confusion = torch.ops.car_ext.confusion
confusion_backward = torch.ops.car_ext.confusion_backward
spectral_norm = torch.ops.car_ext.spectral_norm


@register_fake("car_ext::car_step")
def _(logits, targets, sample_weights, class_weights, ema, *_):
    return ema.new_empty(()), torch.empty_like(logits, memory_format=torch.contiguous_format)


@register_fake("car_ext::attach_gradient")
def _(logits, loss, grad):
    return torch.empty_like(loss)


@register_fake("car_ext::confusion")
def _(logits, *_):
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    classes = logits.shape[1]
    return logits.new_empty((classes, classes), dtype=dtype), logits.new_empty((classes,), dtype=dtype)


@register_fake("car_ext::confusion_backward")
def _(upstream, logits, *_):
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


@register_fake("car_ext::spectral_norm")
def _(matrix, *_):
    classes = matrix.shape[0]
    vectors = matrix.new_empty((classes,)), matrix.new_empty((classes,))
    return matrix.new_empty(()), *vectors, matrix.new_empty(())


def _save_gradient(ctx, inputs, output):
    ctx.save_for_backward(inputs[2])


def _scale_gradient(ctx, upstream: Tensor):
    (grad,) = ctx.saved_tensors
    if not (_goes_after_use() and _is_one(upstream)):
        grad = grad * upstream.to(grad.dtype)
    return grad, None, None


def _goes_after_use() -> bool:
    """Whether nobody asks for the gradient again, so that the caller may have the tensor itself and not a copy."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return not torch._C._autograd._get_current_graph_task_keep_graph()  # no public way to ask; torch's compiler asks it


def _is_one(upstream: Tensor) -> bool:
    """As after a plain `loss.backward()`; False where looking would cost something or a tensor shows no value."""
    if type(upstream) is not Tensor or upstream.device.type != "cpu":
        return False
    try:
        return upstream.item() == 1
    except RuntimeError:  # inside vmap
        return False


register_autograd("car_ext::attach_gradient", _scale_gradient, setup_context=_save_gradient)


def _save_batch(ctx, inputs, output):
    logits, targets, sample_weights, *ctx.options = inputs
    mass = output[1]
    ctx.mark_non_differentiable(mass)
    ctx.save_for_backward(logits, targets, sample_weights, mass)


@once_differentiable
def _confusion_gradient(ctx, upstream: Tensor, _):
    grad = None
    if ctx.needs_input_grad[0]:
        # The diagonal is 0 whatever the logits; what reaches it may be infinite, as from a logarithm.
        upstream = upstream.clone(memory_format=torch.contiguous_format).fill_diagonal_(0)
        grad = confusion_backward(upstream, *ctx.saved_tensors, *ctx.options)
    return grad, *[None] * 7


register_autograd("car_ext::confusion", _confusion_gradient, setup_context=_save_batch)


def _save_vectors(ctx, inputs, output):
    _, left, right, error = output
    ctx.mark_non_differentiable(left, right, error)
    ctx.save_for_backward(left, right)


@once_differentiable
def _sigma_gradient(ctx, upstream: Tensor, *_):
    left, right = ctx.saved_tensors
    return upstream * torch.outer(left, right), None, None, None


register_autograd("car_ext::spectral_norm", _sigma_gradient, setup_context=_save_vectors)


_warned: set[str] = set()


def _warn_of_fallback(device: torch.device) -> None:
    if device.type in _warned:
        return
    _warned.add(device.type)
    reason = ""
    if device.type == "cuda" and library.CUDA_OBJECT is None:
        reason = f" ({library.CUDA_STATUS})"
    elif device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        built = library.build_info().get("cuda_architectures", "other architectures")
        reason = (
            f" (they were built for {built}, this GPU is {capability}: rebuild with TORCH_CUDA_ARCH_LIST={capability} "
            "pip install . in the source folder)"
        )
    warnings.warn(
        f"car_ext has no kernel for {device.type} tensors here{reason}: CAR runs as plain PyTorch with a full SVD a "
        "step, which is slow. `python -m car_ext` shows what was built.",
        stacklevel=4,
    )


def _fallback(reference):
    def fall_back(*args):
        _warn_of_fallback(args[0].device)
        return reference(*args)

    return fall_back


# Kernels go before CompositeExplicitAutograd in the dispatcher, so under an operator's own name this runs only where
# there is none. CUDA kernels that find no code for their GPU call the twin NAME_reference.
for _reference in (
    reference.car_step,
    reference.confusion,
    reference.confusion_backward,
    reference.spectral_norm,
):
    for _name in (_reference.__name__, f"{_reference.__name__}_reference"):
        impl(f"car_ext::{_name}", "CompositeExplicitAutograd", _fallback(_reference))
