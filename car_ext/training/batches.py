"""The splits of a job as batches: of images or, where only a head is trained, of features computed once."""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.datasets.reading import at_hand, centre
from car_ext.machine.device import Machine
from car_ext.methods.augment.draws import Keys
from car_ext.methods.augment.images import Augmentation
from car_ext.methods.heads.nearest_mean import NearestClassMean
from car_ext.methods.samplers import build_sampler
from car_ext.models.classifier import Classifier
from car_ext.seeds import derive
from car_ext.training import passes
from car_ext.training.loader import Batch, begin_epoch, ordered_loader, train_loader


class Batches:
    """What a job trains and is scored on.

    A head that is a mean of features is fitted on the way.

    Attributes:
        cached: whether batches hold features (N, D) in place of images (N, H, W, C).
        train: batches of the training split as it is stored, an epoch at a time through `epoch`; `seen` augments them.
        test: batches of the test split.
        val: of the validation split; None where there is none.

    Args:
        config: the job.
        data: its data.
        image_size: side of the images that the network sees.
        augment: of training images, by a word of `Augmentation`, or none.
        machine: where the features are computed.
        model: whose features they are.
        views: further views of each training image.
        partner_sampler: draws a second image to mix with each; None without.
    """

    def __init__(
        self,
        config: Config,
        data: datasets.LongTailedData,
        image_size: int,
        augment: str,
        machine: Machine,
        model: Classifier,
        views: int = 0,
        partner_sampler: str | None = None,
    ) -> None:
        self._config, self._machine = config, machine
        self.cached = config.head_alone and config.bn == "eval"
        self._train_split, test, val = data.train, data.test, data.val
        self._side: int | None = image_size  # of the images to load
        if self.cached:
            self._train_split, test = self._features(model, data.train), self._features(model, test)
            val = val and self._features(model, val)
        if isinstance(model.head, NearestClassMean):
            seen = self._train_split if self.cached else self._features(model, data.train)
            model.head.fit(torch.from_numpy(seen.images), torch.from_numpy(seen.targets))
        if self.cached:
            self._side = None  # features have none
        self._augmentation, self._partner_augmentation, self._views = None, None, []
        partner_seed = derive("partner", config.seed)
        if augment != "none" and not self.cached:
            self._augmentation, self._partner_augmentation = (
                Augmentation(augment, image_size, seed) for seed in (config.seed, partner_seed)
            )
        if not self.cached:
            word = _view_augment(config)
            self._views = [Augmentation(word, image_size, config.seed, f"view {view}") for view in range(views)]
        self.train = self._training(config.sampler, config.seed)
        self.partners = self._training(partner_sampler, partner_seed) if partner_sampler else None
        self.test = self._evaluation(test)
        self.val = None if val is None else self._evaluation(val)

    def epoch(self, epoch: int, with_partners: bool) -> Iterator[tuple[Batch, Batch | None]]:
        """The training batches of an epoch, each with a batch to mix it with."""
        partners: Iterator[Batch | None] = itertools.repeat(None)
        batches = begin_epoch(self.train, epoch, self._config.epochs)
        if self.partners is not None and with_partners:
            partners = begin_epoch(self.partners, epoch, self._config.epochs)
        return zip(batches, partners, strict=False)

    def seen(self, images: Tensor, keys: Keys, partners: bool = False) -> Tensor:
        """What the network sees of training images (N, H, W, C) on the device, or of those they are mixed with."""
        augmentation = self._partner_augmentation if partners else self._augmentation
        if augmentation is None:
            return centre(images, self._side).contiguous()
        return augmentation(images, keys)

    def views(self, images: Tensor, keys: Keys) -> list[Tensor]:
        """Further views (N, V, H, W, C) of training images on the device, where the job asked for any."""
        return [torch.stack([augmentation(images, keys) for augmentation in self._views], dim=1)] if self._views else []

    @property
    def smallest(self) -> int:
        """The fewest images that a process ever passes in training."""
        keys: Any = self.train.batch_sampler
        return max(min(keys.sampler.sizes) // self._machine.processes.size, 1)

    def train_once(self) -> DataLoader:
        """Every training image once, in order and without augmentation."""
        return self._evaluation(self._train_split)

    def ordered(self, split: datasets.Split) -> DataLoader:
        """Every image of another split of the same data once, likewise."""
        return self._evaluation(split)

    def _features(self, model: Classifier, split: datasets.Split) -> datasets.Split:
        """Every image's feature (N, D) float32, without augmentation and in eval mode, in place of the images."""
        return datasets.Split(passes.features(model, self._evaluation(split), self._machine), split.targets)

    def _training(self, sampler: str, seed: int) -> DataLoader:
        split, machine = self._train_split, self._machine
        drawn = build_sampler(sampler, split.targets, self._config.batch_size, seed)
        return train_loader(split, drawn, self._workers(split), machine.on_cuda, machine.processes)

    def _evaluation(self, split: datasets.Split) -> DataLoader:
        batch_size = 4 * self._config.batch_size  # no gradients to keep
        machine = self._machine
        return ordered_loader(split, self._side, batch_size, self._workers(split), machine.on_cuda, machine.processes)

    def _workers(self, split: datasets.Split) -> int:
        if self._config.workers is not None:
            return self._config.workers
        return 0 if at_hand(split.images) else min(8, os.cpu_count() or 1)


def _view_augment(config: Config) -> str:
    if config.view_augment != "auto":
        return config.view_augment
    return "crop" if config.data == "digits" else "simclr"
