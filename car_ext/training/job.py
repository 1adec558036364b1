"""A training job in memory: all that a run consists of, an epoch at a time."""

import dataclasses
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.methods.augment.mix import Mixed, build_mix
from car_ext.methods.contrast import build_contrast
from car_ext.methods.heads.nearest_mean import NearestClassMean
from car_ext.methods.regularizers.full_confusion import FullConfusion
from car_ext.methods.samplers import build_sampler
from car_ext.metrics import summary as metrics
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.seeds import derive
from car_ext.training import passes as inference
from car_ext.training.data import load_data
from car_ext.training.loader import test_loader, train_loader
from car_ext.training.network import new_network, replace_head
from car_ext.training.objective import Objective
from car_ext.training.optimizer import build_optimizer, rate_of_step
from car_ext.training.progress import Progress

TINY_IMAGE = 16  # pixels; handing such work to a second thread costs more than it saves
SECONDS_BETWEEN_LOOKS = 0.5  # reading a loss makes the CPU wait for the GPU


class Job:
    """Everything a run consists of; building it checks the whole configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.machine = Machine(config.device, config.amp)
        self.data, self.image_size, self.augment = load_data(config)
        torch.manual_seed(config.seed)
        self.model, self.heads = self._second_stage() if config.stage2 else self._first_stage()
        self.model.to(self.machine.device)
        channels_last = self.machine.on_cuda if config.channels_last is None else config.channels_last
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.cached = bool(config.stage2) and config.bn == "eval"
        train, test = self.data.train, self.data.test
        if self.cached:
            train, test = self._features_of(train), self._features_of(test)
        self.network = self.model.head if self.cached else self.model  # what the batches go through
        if isinstance(self.model.head, NearestClassMean):
            seen = train if self.cached else self._features_of(train)
            self.model.head.fit(torch.from_numpy(seen.images), torch.from_numpy(seen.targets))
        contrast = None
        if config.contrast != "none":
            contrast = build_contrast(config.contrast, self.data.class_counts, self.model)
        self.objective = Objective(
            config.loss,
            config.regularizer,
            self.data.class_counts,
            dataclasses.asdict(config.car),
            config.drw_epoch,
            contrast,
        ).to(self.machine.device)
        self.mix = None if config.mix == "none" else build_mix(config.mix, self.data.class_counts)
        self.objective.check(self.model.head, self.mix)
        if self.mix and self.cached:
            raise InputError(f"--mix {config.mix} mixes images, but this second stage sees features; add --bn train.")
        if config.test_flip and self.cached:
            raise InputError("--test-flip mirrors images, but this second stage sees features; add --bn train.")
        self.optimizer = build_optimizer(config, self.model, self.objective)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.machine.amp is torch.float16)
        views = contrast.views if contrast else 0
        self.train_batches = self._training_batches(train, config.sampler, config.seed, views)
        self.partner_batches = None
        if self.mix and self.mix.partner_sampler:
            seed = derive("partner", config.seed)
            self.partner_batches = self._training_batches(train, self.mix.partner_sampler, seed)
        self.train_split, self.test_batches = train, self._evaluation_batches(test, self._side)
        tiny = not self.machine.on_cuda and (self.cached or self.image_size <= TINY_IMAGE)
        self.threads = config.threads or (1 if tiny else torch.get_num_threads())
        self.epoch = 0
        self.seconds = 0.0

    def _first_stage(self) -> tuple[Classifier, list[str]]:
        return new_network(self.config, self.data, self.image_size), [self.config.head]

    def _second_stage(self) -> tuple[Classifier, list[str]]:
        """The network of the first run, frozen, with a new head."""
        model, state = load_run(self.config.stage2)
        self._check_classes(state, f"the run {self.config.stage2}")
        replace_head(model, self.config.head, self.data.class_counts)
        return model, [*state["heads"], self.config.head]

    def _features_of(self, split: datasets.Split) -> datasets.Split:
        """Every image's feature (N, D) float32, without augmentation and in eval mode, in place of the images."""
        batches = self._evaluation_batches(split, self.image_size)
        return datasets.Split(inference.features(self.model, batches, self.machine), split.targets)

    @property
    def _side(self) -> int | None:
        """Side of the images to load; None for features, which have none."""
        return None if self.cached else self.image_size

    def _training_batches(self, split: datasets.Split, sampler: str, seed: int, views: int = 0) -> DataLoader:
        config = self.config
        drawn = build_sampler(sampler, split.targets, config.batch_size, seed)
        view_augment = config.view_augment
        if view_augment == "auto":
            view_augment = "crop" if config.data == "digits" else "simclr"
        workers, pin_memory = _workers(config, split), self.machine.on_cuda
        return train_loader(split, self._side, self.augment, drawn, workers, pin_memory, views, view_augment)

    def _evaluation_batches(self, split: datasets.Split, side: int | None) -> DataLoader:
        batch_size = 4 * self.config.batch_size  # no gradients to keep
        return test_loader(split, side, batch_size, _workers(self.config, split), self.machine.on_cuda)

    def run_epoch(self, report: Progress) -> dict[str, Any]:
        """Train for one epoch, evaluate, and return the line of metrics.jsonl."""
        start = time.perf_counter()
        self.epoch += 1
        loss, base, sigma, accuracy = self._train_epoch(report)
        seconds = time.perf_counter() - start
        scores = metrics.group_accuracies(self.test_confusion(), self.data.class_counts)
        self.seconds += time.perf_counter() - start
        return {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": loss,
            "base_loss": base,
            "sigma": sigma if self.objective.car else None,
            "train_accuracy": accuracy,
            "images_per_second": len(self.data.train) / seconds,
            **{
                f"test_{short}": scores[key]
                for short, key in (
                    ("overall", "overall_accuracy"),
                    ("balanced", "balanced_accuracy"),
                    ("worst", "worst_class_accuracy"),
                    ("many", "many"),
                    ("medium", "medium"),
                    ("few", "few"),
                )
            },
        }

    def test_confusion(self, *watching: ScoreStatistics | Mistakes) -> np.ndarray:
        """Counts int64 (K, K) on the test images, of the model as it is; see :func:`inference.count_confusions`."""
        return self._confusion(self.test_batches, *watching)

    def train_confusion(self, *watching: FullConfusion) -> np.ndarray:
        """The same on the training images, without augmentation."""
        return self._confusion(self._evaluation_batches(self.train_split, self._side), *watching)

    def _confusion(self, batches: DataLoader, *watching: ScoreStatistics | Mistakes | FullConfusion) -> np.ndarray:
        classes, flip = self.data.num_classes, self.config.test_flip
        return inference.count_confusions(self.network, batches, self.machine, classes, *watching, flip=flip)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What :meth:`restore` and :func:`load_run` need, as tensors and as JSON values."""
        tensors, groups = checkpoint.pack_optimizer(self.optimizer)
        tensors |= checkpoint.pack("model", self.model.state_dict())
        tensors |= checkpoint.pack("objective", self.objective.state_dict())
        return tensors, {
            "config": self.config.to_dict(),
            "heads": self.heads,
            "class_names": list(self.data.class_names),
            "class_counts": self.data.class_counts.tolist(),
            "image_size": self.image_size,
            "channels": self.data.channels,
            "stored_size": self.data.image_size,
            "mean": self.model.mean.tolist(),
            "std": self.model.std.tolist(),
            "optimizer_groups": groups,
            "scaler": self.scaler.state_dict(),
            "seconds": self.seconds,
        }

    def restore(self, epoch: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        # There is no generator state here: every epoch seeds its own.
        self._check_classes(state, "this --out")
        self.model.load_state_dict(checkpoint.unpack("model", tensors))
        self.objective.load_state_dict(checkpoint.unpack("objective", tensors))
        checkpoint.unpack_optimizer(self.optimizer, tensors, state["optimizer_groups"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.seconds = epoch, state["seconds"]

    def _check_classes(self, state: dict[str, Any], where: str) -> None:
        names, counts = list(self.data.class_names), self.data.class_counts.tolist()
        if (names, counts) != (state["class_names"], state["class_counts"]):
            raise InputError(
                f"the classes of {self.config.data}, or how many images they have, are not those that {where} began "
                "with; use a new --out."
            )

    def _train_epoch(self, report: Progress) -> list[float]:
        """One pass over the training set; the means of loss, base loss, sigma and accuracy over its images."""
        config, epoch = self.config, self.epoch
        self.network.train()
        self.objective.set_epoch(epoch, config.epochs)
        self.train_batches.batch_sampler.set_epoch(epoch, config.epochs)
        batches, steps = iter(self.train_batches), len(self.train_batches)
        partners: Iterator = itertools.repeat(None)
        if self.partner_batches is not None and self.mix.active(epoch, config.epochs):
            self.partner_batches.batch_sampler.set_epoch(epoch, config.epochs)
            partners = iter(self.partner_batches)
        mixing = torch.Generator().manual_seed(derive("mix", config.seed, epoch))
        # Dropout starts from (seed, epoch), so that resuming needs no generator state. It does so after the
        # loader has begun, which draws a seed of its own.
        torch.manual_seed(derive("dropout", config.seed, epoch))
        seen, rows, looked = np.empty((0, 4), np.float32), [], time.perf_counter()
        for step, (batch, partner) in enumerate(zip(batches, partners, strict=False)):
            rate = rate_of_step((epoch - 1) * steps + step, steps, config)
            images, targets, *views = self.machine.to_device(*batch)
            if self.mix:
                partner = partner and self.machine.to_device(*partner)
                targets = self.mix(images, targets, mixing, partner, epoch, config.epochs)
                images = targets.images
            rows.append(self._step(images, targets, rate, *views))
            if time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS or step == steps - 1:
                seen = np.concatenate([seen, torch.stack(rows).cpu().numpy()])
                finite = np.isfinite(seen).all(axis=1)
                if not finite.all():
                    raise self._diverged(int(finite.argmin()))
                report.steps(len(rows), *(seen[-len(rows) :, [0, 2]].mean(axis=0) / config.batch_size))
                rows, looked = [], time.perf_counter()
        with torch.no_grad():
            self.objective.after_epoch(self.model.head)
        return (seen.sum(axis=0, dtype=np.float64) / len(self.train_split)).tolist()

    def _step(self, inputs: Tensor, targets: Tensor | Mixed, rate: float, views: Tensor | None = None) -> Tensor:
        """One update; the batch's sums of loss, base loss, sigma and correct predictions, float32 (4,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.machine.autocast():
            with torch.set_grad_enabled(not self.config.stage2):
                if views is not None:
                    features, views = self.objective.contrast.encode(self.model, inputs, views)
                else:
                    features = inputs if self.cached else self.model.features(inputs)
            logits = self.model.head(features)
        logits = logits.float()
        terms = self.objective(logits, targets, features.float(), self.model.head, views)
        if terms.loss.requires_grad:  # not where the head has nothing to train
            self.optimizer.zero_grad()
            self.scaler.scale(terms.loss).backward()
            if self.config.clip_grad:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.config.clip_grad)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        labels = targets.targets if isinstance(targets, Mixed) else targets
        correct = (logits.argmax(dim=1) == labels).float().mean()
        return torch.stack([*terms, correct]).detach() * len(labels)

    def _diverged(self, step: int) -> InputError:
        kept = f" (the checkpoint of epoch {self.epoch - 1} is kept)" if self.epoch > 1 else ""
        return InputError(
            f"the loss is not finite at epoch {self.epoch}, step {step + 1}; lower --lr ({self.config.lr:g}), "
            f"raise --warmup-epochs or add --clip-grad 1{kept}."
        )


def _workers(config: Config, split: datasets.Split) -> int:
    if config.workers is not None:
        return config.workers
    return 0 if isinstance(split.images, np.ndarray) else min(8, os.cpu_count() or 1)
