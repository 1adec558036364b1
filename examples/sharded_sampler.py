"""Class-balanced sampling over several processes, in a plain DistributedDataParallel loop.

    torchrun --nproc-per-node 2 examples/sharded_sampler.py

Every process takes its part of the same batches, so two processes with 32 images each see what one sees with 64.
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from car_ext.datasets import load
from car_ext.methods.samplers import build_sampler
from car_ext.metrics import confusion_counts, summarize

IMAGES_A_STEP = 64


def main(epochs: int = 20) -> dict:
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(0)
    data = load("digits")
    images = torch.from_numpy(data.train.images).permute(0, 3, 1, 2) / 255
    targets = torch.from_numpy(data.train.targets)

    # A word of docs/methods.md: class_balanced, square_root, progressive, class_aware:num_samples_cls=2 ...
    sampler = build_sampler(
        "class_balanced", data.train.targets, IMAGES_A_STEP // world_size, seed=0, rank=rank, world_size=world_size
    )
    loader = DataLoader(TensorDataset(images, targets), batch_sampler=sampler)

    model: nn.Module = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, data.num_classes)
    ).to(device)
    network = DistributedDataParallel(model) if world_size > 1 else model
    # The sampler balances the classes: a loss with the class prior beside it would do so twice.
    cross_entropy = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    for epoch in range(1, epochs + 1):
        sampler.set_epoch(epoch, epochs)  # a new order, the same on every process
        for inputs, labels in loader:
            loss = cross_entropy(network(inputs.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch}: loss {loss.item():.3f}")

    model.eval()
    with torch.no_grad():  # 700 images: every process scores all of them
        test = torch.from_numpy(data.test.images).permute(0, 3, 1, 2).to(device) / 255
        predictions = model(test).argmax(dim=1).cpu()
    if world_size > 1:
        dist.barrier()
        dist.destroy_process_group()
    confusion = confusion_counts(predictions, data.test.targets, data.num_classes)
    return summarize(confusion, data.class_counts, data.class_names)


if __name__ == "__main__":
    scores = main()
    if int(os.environ.get("RANK", 0)) == 0:
        print("worst class {worst_class_accuracy:.1%}, overall {overall_accuracy:.1%}".format_map(scores))
