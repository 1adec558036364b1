"""What learns in a job: network, objective and optimiser, a step at a time."""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from car_ext.config.config import Config
from car_ext.machine.device import Machine
from car_ext.machine.kernels import compile_forward
from car_ext.methods.augment.mix import Mixed
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.training.forward import Forward, SharedForward, even_out
from car_ext.training.network import checkpoint_activations, statistics_stay
from car_ext.training.objective import Objective
from car_ext.training.optimizer import SCALE, build_optimizer


class Learner:
    """A classifier, what it minimises and how.

    Attributes:
        model: the classifier.
        network: what batches go through: the classifier, or its head alone where they hold features.
        average: the moving average of the classifier, where one is asked for.
        objective: the loss and what joins it.
        optimizer: of all that is trained.
        rate: the learning rate of the last step.

    Args:
        config: the job.
        model: on the device.
        objective: on the device.
        machine: device and precision.
        on_features: whether batches hold features.
    """

    def __init__(
        self, config: Config, model: Classifier, objective: Objective, machine: Machine, on_features: bool
    ) -> None:
        self.model, self.objective = model, objective
        self.network: nn.Module = model.head if on_features else model
        self.average = _average(config, model)
        self.optimizer, self.rate = build_optimizer(config, model, objective), config.lr
        self._machine, self._on_features = machine, on_features
        encode = None if objective.contrast is None else objective.contrast.encode
        forward = Forward(model, on_features, config.head_alone, encode)
        if config.checkpointing:
            checkpoint_activations(model, config.model)
        # Gradients that outlive a batch, or that processes exchange, may not lie in the memory of a CUDA graph.
        self._replayed = config.compile and machine.on_cuda and config.accumulate == machine.processes.size == 1
        if config.compile:
            compile_forward(forward, machine.device, self._replayed)
        self._backward = statistics_stay if config.checkpointing else contextlib.nullcontext
        self._forward = SharedForward(forward, machine)
        self._clip, self._updates = config.clip_grad, 0
        self._scaler = torch.amp.GradScaler("cuda", enabled=machine.amp is torch.float16)

    @property
    def result(self) -> Classifier:
        """What is scored and kept: the average, or the classifier itself."""
        return self.model if self.average is None else self.average.module

    @property
    def scored(self) -> nn.Module:
        """The part of the result that batches go through."""
        return self.result.head if self._on_features else self.result

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Before each epoch, from 1."""
        self.network.train()
        self._forward.set_epoch()
        self.objective.set_epoch(epoch, epochs)

    @torch.no_grad()
    def after_epoch(self) -> None:
        self.objective.after_epoch(self.model.head)
        average = [] if self.average is None else [self.average.module]
        even_out(self._machine, self.model, self.objective, *average)

    def step(
        self,
        inputs: Tensor,
        targets: Tensor | Mixed,
        rate: float,
        part: tuple[int, int] = (0, 1),
        views: Tensor | None = None,
    ) -> Tensor:
        """One batch and, with the last part of a step, its update.

        `part`: which of how many batches of the step this is. Their gradients are averaged; batch normalisation and
        CAR's moving average see each batch by itself. Of several processes each passes its own images; the rest is
        computed from the logits and features of all, by all of them alike.

        Returns:
            The batch's sums of loss, base loss, sigma and correct predictions, float32 (4,).
        """
        self.rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get(SCALE, 1)
        labels = targets.targets if isinstance(targets, Mixed) else targets
        if self._replayed:
            torch.compiler.cudagraph_mark_step_begin()  # what the last batch gave may be written over
        with self._forward.synced(inputs, part[0] == part[1] - 1):
            with self._machine.autocast():
                logits, features, views = self._forward(inputs, views)
            logits, features, views = self._of_all(len(labels), logits, features, views)
            terms = self.objective(logits, targets, features, self.model.head, views)
            if terms.loss.requires_grad:  # not where the head has nothing to train
                self._update(terms.loss, *part)
        correct = (logits.argmax(dim=1) == labels).to(terms.loss).mean()
        return torch.stack([*terms, correct]).detach() * len(labels)

    def _of_all(
        self, total: int, logits: Tensor, features: Tensor, views: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of the images of all processes: logits and features in float32 (or float64), and features of the views."""
        processes = self._machine.processes
        logits, features = (found if found.dtype == torch.float64 else found.float() for found in (logits, features))
        logits = processes.gather(logits, total)
        if processes.size > 1 and self.objective.needs_features:
            features = processes.gather(features, total)
            views = None if views is None else processes.gather(views.transpose(0, 1), total).transpose(0, 1)
        return logits, features, views

    def _update(self, loss: Tensor, number: int, parts: int) -> None:
        if number == 0:
            self.optimizer.zero_grad()
        with self._backward(self.model):
            self._scaler.scale(loss / parts).backward()
        if number < parts - 1:
            return
        if self._clip:
            self._scaler.unscale_(self.optimizer)
            groups = self.optimizer.param_groups
            torch.nn.utils.clip_grad_norm_([weight for group in groups for weight in group["params"]], self._clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._updates += 1
        if self.average is not None:
            self.average.update(self.model, self._updates)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `restore` needs, as tensors and as JSON values."""
        tensors, groups = checkpoint.pack_optimizer(self.optimizer)
        tensors |= checkpoint.pack("model", self.model.state_dict())
        tensors |= checkpoint.pack("objective", self.objective.state_dict())
        if self.average is not None:
            tensors |= checkpoint.pack("average", self.average.module.state_dict())
        return tensors, {"optimizer_groups": groups, "scaler": self._scaler.state_dict(), "updates": self._updates}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint.unpack("model", tensors))
        self.objective.load_state_dict(checkpoint.unpack("objective", tensors))
        groups = [{**group, "fused": True} for group in state["optimizer_groups"]]  # older snapshots may say otherwise
        checkpoint.unpack_optimizer(self.optimizer, tensors, groups)
        self._scaler.load_state_dict(state["scaler"])
        self._updates = state.get("updates", 0)  # older snapshots have no average to count for
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint.unpack("average", tensors))


def _average(config: Config, model: Classifier) -> Any:
    """timm's moving average of a model; in step t no more than 1 - t^(-2/3) of it stays, so that it soon leaves the
    initial weights behind."""
    if not config.ema:
        return None
    from timm.utils import ModelEmaV3  # timm takes a second to import

    return ModelEmaV3(model, decay=config.ema, use_warmup=True)
