"""What one training on many GPUs sends, holds, reads and writes: arithmetic of stated assumptions, nothing measured.

    python benchmarks/plan.py                                  # the tables of docs/scaling.md
    python benchmarks/plan.py --gpus 64 --batch 128            # another cluster, another batch a GPU

Sizes of networks are counted by timm; of CAR, by what car_ext/methods/regularizers/ranks.py sends: from each rank the
columns of its classes, (C, K) float32, padded to the most that any rank has.
"""

import argparse
from dataclasses import dataclass

import timm
import torch
from workload import class_counts

FLOAT = 4  # bytes
IMAGES = 14_197_122  # of ImageNet-21K
FILE = 92e3  # bytes of a JPEG file on average, 1.3 TB in all: assumed
DECODED = 150  # of them a second and core: assumed
NETWORKS = {"resnet50": 2500.0, "vit_base_patch16_224": 1000.0}  # images a second, forward and backward: assumed
INTERRUPTIONS = 419 / 54 / 16384  # a GPU and day: The Llama 3 Herd of Models (arXiv 2407.21783), section 3.3.4
ITERATIONS = 6  # of Lanczos: 3 to 7 with a warm start, docs/kernel.md
COPIES = 4  # of K x K at once, in dense_step: the average before and after, the batch's, the gradient to it
WINDOW = 24  # batches that the average remembers at beta 0.5


@dataclass(frozen=True)
class Cluster:
    """Assumed throughout: full bisection, hierarchical rings, and a node's port as the neck; NVLink is not counted."""

    gpus: int
    in_node: int = 8
    port: float = 400e9 / 8  # bytes a second and node, each way
    efficiency: float = 0.8  # of a port, for long messages
    latency: float = 50e-6  # seconds of one small collective over all
    memory: float = 80e9
    memory_speed: float = 3.35e12  # bytes a second
    disk: float = 2e9  # bytes a second that one process writes

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.in_node)

    def sent(self, size: float) -> float:
        """Seconds in which `size` bytes go through a node's port."""
        return size / self.port / self.efficiency

    def all_reduce(self, size: float) -> float:
        """Seconds of an all-reduce of `size` bytes: a node sends and receives 2 (N - 1) / N of it."""
        return self.sent(2 * (self.nodes - 1) / self.nodes * size)

    def all_gather(self, size: float) -> float:
        """Seconds of an all-gather of `size` bytes from each GPU: a node receives those of all others."""
        return self.sent((self.nodes - 1) * self.in_node * size)


@dataclass(frozen=True)
class Job:
    """A network with so many classes, a batch on each GPU, and what follows."""

    name: str
    classes: int
    batch: int
    cluster: Cluster

    def parameters(self) -> int:
        with torch.device("meta"):
            network = timm.create_model(self.name, num_classes=self.classes)
        return sum(one.numel() for one in network.parameters())

    def compute(self) -> float:
        """Seconds of forward and backward of a batch."""
        return self.batch / NETWORKS[self.name]

    def distinct(self, images: int) -> float:
        """Classes that so many images hold on average; counts fall geometrically from 100 to 1."""
        share = class_counts(self.classes).double()
        return float((1 - (1 - share / share.sum()) ** images).sum())

    def columns(self) -> float:
        """Bytes of the columns that one rank sends."""
        return self.distinct(self.batch) * self.classes * FLOAT


