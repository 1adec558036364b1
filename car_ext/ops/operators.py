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


TWICE = (
    "car_ext's gradients are of first order and cannot be differentiated twice (what they hold does not require grad): "
    "leave create_graph=True out, or CAR out of what is differentiated."
)


class _FirstOrder(torch.autograd.Function):
    """A gradient as it is, whose own gradient is an error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient, *_):
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(TWICE)


def _first_order(gradient: Tensor, *sources: Tensor) -> Tensor:
    """A gradient as a backward pass returns it.

    After `create_graph=True` nobody shall take it for a constant: it hangs on its sources, and whoever differentiates
    it to them meets the error.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return gradient
    return _FirstOrder.apply(gradient, *sources)


def _save_gradient(ctx, inputs, output):
    ctx.save_for_backward(inputs[2])
    ctx.source = inputs[0]  # not saved: its values are not needed, and may be changed in place


def _scale_gradient(ctx, upstream: Tensor):
    (grad,) = ctx.saved_tensors
    last = _goes_after_use()
    if not (last and _is_one(upstream)):
        grad = grad * upstream.to(grad.dtype)
    grad = _first_order(grad, ctx.source)
    if last:
        ctx.source = None  # as PyTorch frees what is saved
    return grad, None, None


def _goes_after_use() -> bool:
    """Whether nobody asks for the gradient again, so that the caller may have the tensor itself and not a copy."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
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


def _confusion_gradient(ctx, upstream: Tensor, _):
    if not ctx.needs_input_grad[0]:
        return (None,) * 8
    with torch.no_grad():
        # The diagonal is 0 whatever the logits; what reaches it may be infinite, as from a logarithm.
        off_diagonal = upstream.clone(memory_format=torch.contiguous_format).fill_diagonal_(0)
        grad = confusion_backward(off_diagonal, *ctx.saved_tensors, *ctx.options)
    return _first_order(grad, ctx.saved_tensors[0], upstream), *[None] * 7


register_autograd("car_ext::confusion", _confusion_gradient, setup_context=_save_batch)


def _save_vectors(ctx, inputs, output):
    _, left, right, error = output
    ctx.mark_non_differentiable(left, right, error)
    ctx.save_for_backward(left, right)
    ctx.source = inputs[0]


def _sigma_gradient(ctx, upstream: Tensor, *_):
    left, right = ctx.saved_tensors
    return _first_order(upstream * torch.outer(left, right), ctx.source), None, None, None


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
