"""A training job in memory, an epoch at a time."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from car_ext.config.config import Config
from car_ext.datasets.spent import described
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.machine.processes import ALONE, Processes
from car_ext.methods.augment.mix import build_mix
from car_ext.methods.contrast import build_contrast
from car_ext.metrics.confusions import Confusions
from car_ext.metrics.scoring import Scoring
from car_ext.metrics.summary import group_accuracies
from car_ext.metrics.vocabulary import scores
from car_ext.models.classifier import Classifier
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.seeds import derive
from car_ext.text import nfc
from car_ext.training.batches import Batches
from car_ext.training.data import Loaded, load_data
from car_ext.training.forward import synced
from car_ext.training.learner import Learner
from car_ext.training.loader import Batch
from car_ext.training.network import (
    TINY_IMAGE,
    against_bf16,
    check_single_image,
    new_network,
    replace_head,
    single_values,
    sized,
)
from car_ext.training.objective import Objective
from car_ext.training.optimizer import part_of_update, rate_of_step, updates_per_epoch
from car_ext.training.passes import Passed, count_confusions, logits_of
from car_ext.training.progress import Progress
from car_ext.training.selection import Selection

StepListener = Callable[[int, Mapping[str, float]], object]  # as `Callback.after_step`
SECONDS_BETWEEN_LOOKS = 0.5  # reading a loss makes the CPU wait for the GPU


class Job:
    """Everything a run consists of; building it checks the whole configuration.

    Attributes:
        config: its options.
        machine: device and precision.
        data: cut and held out as the options say.
        spent: what the snapshot notes of the images that the model may not be scored on.
        image_size, augment: what the network sees of an image.
        model: the classifier.
        heads: words of its heads, each begun from the one before.
        batches: what it trains and is scored on.
        learner: what is trained.
        epoch: epochs done.
        trained: what the last of them has for its line of metrics.jsonl before it is scored.
        scored: the scores of the last of all, with nothing left to train; None before.
        seconds: they took.

    Args:
        config: the options.
        processes: share the job; each builds it.
        begun: the precision that it began in, where it is resumed, see `Machine`.
        loaded: data, image size and augmentation, as of `load_data`, where a part of the data is trained on.

    Raises:
        InputError: anything that cannot be had or does not go together.
    """

    def __init__(
        self,
        config: Config,
        processes: Processes = ALONE,
        begun: str | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        self.config = config
        self.machine = Machine(config.device, config.amp, processes, begun)
        if config.batch_size < processes.size:
            raise InputError(
                f"--batch-size is {config.batch_size} for {processes.size} processes; raise it, or start fewer."
            )
        with processes.one_first():  # it may fetch data or weights
            self.data, self.image_size, self.augment = loaded or load_data(sized(config))
            self.spent = described(self.data.spent)
            Selection(config, self.data.val is not None)  # what it would refuse later
            torch.manual_seed(config.seed)
            self.model, self.heads = self._second_stage(config.stage2) if config.stage2 else self._first_stage()
        _check_alike(config, self.data.fingerprint, processes)
        self.machine.decide(against_bf16(self.model, self.image_size, config.head_alone))
        self.model.to(self.machine.device)
        channels_last = self.machine.on_cuda if config.channels_last is None else config.channels_last
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        counts = self.data.class_counts
        contrast = None if config.contrast == "none" else build_contrast(config.contrast, counts, self.model)
        self.mix = None if config.mix == "none" else build_mix(config.mix, counts)
        self.batches = Batches(
            config,
            self.data,
            self.image_size,
            self.augment,
            self.machine,
            self.model,
            contrast.views if contrast else 0,
            self.mix.partner_sampler if self.mix else None,
        )
        self.augment = "none" if self.batches.cached else self.augment
        objective = Objective(
            config.loss, config.regularizer, counts, dataclasses.asdict(config.car), config.drw_epoch, contrast
        ).to(self.machine.device)
        self._check(objective)
        if config.sync_bn:
            synced(self.model, self.machine)
        self.learner = Learner(config, self.model, objective, self.machine, self.batches.cached)
        # Handing such work to a second thread costs more than it saves.
        tiny = not self.machine.on_cuda and (self.batches.cached or self.image_size <= TINY_IMAGE)
        self.threads = config.threads or (1 if tiny else torch.get_num_threads())
        self.epoch = 0
        self.trained: dict[str, Any] = {}
        self.scored: Scoring | None = None
        self.seconds = 0.0

    def _first_stage(self) -> tuple[Classifier, list[str]]:
        return new_network(self.config, self.data, self.image_size), [self.config.head]

    def _second_stage(self, run: str) -> tuple[Classifier, list[str]]:
        """The network of the first run, frozen, with a new head."""
        model, state = load_run(run)
        self._check_classes(state, f"the run {run}")
        if state["image_size"] != self.image_size:
            raise InputError(
                f"the run {run} is of images of {state['image_size']} pixels, but this job loads {self.image_size}; "
                f"give --img-size {state['image_size']}."
            )
        replace_head(model, self.config.head, self.data.class_counts)
        return model, [*state["heads"], self.config.head]

    def _check(self, objective: Objective) -> None:
        config = self.config
        # The samplers let no last batch be of one image where others are larger.
        if self.batches.smallest == 1 and not self.batches.cached:
            check_single_image(self.model, self.image_size, self.data.channels)
        objective.check(self.model.head, self.mix)
        if self.mix and self.batches.cached:
            raise InputError(
                f"--mix {config.mix} mixes images, but the head alone is trained, on features; add --bn train."
            )
        if config.test_flip and self.batches.cached:
            raise InputError("--test-flip mirrors images, but the head alone is trained, on features; add --bn train.")

    def train_epoch(self, report: Progress, after_step: StepListener | None = None) -> None:
        """Train for one epoch; `trained` has the first half of its line of metrics.jsonl."""
        start = time.perf_counter()
        self.epoch += 1
        with single_values():
            loss, base, sigma, accuracy = self._train_epoch(report, after_step)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self.trained = {
            "epoch": self.epoch,
            "lr": self.learner.rate,
            "loss": loss,
            "base_loss": base,
            "sigma": sigma if self.learner.objective.car else None,
            "train_accuracy": accuracy,
            "images_per_second": len(self.data.train) / seconds,
        }

    def score_epoch(self, report: Progress) -> dict[str, Any]:
        """Score the validation images or, where there are none, the test images; the whole line of metrics.jsonl."""
        start, part = time.perf_counter(), "test" if self.data.val is None else "val"
        if self.epoch == self.config.epochs:
            self.scored = self.score(part, report)
            confusion = self.scored.confusion
        else:
            confusion = count_confusions(self.logits(part, report), self.data.num_classes)
        row = self.machine.processes.of_first(lambda: self.trained | self._scores(part, confusion))
        self.seconds += time.perf_counter() - start
        return row

    def _scores(self, part: str, confusion: Confusions) -> dict[str, Any]:
        accuracies = group_accuracies(confusion, self.data.class_counts)
        return {f"{part}_{score.epoch}": accuracies[score.key] for score in scores() if score.epoch}

    def score(self, part: str, report: Progress) -> Scoring:
        """Every score of the test or val images, of the result as it is; the first of several processes counts them."""
        scoring = Scoring(self.data.num_classes, self.config.logits)
        for logits, targets in self.logits(part, report):
            if self.machine.processes.first:
                scoring.update(logits.float().cpu().numpy(), targets.numpy())
        return scoring

    def logits(self, part: str, report: Progress) -> Passed:
        """Of the test, val or train images without augmentation, of the result as it is; see `passes.logits_of`."""
        batches = {"test": self.batches.test, "val": self.batches.val, "train": self.batches.train_once()}[part]
        assert batches is not None, "there are no validation images"
        shown = report.scoring(batches, {"val": "validation", "train": "training"}.get(part, part))
        return logits_of(self.learner.scored, shown, self.machine, self.config.test_flip)

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Make the classifier of a `keepsake` the result."""
        self.learner.result.load_state_dict(checkpoint.unpack("model", tensors))
        self.scored = None

    def keepsake(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The result as it is: what `take` and `load_run` need, as tensors and as JSON values."""
        return checkpoint.pack("model", self.learner.result.state_dict()), self._described()

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `restore` and `load_run` need, as tensors and as JSON values."""
        tensors, state = self.learner.snapshot()
        return tensors, {
            **self._described(),
            **state,
            "seconds": self.seconds,
            "trained": self.trained,
            "amp": self.machine.precision,
        }

    def _described(self) -> dict[str, Any]:
        """What is to know of the classifier without its weights."""
        return {
            "config": self.config.to_dict(),
            "network": self.model.built,
            "heads": self.heads,
            "class_names": list(self.data.class_names),
            "class_counts": self.data.class_counts.tolist(),
            "data_fingerprint": self.data.fingerprint,
            "spent": self.spent,
            "image_size": self.image_size,
            "channels": self.data.channels,
            "stored_size": self.data.image_size,
            "mean": self.model.mean.tolist(),
            "std": self.model.std.tolist(),
        }

    def restore(self, epoch: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on where a snapshot was taken, after `epoch` epochs.

        Raises:
            InputError: the data is not what it was then.
        """
        # There is no generator state here: every epoch seeds its own.
        self._check_classes(state, "this --out")
        if self.config.pretrained and "network" not in state:
            raise InputError(
                "this --out began with pretrained weights in an older version, which chose their size and stem "
                "otherwise; use a new --out."
            )
        if state.get("data_fingerprint", self.data.fingerprint) != self.data.fingerprint:  # older snapshots have none
            raise InputError(
                f"the images of {self.config.data} are not those that this --out began with, although their classes "
                "and numbers are; bring those back, or use a new --out."
            )
        self.learner.restore(tensors, state)
        self.epoch, self.seconds = epoch, state["seconds"]
        self.trained = state.get("trained", {})  # 0.1.0 scored an epoch before its checkpoint

    def _check_classes(self, state: dict[str, Any], where: str) -> None:
        names, counts = [*map(nfc, self.data.class_names)], self.data.class_counts.tolist()
        if (names, counts) != ([*map(nfc, state["class_names"])], state["class_counts"]):
            raise InputError(
                f"the classes of {self.config.data}, or how many images they have, are not those that {where} began "
                "with; use a new --out."
            )

    def _train_epoch(self, report: Progress, after_step: StepListener | None) -> list[float]:
        """One pass over the training set; the means of loss, base loss, sigma and accuracy over its images."""
        config, epoch = self.config, self.epoch
        steps = len(self.batches.train)
        updates = updates_per_epoch(steps, config)
        batches = self.begin_epoch(epoch)
        mixing = torch.Generator().manual_seed(derive("mix", config.seed, epoch))
        # Dropout starts from (seed, epoch), so that resuming needs no generator state. It does so after the
        # loader has begun, which draws a seed of its own.
        torch.manual_seed(derive("dropout", config.seed, epoch))
        seen, rows, looked = np.empty((0, 4), np.float32), [], time.perf_counter()
        told: list[tuple[float, int]] = []  # rate and images of each row
        for step, (batch, partner) in enumerate(batches):
            rate = rate_of_step((epoch - 1) * updates + step // config.accumulate, updates, config)
            rows.append(self.step(batch, partner, mixing, rate, part_of_update(step, steps, config)))
            told.append((rate, len(batch[1])))
            if time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS or step == steps - 1:
                seen = np.concatenate([seen, torch.stack(rows).cpu().numpy()])
                finite = np.isfinite(seen).all(axis=1)
                if not finite.all():
                    raise self._diverged(int(finite.argmin()))
                report.steps(len(rows), *(seen[-len(rows) :, [0, 2]].mean(axis=0) / config.batch_size))
                if after_step:
                    self._tell(after_step, (epoch - 1) * steps + step + 1 - len(rows), seen[-len(rows) :], told)
                rows, told, looked = [], [], time.perf_counter()
        self.learner.after_epoch()
        return (seen.sum(axis=0, dtype=np.float64) / len(self.data.train)).tolist()

    def begin_epoch(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        """The training batches of an epoch, each with the batch it is mixed with."""
        mix, epochs = self.mix, self.config.epochs
        self.learner.set_epoch(epoch, epochs)
        batches = self.batches.epoch(epoch, with_partners=mix is not None and mix.active(epoch, epochs))
        return self.machine.ahead(batches)

    def step(
        self, batch: Batch, partner: Batch | None, mixing: torch.Generator, rate: float, part: tuple[int, int] = (0, 1)
    ) -> Tensor:
        """One batch, mixed by numbers from `mixing`; the rest as of `Learner.step`."""
        stored, targets, keys = *self.machine.to_device(*batch[:2]), batch[2]
        images, views = self.batches.seen(stored, keys), self.batches.views(stored, keys)
        if self.mix is None:
            return self.learner.step(images, targets, rate, part, *views)
        other = None
        if partner is not None:
            other_images, other_targets = self.machine.to_device(*partner[:2])
            other = self.batches.seen(other_images, partner[2], partners=True), other_targets
        rows = self.machine.processes.rows
        mixed = self.mix(images, targets, mixing, other, max(self.epoch, 1), self.config.epochs, rows)
        return self.learner.step(mixed.images, mixed, rate, part, *views)

    def _tell(self, listener: StepListener, before: int, rows: np.ndarray, told: list[tuple[float, int]]) -> None:
        """Of steps that are done, each by its means over its images."""
        with_sigma = self.learner.objective.car is not None
        for number, (sums, (rate, images)) in enumerate(zip(rows, told, strict=True), before + 1):
            loss, base, sigma, accuracy = (sums / images).tolist()
            values = {"loss": loss, "base_loss": base, "train_accuracy": accuracy, "lr": rate}
            listener(number, values | ({"sigma": sigma} if with_sigma else {}))

    def _diverged(self, step: int) -> InputError:
        kept = f" (the checkpoint of epoch {self.epoch - 1} is kept)" if self.epoch > 1 else ""
        return InputError(
            f"the loss is not finite at epoch {self.epoch}, step {step + 1}; lower --lr ({self.config.lr:g}), "
            f"raise --warmup-epochs or add --clip-grad 1{kept}."
        )


def _check_alike(config: Config, fingerprint: str, processes: Processes) -> None:
    """Refuse processes that were started with other options or data than the first.

    Raises:
        InputError: this one was.
    """
    first, expected = processes.of_first(lambda: (config, fingerprint))
    if keys := config.differences(first):
        raise InputError(
            f"process {processes.rank} has other options than the first, {', '.join(keys)}; start all of them alike."
        )
    if fingerprint != expected:
        raise InputError(
            f"the images of {config.data} on the machine of process {processes.rank} are not those of the first "
            "process; give all machines the same files."
        )
