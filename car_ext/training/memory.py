"""The memory of a training step, estimated, and the operations of a forward pass, counted."""

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from car_ext.models.classifier import Classifier

FLOAT = 4  # bytes


def activation_bytes(model: Classifier, image_size: int, channels: int) -> int:
    """Bytes an image that a forward pass in float32 keeps for the backward pass; `model` is on the meta device."""
    known = {tensor.untyped_storage() for tensor in chain(model.parameters(), model.buffers())}
    kept = set()
    # Two images: batch normalisation refuses to train on one.
    images = torch.zeros(2, image_size, image_size, channels, dtype=torch.uint8, device="meta")

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, _Fused():
        model.train()(images)
    return sum(storage.nbytes() for storage in kept - known) // 2


def operations(model: Classifier, image_size: int, channels: int) -> int:
    """Floating-point operations of an image's forward pass, two a multiplication with its addition.

    As PyTorch counts them: convolutions, matrix products and attention. `model` is on the meta device.
    """
    image = torch.zeros(1, image_size, image_size, channels, dtype=torch.uint8, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    return counter.get_total_flops()


def car_bytes(classes: int, batch_size: int) -> int:
    """Bytes of CAR: its moving average (K, K), the gradient (B, K), and what its iteration works with."""
    return FLOAT * (classes**2 + batch_size * (classes + 3) + 200 * classes)  # docs/kernel.md, for 132 blocks


class _Fused(TorchFunctionMode):
    """Attention as fused kernels do it: they keep queries, keys, values and result, not the matrix between."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention and len(args) >= 3:
            return _Attention.apply(*args[:3])
        return function(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = value.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result