def table(head: str, rows: list[list[str]]) -> None:
    names = head.split(" | ")
    print(f"\n| {head} |\n| --- |{' ---: |' * (len(names) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def size(value: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value / 1e3:.3g} kB"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def sent_a_step(jobs: list[Job]) -> None:
    rows = []
    for job in jobs:
        gradient, columns, cluster = job.parameters() * FLOAT, job.columns(), job.cluster
        reduce, compute, gather = cluster.all_reduce(gradient), job.compute(), cluster.all_gather(columns)
        hidden = max(reduce - compute * 2 / 3, 0)  # what the backward pass, two thirds of a step, does not hide
        rows.append(
            [
                f"{job.name}, {job.classes:,}",
                f"{job.parameters() / 1e6:.1f} M",
                ms(compute),
                size(2 * (cluster.gpus - 1) / cluster.gpus * gradient),
                ms(reduce),
                ms(hidden),
                size(columns),
                size(columns * cluster.gpus),
                ms(gather),
            ]
        )
    table(
        "network, classes | parameters | compute, ms | all-reduce, a GPU | ms | of it not hidden, ms "
        "| CAR: a GPU sends | and receives | ms",
        rows,
    )


def when_it_is_the_neck(jobs: list[Job]) -> None:
    rows = []
    for job in jobs:
        row = [f"{job.name}, {job.classes:,}"]
        for gpus in (8, 16, 64, 256, 1000):
            cluster = Cluster(gpus)
            row.append(f"{cluster.all_gather(job.columns()) / job.compute():.0%}")
        rows.append(row)
    table("all-gather in parts of compute; GPUs | 8 | 16 | 64 | 256 | 1,000", rows)


def held(jobs: list[Job]) -> None:
    rows = []
    for job in {job.classes: job for job in jobs}.values():
        cluster = job.cluster
        whole = job.classes**2 * FLOAT
        rows.append(
            [
                f"{job.classes:,}",
                size(whole),
                f"{job.distinct(WINDOW * job.batch * cluster.gpus):,.0f}",
                size(2 * cluster.gpus * job.columns()),
                "no" if COPIES * whole + 2 * cluster.gpus * job.columns() > cluster.memory else "yes",
                ms(ITERATIONS * whole / cluster.memory_speed),
                size(whole / cluster.gpus),
                ms(cluster.sent(cluster.in_node * job.columns())),
                ms(2 * ITERATIONS * cluster.latency),
            ]
        )
    table(
        f"classes | K x K | columns of {WINDOW} batches | gathered, twice | fits | {ITERATIONS} passes, ms "
        f"| sharded: a GPU holds | exchange, ms | {ITERATIONS} iterations, ms",
        rows,
    )


def read_and_written(jobs: list[Job]) -> None:
    rows = []
    for job in jobs:
        cluster, count = job.cluster, job.parameters()
        epoch = IMAGES / job.batch / cluster.gpus * job.compute()
        state = count * FLOAT * (3 if job.name.startswith("vit") else 2)  # AdamW keeps two moments, momentum one
        whole = state + job.classes**2 * FLOAT
        days = 1 / (cluster.gpus * INTERRUPTIONS)
        write = whole / cluster.disk
        rows.append(
            [
                f"{job.name}, {job.classes:,}",
                f"{NETWORKS[job.name] * cluster.gpus * FILE / 1e9:.3g} GB/s",
                f"{NETWORKS[job.name] * cluster.in_node:,.0f}",
                f"{NETWORKS[job.name] * cluster.in_node / DECODED:.0f}",
                f"{epoch:.0f} s",
                size(state),
                size(whole),
                f"{write:.1f} s",
                f"{(2 * write * days * 86400) ** 0.5 / 60:.0f} min",
            ]
        )
    table(
        "network, classes | read by all | images a second and node | cores to decode | an epoch "
        "| network and optimiser | with K x K | written in | every",
        rows,
    )
    print(f"\nOne interruption in {days:.1f} days.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64, help="images a GPU")
    parser.add_argument("--classes", type=int, nargs="+", default=[21_841, 100_000])
    arguments = parser.parse_args()
    cluster = Cluster(arguments.gpus)
    jobs = [Job(name, classes, arguments.batch, cluster) for classes in arguments.classes for name in NETWORKS]
    print(f"{cluster.gpus:,} GPUs in {cluster.nodes} nodes, {arguments.batch} images each")
    sent_a_step(jobs)
    when_it_is_the_neck(jobs)
    held(jobs)
    read_and_written(jobs)


if __name__ == "__main__":
    main()
