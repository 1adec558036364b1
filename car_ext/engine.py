"""Train a classifier, resume it to the bit, and load it again."""

import contextlib
import dataclasses
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from car_ext import checkpoint, datasets, metrics
from car_ext.augment.images import LARGEST_CROP
from car_ext.augment.mix import Mixed, build_mix
from car_ext.config import Config
from car_ext.contrast import build_contrast
from car_ext.errors import InputError
from car_ext.findings import Findings, Mistakes
from car_ext.heads import NearestClassMean, build_head
from car_ext.loader import test_loader, train_loader
from car_ext.models import Classifier, build_model
from car_ext.objective import Objective
from car_ext.progress import Progress
from car_ext.regularizer import FullConfusion
from car_ext.run_folder import RunFolder
from car_ext.samplers import build_sampler
from car_ext.schedule import learning_rate
from car_ext.scores import ScoreStatistics
from car_ext.seeds import derive

STATISTICS_IMAGES = 2000
TINY_IMAGE = 16  # pixels; handing such work to a second thread costs more than it saves
SECONDS_BETWEEN_LOOKS = 0.5  # reading a loss makes the CPU wait for the GPU


def train(
    config: Config, *, progress: bool = True, after_epoch: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Run the job and return its summary: the metrics of the last epoch and how they came about.

    Writes ``config.run_dir``: config.yaml, metrics.jsonl (a line an epoch), tensorboard/, the last checkpoint and, at
    the end, findings.npz (what :mod:`car_ext.report` shows besides the scores) and summary.json. With
    ``config.resume`` it goes on from the last checkpoint, on a CPU to the very bits of a run without a break; a
    finished run only returns its summary. Raises :class:`InputError` for anything wrong with the input, before the
    folder is created, and for a loss that is not finite.

    ``after_epoch`` is called with each line of metrics.jsonl, once its checkpoint is written: whatever it raises
    ends the run, which can be resumed.
    """
    folder = RunFolder(config.run_dir)
    folder.check(config)
    if config.resume and (summary := folder.read_summary()):
        return summary
    with _deterministic():
        job = _Job(config)
        found = checkpoint.load_latest(folder.path)
        if found:
            job.restore(*found)
        folder.start(config)
        folder.keep_metrics(job.epoch)
        with (
            _threads(job.threads),
            SummaryWriter(folder.tensorboard, purge_step=job.epoch + 1) as writer,
            Progress(config, len(job.train_batches), job.epoch, shown=progress) as report,
        ):
            while job.epoch < config.epochs:
                row = job.run_epoch(report)
                folder.add_metrics(row)
                for key, value in row.items():
                    if value is not None:
                        writer.add_scalar(key, value, job.epoch)
                checkpoint.save(folder.path, job.epoch, *job.snapshot())
                report.epoch(row)
                if after_epoch:
                    after_epoch(row)
            summary, findings = job.summary()
    folder.write_findings(findings)
    folder.write_summary(summary)
    return summary


def load_run(run_dir: str | Path, device: str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a run's last checkpoint, in eval mode, and what was saved with it.

    The second value holds ``config``, ``heads``, ``class_names``, ``class_counts``, ``image_size``, ``channels``,
    ``mean`` and ``std``. Raises :class:`InputError` if there is no checkpoint or it is damaged.
    """
    found = checkpoint.load_latest(Path(run_dir))
    if found is None:
        raise InputError(f"{run_dir} holds no checkpoint; give the --out folder of a training run.")
    _, tensors, state = found
    config = Config.from_dict(state["config"], f"the checkpoint in {run_dir}")
    model = build_model(
        config.model,
        state["class_counts"],
        state["image_size"],
        state["channels"],
        state["mean"],
        state["std"],
        config.patch_size,
        heads=state["heads"],
    )
    model.load_state_dict(checkpoint.unpack("model", tensors))
    return model.to(_device(device)).eval(), state


class _Job:
    """Everything a run consists of; building it checks the whole configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = _device(config.device)
        self.amp = _amp(config.amp, self.device)
        self.data, self.image_size, self.augment = load_data(config)
        torch.manual_seed(config.seed)
        on_cuda = self.device.type == "cuda"
        self.model, self.heads = self._second_stage() if config.stage2 else self._first_stage()
        self.model.to(self.device)
        if on_cuda if config.channels_last is None else config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.cached = bool(config.stage2) and config.bn == "eval"
        train, test = self.data.train, self.data.test
        if self.cached:
            train, test = self._features_of(train), self._features_of(test)
        if isinstance(self.model.head, NearestClassMean):
            features = train if self.cached else self._features_of(train)
            self.model.head.fit(torch.from_numpy(features.images), torch.from_numpy(features.targets))
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
        ).to(self.device)
        self.mix = None if config.mix == "none" else build_mix(config.mix, self.data.class_counts)
        self.objective.check(self.model.head, self.mix)
        if self.mix and self.cached:
            raise InputError(f"--mix {config.mix} mixes images, but this second stage sees features; add --bn train.")
        if config.test_flip and self.cached:
            raise InputError("--test-flip mirrors images, but this second stage sees features; add --bn train.")
        self.optimizer = _optimizer(config, self.model, self.objective)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp is torch.float16)
        views = contrast.views if contrast else 0
        self.train_batches = self._training_batches(train, config.sampler, config.seed, views)
        self.partner_batches = None
        if self.mix and self.mix.partner_sampler:
            seed = derive("partner", config.seed)
            self.partner_batches = self._training_batches(train, self.mix.partner_sampler, seed)
        self.train_split, self.test_batches = train, self._evaluation_batches(test)
        tiny = self.device.type == "cpu" and (self.cached or self.image_size <= TINY_IMAGE)
        self.threads = config.threads or (1 if tiny else torch.get_num_threads())
        self.epoch = 0
        self.seconds = 0.0

    def _first_stage(self) -> tuple[Classifier, list[str]]:
        config = self.config
        statistics = _statistics(self.data.train.images)
        return build_model(
            config.model,
            self.data.class_counts,
            self.image_size,
            self.data.channels,
            *statistics,
            config.patch_size,
            config.pretrained,
            [config.head],
        ), [config.head]

    def _second_stage(self) -> tuple[Classifier, list[str]]:
        """The network of the first run, frozen, with a new head."""
        model, state = load_run(self.config.stage2)
        self._check_classes(state, f"the run {self.config.stage2}")
        model.requires_grad_(False)
        classes, width = self.data.num_classes, model.head.weight.shape[1]
        model.head = build_head(self.config.head, width, classes, self.data.class_counts, model.head)
        return model, [*state["heads"], self.config.head]

    @torch.no_grad()
    def _features_of(self, split: datasets.Split) -> datasets.Split:
        """Every image's feature (N, D) float32, without augmentation and in eval mode, in place of the images."""
        self.model.eval()
        batches = test_loader(split, self.image_size, 4 * self.config.batch_size, _workers(self.config, split), False)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            features = [self.model.features(images.to(self.device)).float().cpu() for images, _ in batches]
        return datasets.Split(torch.cat(features).numpy(), split.targets)

    def run_epoch(self, report: Progress) -> dict[str, Any]:
        """Train for one epoch, evaluate, and return the line of metrics.jsonl."""
        start = time.perf_counter()
        self.epoch += 1
        loss, base, sigma, accuracy = self._train_epoch(report)
        seconds = time.perf_counter() - start
        scores = metrics.group_accuracies(self._confusion(self.test_batches), self.data.class_counts)
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

    def summary(self) -> tuple[dict[str, Any], Findings]:
        """The metrics of the model as it is, what made it, and what a report shows besides."""
        full = self.objective.car and FullConfusion(self.objective.car)
        train_confusion = self._confusion(self._evaluation_batches(self.train_split), *([full] if full else []))
        names = self.data.class_names
        statistics, mistakes = ScoreStatistics(self.data.num_classes), Mistakes()
        test_confusion = self._confusion(self.test_batches, statistics, mistakes)
        findings = Findings.collect(test_confusion, statistics.reliability(), mistakes, self.data.test.images)
        return {
            **metrics.summarize(test_confusion, self.data.class_counts, names, train_confusion=train_confusion),
            "scores": statistics.summary(names),
            "moving_average": full and full.gap(),
            "method": self.config.method,
            "model": self.config.model,
            "data": self.data.name,
            "seed": self.config.seed,
            "epochs": self.epoch,
            "image_size": self.image_size,
            "augment": self.augment,
            "amp": str(self.amp).removeprefix("torch.") if self.amp else "none",
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "seconds": self.seconds,
            "environment": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "timm": timm.__version__,
            },
            "hardware": {
                "device": str(self.device),
                "gpu": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
                "cpu": platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
            },
        }, findings

    def _train_epoch(self, report: Progress) -> list[float]:
        """One pass over the training set; the means of loss, base loss, sigma and accuracy over its images."""
        config, epoch = self.config, self.epoch
        self._train_mode()
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
            images, targets, *views = self._to_device(*batch)
            if self.mix:
                partner = partner and self._to_device(*partner)
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

    def _train_mode(self) -> None:
        if self.cached:
            self.model.head.train()
        else:
            self.model.train()

    def _to_device(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)

    def _step(self, inputs: Tensor, targets: Tensor | Mixed, rate: float, views: Tensor | None = None) -> Tensor:
        """One update; the batch's sums of loss, base loss, sigma and correct predictions, float32 (4,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
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

    @torch.no_grad()
    def _confusion(self, batches: DataLoader, *watching: ScoreStatistics | Mistakes | FullConfusion) -> np.ndarray:
        """Counts int64 (K, K), row = predicted, of the model in eval mode; who is watching gets the logits as well."""
        self.model.eval()
        predictions, targets = [], []
        for images, labels in batches:
            images = images.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                network = self.model.head if self.cached else self.model
                logits = network(images)
                if self.config.test_flip:
                    logits = (logits + network(images.flip(2))) / 2
            predictions.append(logits.argmax(dim=1))
            targets.append(labels)
            if watching:
                logits = logits.float().cpu()
            for watcher in watching:
                watcher.update(logits, labels)
        return metrics.confusion_counts(
            torch.cat(predictions).cpu().numpy(), torch.cat(targets).numpy(), self.data.num_classes
        )

    def _training_batches(self, split: datasets.Split, sampler: str, seed: int, views: int = 0) -> DataLoader:
        config = self.config
        drawn = build_sampler(sampler, split.targets, config.batch_size, seed)
        view_augment = config.view_augment
        if view_augment == "auto":
            view_augment = "crop" if config.data == "digits" else "simclr"
        workers, pin_memory = _workers(config, split), self.device.type == "cuda"
        return train_loader(split, self._side, self.augment, drawn, workers, pin_memory, views, view_augment)

    def _evaluation_batches(self, split: datasets.Split) -> DataLoader:
        batch_size = 4 * self.config.batch_size  # no gradients to keep
        pin_memory = self.device.type == "cuda"
        return test_loader(split, self._side, batch_size, _workers(self.config, split), pin_memory)

    @property
    def _side(self) -> int | None:
        """Side of the images to load; None for features, which have none."""
        return None if self.cached else self.image_size

    def _diverged(self, step: int) -> InputError:
        kept = f" (the checkpoint of epoch {self.epoch - 1} is kept)" if self.epoch > 1 else ""
        return InputError(
            f"the loss is not finite at epoch {self.epoch}, step {step + 1}; lower --lr ({self.config.lr:g}), "
            f"raise --warmup-epochs or add --clip-grad 1{kept}."
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device is {name!r}, but must be auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device is {name}, but {torch.cuda.device_count()} GPUs are visible; use auto.")
    return device


def _amp(name: str, device: torch.device) -> torch.dtype | None:
    if name == "auto":
        name = "none" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    if name != "none" and device.type == "cpu":
        raise InputError(f"--amp is {name}, but half precision is for CUDA devices only; use --amp none.")
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def rate_of_step(step: int, steps: int, config: Config) -> float:
    """The learning rate of step ``step`` of the whole run, which has ``steps`` an epoch."""
    drops = [epochs * steps for epochs in config.drop_epochs]
    warmup, end = config.warmup_epochs * steps, config.epochs * steps
    return learning_rate(step, end, warmup, config.lr, config.min_lr, drops, config.step_factor)


def load_data(config: Config) -> tuple[datasets.LongTailedData, int, str]:
    """The data, the side the network sees, and the augmentation."""
    size, augment = config.img_size, config.augment
    if augment == "auto" and config.data == "digits":
        augment = "none"
    if augment == "auto" and size:
        augment = "rrc" if size > LARGEST_CROP else "crop-flip"
    # Random resized crops need something to crop from; the original images give it where a size is asked for.
    crops = augment.startswith("rrc") or (augment.startswith("randaugment") and (size or 0) > LARGEST_CROP)
    stored = round(1.1 * size) if size and crops else size
    cache = None if config.cache_gb is None else int(config.cache_gb * 1e9)
    data = datasets.load(config.data, stored, config.imbalance_ratio, cache, options=config.data_options)
    if augment == "auto":
        augment = "rrc" if data.image_size > LARGEST_CROP else "crop-flip"
    if config.holdout:
        data = datasets.hold_out(data, config.holdout)
    return data, size or data.image_size, augment


def _statistics(images: datasets.Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (C,) of intensity / 255 over evenly spaced images."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).astype(int)
    sums = np.zeros((2, np.asarray(images[0]).shape[-1]))
    for index in chosen:
        pixels = images[int(index)] / 255
        sums += pixels.mean(axis=(0, 1)), np.square(pixels).mean(axis=(0, 1))
    mean, square = sums / len(chosen)
    std = np.sqrt(np.maximum(square - mean**2, (1 / 255) ** 2))  # a channel may be constant
    return mean.tolist(), std.tolist()


def _optimizer(config: Config, *modules: torch.nn.Module) -> torch.optim.Optimizer:
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    everything = itertools.chain(*(module.parameters() for module in modules))
    parameters = [parameter for parameter in everything if parameter.requires_grad]
    parameters = parameters or [torch.nn.Parameter(torch.empty(0))]  # a head that is not trained
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **options)
    return torch.optim.AdamW(parameters, **options)


def _workers(config: Config, split: datasets.Split) -> int:
    if config.workers is not None:
        return config.workers
    return 0 if isinstance(split.images, np.ndarray) else min(8, os.cpu_count() or 1)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """The same bits twice, as far as CUDA has deterministic kernels; the old settings come back after."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = before
