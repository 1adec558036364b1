"""Train a classifier, resume it to the bit, and load it again."""

import contextlib
import dataclasses
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from car_ext import checkpoint, datasets, metrics
from car_ext.augment.images import LARGEST_CROP
from car_ext.config import Config
from car_ext.errors import InputError
from car_ext.loader import test_loader, train_loader
from car_ext.models import Classifier, build_model
from car_ext.progress import Progress
from car_ext.regularizer import CAR
from car_ext.run_folder import RunFolder
from car_ext.schedule import learning_rate
from car_ext.seeds import derive

STATISTICS_IMAGES = 2000
TINY_IMAGE = 16  # pixels; handing such work to a second thread costs more than it saves
SECONDS_BETWEEN_LOOKS = 0.5  # reading a loss makes the CPU wait for the GPU


def train(config: Config, *, progress: bool = True) -> dict[str, Any]:
    """Run the job and return its summary: the metrics of the last epoch and how they came about.

    Writes ``config.run_dir``: config.yaml, metrics.jsonl (a line an epoch), tensorboard/, the last checkpoint
    and, at the end, summary.json. With ``config.resume`` it goes on from the last checkpoint, on a CPU to the
    very bits of a run without a break; a finished run only returns its summary. Raises
    :class:`InputError` for anything wrong with the input, before the folder is created, and for a loss that
    is not finite.
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
            summary = job.summary()
    folder.write_summary(summary)
    return summary


def load_run(run_dir: str | Path, device: str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a run's last checkpoint, in eval mode, and what was saved with it.

    The second value holds ``config``, ``class_names``, ``class_counts``, ``image_size``, ``channels``,
    ``mean`` and ``std``. Raises :class:`InputError` if there is no checkpoint or it is damaged.
    """
    found = checkpoint.load_latest(Path(run_dir))
    if found is None:
        raise InputError(f"{run_dir} holds no checkpoint; give the --out folder of a training run.")
    _, tensors, state = found
    config = Config.from_dict(state["config"], f"the checkpoint in {run_dir}")
    model = build_model(
        config.model,
        len(state["class_names"]),
        state["image_size"],
        state["channels"],
        state["mean"],
        state["std"],
        config.patch_size,
    )
    model.load_state_dict(checkpoint.unpack("model", tensors))
    return model.to(_device(device)).eval(), state


