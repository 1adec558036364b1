"""What learns in a job: network, objective and optimiser, a step at a time."""

from typing import Any

import torch
from torch import Tensor, nn

from car_ext.config.config import Config
from car_ext.machine.device import Machine
from car_ext.methods.augment.mix import Mixed
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.training.objective import Objective
from car_ext.training.optimizer import SCALE, build_optimizer


class Learner:
    """A classifier, what it minimises and how.

    Attributes:
        model: the classifier.
        network: what batches go through: the classifier, or its head alone where they hold features.
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
        self.optimizer, self.rate = build_optimizer(config, model, objective), config.lr
        self._machine, self._on_features = machine, on_features
        self._frozen, self._clip = bool(config.stage2), config.clip_grad
        self._scaler = torch.amp.GradScaler("cuda", enabled=machine.amp is torch.float16)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Before each epoch, from 1."""
        self.network.train()
        self.objective.set_epoch(epoch, epochs)

    @torch.no_grad()
    def after_epoch(self) -> None:
        self.objective.after_epoch(self.model.head)

    def step(self, inputs: Tensor, targets: Tensor | Mixed, rate: float, views: Tensor | None = None) -> Tensor:
        """One update; the batch's sums of loss, base loss, sigma and correct predictions, float32 (4,)."""
        self.rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get(SCALE, 1)
        with self._machine.autocast():
            with torch.set_grad_enabled(not self._frozen):
                if self.objective.contrast is not None and views is not None:
                    features, views = self.objective.contrast.encode(self.model, inputs, views)
                else:
                    features = inputs if self._on_features else self.model.features(inputs)
            logits = self.model.head(features)
        logits = logits.float()
        terms = self.objective(logits, targets, features.float(), self.model.head, views)
        if terms.loss.requires_grad:  # not where the head has nothing to train
            self._update(terms.loss)
        labels = targets.targets if isinstance(targets, Mixed) else targets
        correct = (logits.argmax(dim=1) == labels).float().mean()
        return torch.stack([*terms, correct]).detach() * len(labels)

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if self._clip:
            self._scaler.unscale_(self.optimizer)
            groups = self.optimizer.param_groups
            torch.nn.utils.clip_grad_norm_([weight for group in groups for weight in group["params"]], self._clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `restore` needs, as tensors and as JSON values."""
        tensors, groups = checkpoint.pack_optimizer(self.optimizer)
        tensors |= checkpoint.pack("model", self.model.state_dict())
        tensors |= checkpoint.pack("objective", self.objective.state_dict())
        return tensors, {"optimizer_groups": groups, "scaler": self._scaler.state_dict()}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.model.load_state_dict(checkpoint.unpack("model", tensors))
        self.objective.load_state_dict(checkpoint.unpack("objective", tensors))
        checkpoint.unpack_optimizer(self.optimizer, tensors, state["optimizer_groups"])
        self._scaler.load_state_dict(state["scaler"])
