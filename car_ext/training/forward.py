"""The forward pass of a training step, which several processes do on their own images each."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.models.classifier import Classifier
from car_ext.seeds import derive

Encode = Callable[[Classifier, Tensor, Tensor], tuple[Tensor, Tensor]]  # as of `Contrast.encode`
Passed = tuple[Tensor, Tensor, Tensor | None]


class Forward(nn.Module):
    """Batches to logits (N, K), features (N, D) and, with `encode`, features (V, N, D) of the further views.

    Args:
        model: the classifier.
        on_features: batches hold features, and only the head is passed.
        frozen: the features get no gradient.
        encode: of a contrast.
    """

    def __init__(self, model: Classifier, on_features: bool, frozen: bool, encode: Encode | None) -> None:
        super().__init__()
        self.network: nn.Module = model.head if on_features else model
        self._on_features, self._frozen, self._encode = on_features, frozen, encode

    def forward(self, inputs: Tensor, views: Tensor | None = None) -> Passed:
        if self._on_features:
            return self.network(inputs), inputs, None
        model: Classifier = self.network  # type: ignore[assignment]
        with torch.set_grad_enabled(not self._frozen):
            if self._encode is not None and views is not None:
                features, views = self._encode(model, inputs, views)
            else:
                features = model.features(inputs)
        return model.head(features), features, views


class SharedForward:
    """A `Forward` whose gradients are the means over the processes; of one process it is just that.

    Running statistics of batch normalisation are each process's own within an epoch, see `even_out`.

    Args:
        forward: on the device.
        machine: whose processes share it.
    """

    def __init__(self, forward: Forward, machine: Machine) -> None:
        self._machine, self._batches, self._call = machine, 0, forward
        self._shared = machine.processes.size > 1 and any(weight.requires_grad for weight in forward.parameters())
        self._replica: DistributedDataParallel | None = None

    def set_epoch(self) -> None:
        """Before each epoch, once torch is seeded for it."""
        self._batches = 0

    def __call__(self, inputs: Tensor, views: Tensor | None = None) -> Passed:
        with self._own_draws():
            return (self._replica or self._call)(inputs, views)

    def synced(self, inputs: Tensor, last: bool) -> AbstractContextManager:
        """For forward and backward pass of a batch; gradients are exchanged in the `last` of a step."""
        if self._shared and self._replica is None:
            unused = _some_unused(self._call.network, inputs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers is getting a new name
                self._replica = DistributedDataParallel(
                    self._call, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=unused
                )
        return contextlib.nullcontext() if last or self._replica is None else self._replica.no_sync()

    @contextlib.contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Dropout of several processes differs between them, and leaves torch's generators as alike as they were."""
        machine, self._batches = self._machine, self._batches + 1
        if machine.processes.size == 1:
            yield
            return
        with torch.random.fork_rng([machine.device] if machine.on_cuda else [], device_type="cuda"):
            torch.manual_seed(derive("process", torch.initial_seed(), self._batches, machine.processes.rank))
            yield


def even_out(machine: Machine, *modules: nn.Module) -> None:
    """Makes running statistics of batch normalisation the means over the processes."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
                machine.processes.average_([layer.running_mean, layer.running_var])


def synced(model: Classifier, machine: Machine) -> None:
    """Lets the backbone's batch normalisation see the images of all processes.

    Raises:
        InputError: there are several, on CPUs.
    """
    if machine.processes.size == 1:
        return
    if not machine.on_cuda:
        raise InputError("--sync-bn is for GPUs, as PyTorch synchronises batch normalisation there only; leave it out.")
    from timm.layers import convert_sync_batchnorm  # which keeps the activation that a layer of timm may hold

    model.backbone = convert_sync_batchnorm(model.backbone)


def _some_unused(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a network has parameters that get no gradient; tried with tensors that have shapes only."""
    shadow = copy.deepcopy(network).to("meta").eval()  # synchronised batch normalisation trains on GPUs only
    shadow(torch.zeros(2, *inputs.shape[1:], dtype=inputs.dtype, device="meta")).sum().backward()
    return any(weight.requires_grad and weight.grad is None for weight in shadow.parameters())
