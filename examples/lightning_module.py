"""CAR in a LightningModule. On a CPU, every run ends in the same numbers."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from car_ext import CAR, build_loss
from car_ext.datasets import Split, load
from car_ext.metrics import confusion_counts, group_accuracies


class Classifier(lightning.LightningModule):
    def __init__(self, class_counts: list[int]):
        super().__init__()
        self.save_hyperparameters()
        convolutions = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU()
        self.network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1024, len(class_counts)))
        self.balanced = build_loss("balanced_softmax", class_counts)
        # A submodule: Lightning moves it, saves its average, stops it in validation. prior=1 as in the loss beside it.
        self.car = CAR(class_counts, alpha=0.2, prior=1)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        logits = self.network(images).float()  # bfloat16 where the Trainer has precision="bf16-mixed"
        loss = self.balanced(logits, targets) + self.car(logits, targets)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self):
        self.confusion = 0  # of this process; with several, sum it over them

    def validation_step(self, batch, batch_idx):
        predictions, targets = self.network(batch[0]).argmax(dim=1), batch[1]
        self.confusion += confusion_counts(predictions.cpu(), targets.cpu(), len(self.hparams.class_counts))

    def on_validation_epoch_end(self):
        scores = group_accuracies(self.confusion, self.hparams.class_counts)
        self.log_dict({key: scores[key] for key in ("worst_class_accuracy", "overall_accuracy")}, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def batches(split: Split, shuffle: bool) -> DataLoader:
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    return DataLoader(TensorDataset(images, torch.from_numpy(split.targets)), batch_size=64, shuffle=shuffle)


def main(epochs: int = 20, out: str = "runs/lightning_module") -> dict:
    lightning.seed_everything(0)
    data = load("digits")  # 100 training images of "0" down to 2 of "9"
    trainer = lightning.Trainer(default_root_dir=out, max_epochs=epochs, devices=1, deterministic=True, logger=False)
    trainer.fit(Classifier(data.class_counts.tolist()), batches(data.train, True), batches(data.test, False))
    return {key: value.item() for key, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    print("worst class {worst_class_accuracy:.1%}, overall {overall_accuracy:.1%}".format_map(main()))
