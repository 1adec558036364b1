"""CAR in the Hugging Face Trainer. On a CPU, every run ends in the same numbers."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments, set_seed

from car_ext import CAR, build_loss
from car_ext.datasets import Split, load
from car_ext.metrics import confusion_counts, group_accuracies


class CARTrainer(Trainer):
    def __init__(self, model, class_counts, **options):
        # Parts of the network, without parameters: they move with it, and its checkpoints hold CAR's moving average.
        model.balanced = build_loss("balanced_softmax", class_counts)
        model.car = CAR(class_counts, alpha=0.2, prior=1)  # prior=1 because the loss beside it has the class prior
        super().__init__(model, **options)
        self.model_accepts_loss_kwargs = False  # the loss is a batch's mean: gradient accumulation has to divide it

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        targets = inputs.pop("labels")  # given them, the network would compute a cross-entropy of its own
        outputs = model(**inputs)
        network = self.model  # as it is; model may be wrapped, for several GPUs say
        loss = network.balanced(outputs.logits, targets) + network.car(outputs.logits, targets)
        return (loss, outputs) if return_outputs else loss


def rows(split: Split) -> list[dict]:
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    return [{"pixel_values": image, "labels": target} for image, target in zip(images, split.targets, strict=True)]


def main(epochs: int = 15, out: str = "runs/huggingface_trainer") -> dict:
    set_seed(0)
    data = load("digits", image_size=32)  # 100 training images of "0" down to 2 of "9"
    shape = {"num_channels": 1, "embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetForImageClassification(ResNetConfig(**shape, num_labels=data.num_classes))
    arguments = TrainingArguments(
        out,
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        eval_strategy="epoch",
        logging_strategy="epoch",
        report_to="none",
    )

    def scores(evaluation) -> dict:
        confusion = confusion_counts(evaluation.predictions.argmax(axis=1), evaluation.label_ids, data.num_classes)
        accuracies = group_accuracies(confusion, data.class_counts)
        return {key: accuracies[key] for key in ("worst_class_accuracy", "overall_accuracy")}

    splits = {"train_dataset": rows(data.train), "eval_dataset": rows(data.test)}
    trainer = CARTrainer(model, data.class_counts, args=arguments, compute_metrics=scores, **splits)
    trainer.train()
    return trainer.evaluate()


if __name__ == "__main__":
    print("worst class {eval_worst_class_accuracy:.1%}, overall {eval_overall_accuracy:.1%}".format_map(main()))
