"""CAR in a loop as timm's train.py has it. On a CPU, every run ends in the same numbers."""

import torch
from PIL import Image
from timm import create_model, optim, scheduler, utils
from timm.data import create_loader

from car_ext import CAR, build_loss
from car_ext.datasets import Split, load
from car_ext.metrics import confusion_counts, summarize


class Pictures(list):
    transform = None  # create_loader sets it

    def __init__(self, split: Split):
        super().__init__(zip(map(Image.fromarray, split.images[..., 0]), split.targets, strict=True))

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return self.transform(image), target


def main(epochs: int = 15, out: str = "runs/timm_style") -> dict:
    utils.random_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load("digits", image_size=32)  # 100 training images of "0" down to 2 of "9"
    both = {"mean": (0.5,), "std": (0.5,), "use_prefetcher": False, "num_workers": 0, "persistent_workers": False}
    train = create_loader(Pictures(data.train), (1, 32, 32), 64, is_training=True, hflip=0, scale=(0.7, 1), **both)
    test = create_loader(Pictures(data.test), (1, 32, 32), 64, crop_pct=1, **both)
    model = create_model("resnet10t", in_chans=1, num_classes=data.num_classes).to(device)
    balanced = build_loss("balanced_softmax", data.class_counts).to(device)
    # Nothing in CAR is trained: the optimizer need not know it. prior=1 because the loss beside it has the class prior.
    car = CAR(data.class_counts, alpha=0.2, prior=1).to(device)
    optimizer = optim.create_optimizer_v2(model, opt="adamw", lr=3e-3, weight_decay=0.05)
    schedule, _ = scheduler.create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs)

    for epoch in range(epochs):
        model.train()
        for images, targets in train:
            logits, targets = model(images.to(device)), targets.to(device)
            loss = balanced(logits, targets) + car(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step(epoch + 1)
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    # timm reads "state_dict" and "optimizer"; CAR's moving average lies beside them: car.load_state_dict(saved["car"]).
    state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "car": car.state_dict()}
    torch.save(state, f"{utils.get_outdir(out)}/last.pth.tar")

    model.eval()
    with torch.no_grad():
        predictions = torch.cat([model(images.to(device)).argmax(dim=1).cpu() for images, _ in test])
    confusion = confusion_counts(predictions, data.test.targets, data.num_classes)
    return summarize(confusion, data.class_counts, data.class_names)


if __name__ == "__main__":
    print("worst class {worst_class_accuracy:.1%}, overall {overall_accuracy:.1%}".format_map(main()))
