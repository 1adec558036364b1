#!/usr/bin/env python
"""Images a second in training: this engine beside three loops that people write or take, on the same data.

    python benchmarks/train.py                                   # two networks, crops and mirrored images
    python benchmarks/train.py --augment randaugment
    python benchmarks/train.py --data cifar100.zip --ours "" compile=true --write benchmarks/results

Each way is a process of its own, which waits while another one trains: its memory, its threads and the workers of its
loader are as it likes them, and nothing is loaded ahead out of turn. A turn is an epoch of each way; medians over the
turns are shown with their 20th and 80th percentile, and ratios are medians of the turns' ratios, for a machine is not
as fast all the time. The first epoch of each way is not counted.

- `car-ext`: a `Job` as `car-ext train` runs it, with all that a run does between its steps; with --ours also in other
  options, such as `amp=bf16`.
- `plain loop`: images as tensors in memory, torchvision's transforms on one image at a time in the workers of a
  `DataLoader`, the loss read in each step.
- `timm`: timm's loader (its collate function, its normalisation of a batch at a time), optimiser and meters.
- `pil loop`: the same as the long-tailed CIFAR scripts do it: every image becomes a PIL image, is cropped, mirrored and
  made a float tensor in a worker; top-1 and top-5 accuracy and the loss are read in each step.

All train the same network from the same code with SGD with momentum, cross-entropy and batches of one size.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import Spread
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from car_ext.config.config import Config
from car_ext.datasets.reading import stack
from car_ext.machine.device import find_device
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import keep_freed_memory
from car_ext.models.classifier import build_model
from car_ext.training.data import load_data
from car_ext.training.job import Job
from car_ext.training.loader import alive_workers
from car_ext.training.progress import Progress

Epoch = Callable[[], object]
# Network, pixels of the side, images of an epoch, images of a batch.
NETWORKS = {"cifar_resnet32": (32, 1280, 128), "resnet18": (64, 192, 64)}
CLASSES, LR, MOMENTUM = 10, 0.1, 0.9


def config(options: argparse.Namespace, network: str, ours: str) -> Config:
    """The job that this engine trains, and by whose data the others do."""
    side, _, batch = NETWORKS[network]
    values = {
        "data": options.data,
        "model": network,
        "img_size": side,
        "batch_size": options.batch or batch,
        "augment": "randaugment" if options.augment == "randaugment" else "crop-flip",
        "optimizer": "sgd",
        "lr": LR,
        "momentum": MOMENTUM,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "epochs": 10**6,
        "device": options.device,
        "threads": options.threads,
        "cache_dir": "none",
        "amp": "auto",
    }
    for word in filter(None, ours.split(",")):
        key, _, value = word.partition("=")
        values[key] = json.loads(value) if value in ("true", "false") else value
    return Config.from_dict({key: value for key, value in values.items() if value is not None})


@contextlib.contextmanager
def engine(options: argparse.Namespace, network: str, ours: str) -> Iterator[Epoch]:
    """This one, as `car_ext.training.train` sets it up."""
    wanted = config(options, network, ours)
    with deterministic(), keep_freed_memory(), alive_workers():
        job = Job(wanted)
        with threads(job.threads), Progress(wanted, len(job.batches.train), 0, shown=False) as report:
            yield lambda: job.train_epoch(report)


class Images(Dataset):
    """Images (N, H, W, C) in memory, each through `transform`."""

    def __init__(self, images: list[Any], targets: np.ndarray, transform: Callable) -> None:
        self.images, self.targets, self.transform = images, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), int(self.targets[index])


class Loop:
    """What the three other ways share: the data, the network, and a step."""

    def __init__(self, options: argparse.Namespace, network: str) -> None:
        wanted = config(options, network, "")
        data, _, _ = load_data(wanted)
        self.images = stack(data.train.images, range(len(data.train)))
        self.targets, self.classes = data.train.targets, data.num_classes
        self.side, self.batch, self.workers = NETWORKS[network][0], wanted.batch_size, options.workers
        self.device, self.mixed = find_device(options.device), options.augment
        torch.manual_seed(0)
        built = build_model(network, data.class_counts, self.side, 3, [0.5] * 3, [0.25] * 3)
        self.model = nn.Sequential(built.backbone, built.head).to(self.device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), LR, MOMENTUM)

    def augmentation(self, library: Any) -> list[Callable]:
        """Crop and mirror, and RandAugment where it is asked for, of torchvision's old or new transforms."""
        parts = [library.RandomCrop(self.side, padding=self.side // 8), library.RandomHorizontalFlip()]
        return [*parts, library.RandAugment(2, 10, num_magnitude_bins=11)] if self.mixed == "randaugment" else parts

    def loader(self, dataset: Dataset) -> DataLoader:
        pin = self.device.type == "cuda"
        return DataLoader(
            dataset, self.batch, shuffle=True, num_workers=self.workers, pin_memory=pin, persistent_workers=True
        )

    def step(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(images)
        loss = F.cross_entropy(logits, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, logits.detach()

    def moved(self, *tensors: Tensor) -> list[Tensor]:
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]


@contextlib.contextmanager
def plain(options: argparse.Namespace, network: str, _: str) -> Iterator[Epoch]:
    from torchvision.transforms import v2

    loop = Loop(options, network)
    tensors = list(torch.from_numpy(loop.images).permute(0, 3, 1, 2))
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
    loader = loop.loader(Images(tensors, loop.targets, v2.Compose([*loop.augmentation(v2), *last])))

    def epoch() -> float:
        running = 0.0
        for batch in loader:
            running += loop.step(*loop.moved(*batch))[0].item()
        return running

    yield epoch


@contextlib.contextmanager
def pil(options: argparse.Namespace, network: str, _: str) -> Iterator[Epoch]:
    from torchvision import transforms

    loop = Loop(options, network)
    parts = [Image.fromarray, *loop.augmentation(transforms), transforms.ToTensor()]
    transform = transforms.Compose([*parts, transforms.Normalize([0.5] * 3, [0.25] * 3)])
    loader = loop.loader(Images(list(loop.images), loop.targets, transform))

    def epoch() -> np.ndarray:
        sums = np.zeros(3)
        for images, labels in loader:
            inputs, targets = loop.moved(images, labels)
            loss, logits = loop.step(inputs, targets)
            hits = logits.topk(min(5, loop.classes)).indices == targets[:, None]
            sums += [loss.item(), hits[:, 0].float().mean().item(), hits.any(dim=1).float().mean().item()]
        return sums

    yield epoch


@contextlib.contextmanager
def timm(options: argparse.Namespace, network: str, _: str) -> Iterator[Epoch]:
    from timm.data import create_loader
    from timm.data.transforms import ToNumpy
    from timm.optim import create_optimizer_v2
    from timm.utils import AverageMeter
    from torchvision import transforms

    loop = Loop(options, network)
    loop.optimizer = create_optimizer_v2(loop.model, "momentum", lr=LR, momentum=MOMENTUM, weight_decay=0.0)
    dataset = Images(list(loop.images), loop.targets, Image.fromarray)
    loader = create_loader(
        dataset,
        (3, loop.side, loop.side),
        loop.batch,
        is_training=True,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        num_workers=loop.workers,
        pin_memory=loop.device.type == "cuda",
        device=loop.device,
    )
    # The loader has given the data its own, of random sizes: the same as the others' in its place.
    dataset.transform = transforms.Compose([Image.fromarray, *loop.augmentation(transforms), ToNumpy()])

    def epoch() -> float:
        meter = AverageMeter()
        for images, targets in loader:
            meter.update(loop.step(images, targets)[0].item(), len(images))
        return meter.avg

    yield epoch


OTHERS = {"plain loop": plain, "timm": timm, "pil loop": pil}


def process(way: str, options: argparse.Namespace, network: str, ours: str, pipe: Any) -> None:
    """An epoch for each word that comes: its seconds. The first, which is not told, prepares kernels and workers."""
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    with OTHERS.get(way, engine)(options, network, ours) as epoch:
        epoch()
        pipe.send(torch.get_num_threads())
        while pipe.recv():
            start = time.perf_counter()
            epoch()
            if options.device != "cpu" and torch.cuda.is_available():
                torch.cuda.synchronize()
            pipe.send(time.perf_counter() - start)


def measure(options: argparse.Namespace, network: str, images: int) -> dict[str, list[float]]:
    """Images a second of each way and turn."""
    context, running = multiprocessing.get_context("spawn"), {}
    ways = {"car-ext" + (f" {words}" if words else ""): words for words in options.ours} | dict.fromkeys(OTHERS, "")
    for way, ours in ways.items():
        pipe, end = context.Pipe()
        child = context.Process(target=process, args=(way, options, network, ours, end))
        child.start()
        end.close()
        pipe.recv()  # one after the other: what is built in turn disturbs nothing
        running[way] = pipe, child
    found: dict[str, list[float]] = {way: [] for way in running}
    for _ in range(options.turns):
        for way, (pipe, _) in running.items():
            pipe.send(True)
            found[way].append(images / pipe.recv())
    for pipe, child in running.values():
        pipe.send(False)
        child.join()
    return found


def row(network: str, way: str, found: dict[str, list[float]]) -> dict[str, Any]:
    """Of one way: images a second, and how many times those of the best of the others."""
    best = max(OTHERS, key=lambda other: statistics.median(found[other]))
    ratios = [own / other for own, other in zip(found[way], found[best], strict=True)]
    rates = Spread.of(found[way]).as_dict()
    return {"network": network, "way": way, **rates, "best of the others": best, "ratio": statistics.median(ratios)}


def table_row(found: dict[str, Any], side: int) -> str:
    spread = f"{found['low']:.1f} to {found['high']:.1f}"
    ratio = f"{found['ratio']:.2f} ({found['best of the others']})"
    cells = (f"{found['network']}, {side} pixels", found["way"], f"{found['median']:.1f}", spread, ratio)
    return f"| {' | '.join(cells)} |"


def synthetic(folder: Path, side: int, images: int) -> str:
    """A folder of noise, as many images of each class in training and one in the test."""
    random = np.random.default_rng(0)
    for index in range(images + CLASSES):
        place = folder / ("train" if index < images else "test") / str(index % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index}.png", compress_level=0)
    return str(folder)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder or .zip of images, as --data of a training; default: noise")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument("--augment", default="crop-flip", choices=("crop-flip", "randaugment"))
    parser.add_argument(
        "--ours", nargs="+", default=[""], metavar="KEY=VALUE,...", help="options of this engine, each a way more"
    )
    parser.add_argument("--images", type=int, help="of noise, in an epoch; default: by network")
    parser.add_argument("--batch", type=int, help="images; default: by network")
    parser.add_argument("--turns", type=int, default=7, help="epochs of each way (%(default)s)")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="of the others (%(default)s)")
    parser.add_argument("--threads", type=int, help="of each way; default: as each chooses")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write table and numbers here, by date")
    return parser.parse_args()


def main() -> None:
    options, rows = parsed(), []
    given, device = options.data, find_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    head = (
        f"{datetime.date.today()}, torch {torch.__version__}, {name}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}; {given or 'noise'}, {options.augment}; {options.turns} turns"
    )
    lines = [head, "", "| network | way | images/s | 20 % to 80 % | times the best of the others |"]
    lines += ["| --- | --- | ---: | ---: | ---: |"]
    print(*lines, sep="\n", flush=True)
    for network in options.networks:
        side, images, _ = NETWORKS[network]
        with tempfile.TemporaryDirectory() as folder:
            options.data = given or synthetic(Path(folder), side, options.images or images)
            wanted = config(options, network, "")
            size = len(load_data(wanted)[0].train)
            found = measure(options, network, size)
        for way in found:
            rows.append(row(network, way, found))
            lines.append(table_row(rows[-1], side))
            print(lines[-1], flush=True)
    if options.write:
        stem = options.write / f"train-{datetime.date.today()}"
        stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = {"head": head, "turns": options.turns, "augment": options.augment, "rows": rows}
        stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
