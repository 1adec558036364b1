"""Twenty steps of a small network with CAR, by as many processes as a launcher starts: the parameters as JSON."""

import contextlib
import json
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from car_ext import CAR

CLASSES, BATCH, STEPS = 6, 16, 20
CASES = {
    "decay": {},
    "hold": {"absent": "hold"},
    "reference-code": {"variant": "reference-code"},
    "window": {"estimator": "window"},
    "window, hold": {"estimator": "window", "absent": "hold", "prior": 1.0},
    "accumulated": {},
}


def trained(case: str, rank: int, ranks: int) -> list[float]:
    torch.manual_seed(0)
    model = nn.Linear(8, CLASSES).double()
    group = dist.group.WORLD if ranks > 1 else None
    car = CAR([50, 30, 9, 5, 3, 2], tolerance=1e-9, process_group=group, **CASES[case]).double()
    network = DistributedDataParallel(model) if ranks > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        images = torch.randn(BATCH, 8, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        seen, weights = targets.clone(), torch.rand(BATCH, generator=generator, dtype=torch.float64)
        if step % 4 == 1:
            seen[: BATCH // 4] = -100  # with four ranks, the first has nothing for CAR
        own = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
        last = case != "accumulated" or step % 2 == 1
        with contextlib.nullcontext() if last or ranks == 1 else network.no_sync():
            logits = network(images[own])
            loss = F.cross_entropy(logits, targets[own]) + car(logits, seen[own], weights[own] if step % 2 else None)
            loss.backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        assert car(model(images[own]), targets[own]).isfinite()  # every rank calls it, also where nothing is kept
    return [*model.weight.detach().flatten().tolist(), *car.average().flatten().tolist()]


def main() -> None:
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if ranks > 1:
        dist.init_process_group("gloo")
    found = {case: trained(case, rank, ranks) for case in CASES}
    if rank == 0:
        print(json.dumps(found))
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