class _Job:
    """Everything a run consists of; building it checks the whole configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = _device(config.device)
        self.amp = _amp(config.amp, self.device)
        self.data, self.image_size, self.augment = _load_data(config)
        torch.manual_seed(config.seed)
        self.model = build_model(
            config.model,
            self.data.num_classes,
            self.image_size,
            self.data.channels,
            *_statistics(self.data.train.images),
            config.patch_size,
            config.pretrained,
        ).to(self.device)
        on_cuda = self.device.type == "cuda"
        if on_cuda if config.channels_last is None else config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.regularizer = None
        if config.regularizer == "car":
            options = dataclasses.asdict(config.car)
            self.regularizer = CAR(self.data.class_counts, **options).to(self.device)
        self.optimizer = _optimizer(config, self.model)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.amp is torch.float16)
        self.train_batches = train_loader(
            self.data.train,
            self.image_size,
            self.augment,
            config.batch_size,
            config.seed,
            _workers(config, self.data.train),
            pin_memory=on_cuda,
        )
        self.test_batches = self._evaluation_batches(self.data.test)
        tiny = self.device.type == "cpu" and self.image_size <= TINY_IMAGE
        self.threads = config.threads or (1 if tiny else torch.get_num_threads())
        self.epoch = 0
        self.seconds = 0.0

    def run_epoch(self, report: Progress) -> dict[str, Any]:
        """Train for one epoch, evaluate, and return the line of metrics.jsonl."""
        start = time.perf_counter()
        self.epoch += 1
        loss, ce, sigma, accuracy = self._train_epoch(report)
        seconds = time.perf_counter() - start
        scores = self._score(self._confusion(self.test_batches))
        self.seconds += time.perf_counter() - start
        return {
            "epoch": self.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": loss,
            "ce": ce,
            "sigma": sigma if self.regularizer else None,
            "train_accuracy": accuracy,
            "images_per_second": len(self.data.train) / seconds,
            **{
                f"test_{short}": scores[key]
                for short, key in (
                    ("overall", "overall_accuracy"),
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
        if self.regularizer:
            tensors |= checkpoint.pack("regularizer", self.regularizer.state_dict())
        return tensors, {
            "config": self.config.to_dict(),
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
        names, counts = list(self.data.class_names), self.data.class_counts.tolist()
        if (names, counts) != (state["class_names"], state["class_counts"]):
            raise InputError(f"the classes of {self.config.data} have changed since the run began; use a new --out.")
        self.model.load_state_dict(checkpoint.unpack("model", tensors))
        if self.regularizer:
            self.regularizer.load_state_dict(checkpoint.unpack("regularizer", tensors))
        checkpoint.unpack_optimizer(self.optimizer, tensors, state["optimizer_groups"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.seconds = epoch, state["seconds"]

    def summary(self) -> dict[str, Any]:
        """The metrics of the model as it is, and what made it."""
        train_confusion = self._confusion(self._evaluation_batches(self.data.train))
        return {
            **self._score(self._confusion(self.test_batches), metrics.worst_accuracy(train_confusion)),
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
        }

    def _train_epoch(self, report: Progress) -> list[float]:
        """One pass over the training set; the means of loss, ce, sigma and accuracy over its images."""
        config = self.config
        self.model.train()
        self.train_batches.batch_sampler.set_epoch(self.epoch)
        batches, steps = iter(self.train_batches), len(self.train_batches)
        # Dropout starts from (seed, epoch), so that resuming needs no generator state. It does so after the
        # loader has begun, which draws a seed of its own.
        torch.manual_seed(derive("dropout", config.seed, self.epoch))
        seen, rows, looked = np.empty((0, 4), np.float32), [], time.perf_counter()
        for step, (images, targets) in enumerate(batches):
            rate = learning_rate(
                (self.epoch - 1) * steps + step,
                config.epochs * steps,
                config.warmup_epochs * steps,
                config.lr,
                config.min_lr,
            )
            rows.append(self._step(images, targets, rate))
            if time.perf_counter() - looked > SECONDS_BETWEEN_LOOKS or step == steps - 1:
                seen = np.concatenate([seen, torch.stack(rows).cpu().numpy()])
                finite = np.isfinite(seen).all(axis=1)
                if not finite.all():
                    raise self._diverged(int(finite.argmin()))
                report.steps(len(rows), *(seen[-len(rows) :, [0, 2]].mean(axis=0) / config.batch_size))
                rows, looked = [], time.perf_counter()
        return (seen.sum(axis=0, dtype=np.float64) / len(self.data.train)).tolist()

    def _step(self, images: Tensor, targets: Tensor, rate: float) -> Tensor:
        """One update; the batch's sums of loss, ce, sigma and correct predictions, float32 (4,)."""
        images = images.to(self.device, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            logits = self.model(images)
        logits = logits.float()
        ce = F.cross_entropy(logits, targets)
        penalty = self._penalty(logits, targets, ce)
        loss = ce + penalty
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.config.clip_grad:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        correct = (logits.argmax(dim=1) == targets).float().mean()
        sigma = penalty / (self.config.car.alpha or 1.0)
        return torch.stack([loss, ce, sigma, correct]).detach() * len(targets)

    def _penalty(self, logits: Tensor, targets: Tensor, ce: Tensor) -> Tensor:
        if self.regularizer is None:
            return torch.zeros_like(ce)
        if self.device.type == "cpu" and not logits.isfinite().all():
            # On the CPU the operator refuses such logits; NaN ends the run with the better message.
            return torch.full_like(ce, torch.nan)
        return self.regularizer(logits, targets)

    @torch.no_grad()
    def _confusion(self, batches: DataLoader) -> np.ndarray:
        """Counts int64 (K, K), row = predicted, of the model in eval mode."""
        self.model.eval()
        predictions, targets = [], []
        for images, labels in batches:
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                logits = self.model(images.to(self.device, non_blocking=True))
            predictions.append(logits.argmax(dim=1))
            targets.append(labels)
        return metrics.confusion_counts(
            torch.cat(predictions).cpu().numpy(), torch.cat(targets).numpy(), self.data.num_classes
        )

    def _score(self, confusion: np.ndarray, train_worst: float | None = None) -> dict[str, Any]:
        return metrics.summarize(confusion, self.data.class_counts, self.data.class_names, train_worst)

    def _evaluation_batches(self, split: datasets.Split) -> DataLoader:
        batch_size = 4 * self.config.batch_size  # no gradients to keep
        pin_memory = self.device.type == "cuda"
        return test_loader(split, self.image_size, batch_size, _workers(self.config, split), pin_memory)

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


def _load_data(config: Config) -> tuple[datasets.LongTailedData, int, str]:
    """The data, the side the network sees, and the augmentation."""
    size, augment = config.img_size, config.augment
    if augment == "auto" and config.data == "digits":
        augment = "none"
    if augment == "auto" and size:
        augment = "rrc" if size > LARGEST_CROP else "crop-flip"
    # Random resized crops need something to crop from; the original images give it where a size is asked for.
    stored = round(1.1 * size) if size and augment == "rrc" else size
    cache = None if config.cache_gb is None else int(config.cache_gb * 1e9)
    data = datasets.load(config.data, stored, config.imbalance_ratio, cache)
    if augment == "auto":
        augment = "rrc" if data.image_size > LARGEST_CROP else "crop-flip"
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


def _optimizer(config: Config, model: Classifier) -> torch.optim.Optimizer:
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=config.momentum, **options)
    return torch.optim.AdamW(model.parameters(), **options)


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
