"""CAR in a plain PyTorch loop. On a CPU, every run ends in the same numbers."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from car_ext import CAR, build_loss
from car_ext.datasets import Split, load
from car_ext.metrics import confusion_counts, summarize


def batches(split: Split, shuffle: bool) -> DataLoader:
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    return DataLoader(TensorDataset(images, torch.from_numpy(split.targets)), batch_size=64, shuffle=shuffle)


def main(epochs: int = 20, out: str = "runs/plain_pytorch.pt") -> dict:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load("digits")  # 100 training images of "0" down to 2 of "9"
    train, test = batches(data.train, shuffle=True), batches(data.test, shuffle=False)

    convolutions = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU()
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1024, data.num_classes)).to(device)
    balanced = build_loss("balanced_softmax", data.class_counts).to(device)
    # Nothing in CAR is trained: the optimizer need not know it. prior=1 because the loss beside it has the class prior.
    car = CAR(data.class_counts, alpha=0.2, prior=1).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    for epoch in range(epochs):
        model.train()
        for images, targets in train:
            images, targets = images.to(device), targets.to(device)
            logits = model(images)
            loss = balanced(logits, targets) + car(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    # CAR's moving average is state of the training, like the optimizer's: save and load them together.
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "car": car.state_dict()}, out)

    model.eval()
    with torch.no_grad():
        predictions = torch.cat([model(images.to(device)).argmax(dim=1).cpu() for images, _ in test])
    confusion = confusion_counts(predictions, data.test.targets, data.num_classes)
    return summarize(confusion, data.class_counts, data.class_names)


if __name__ == "__main__":
    print("worst class {worst_class_accuracy:.1%}, overall {overall_accuracy:.1%}".format_map(main()))
