"""A classifier that says what it is: what every runtime shares."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.errors import InputError
from car_ext.text import nfc

FACTS = ("class_names", "class_counts", "image_size", "stored_size", "channels", "train_worst_class_accuracy")
OPTIONAL_FACTS = ("conformal", "spent", "temperature")
FACTS_FILE = "car_ext.json"  # inside .pt and .pt2 archives


class Described:
    """A classifier `model(images)`: uint8 (N, H, W, C) to float32 logits (N, K), with numpy in and out.

    Attributes:
        class_names, class_counts: K names and K training counts.
        image_size, stored_size, channels: how images are prepared: shorter side to `stored_size`, then the centre
            `image_size` square.
        train_worst_class_accuracy: fraction, or None if the run was not finished.
        spent: what it notes of the images that it may not be scored on, see `datasets.spent.described`; None in files
            of older versions.
        provider: what computes.
        format: what kind of model it is: float32, float16 or int8 (ONNX), TorchScript, torch.export, PyTorch.
        temperature: what its logits are divided by: {"all": T}, or one of each group of classes; or None.
        conformal: {"alpha", "thresholds": [K]} of its sets of classes (`metrics.conformal`), or None.
    """

    def __init__(self, facts: Mapping[str, Any], provider: str, format: str) -> None:
        self.class_names: list[str] = [nfc(name) for name in facts["class_names"]]  # older files have them as found
        self.class_counts: list[int] = facts["class_counts"]
        self.image_size: int = facts["image_size"]
        self.stored_size: int = facts["stored_size"]
        self.channels: int = facts["channels"]
        self.train_worst_class_accuracy: float | None = facts["train_worst_class_accuracy"]
        self.temperature: Mapping[str, float] | None = facts.get("temperature")
        self.conformal: Mapping[str, Any] | None = facts.get("conformal")
        self.spent: dict[str, Any] | None = facts.get("spent")
        self.provider = provider
        self.format = format

    def labels(self, class_names: Sequence[str], where: str) -> np.ndarray:
        """The model's label of each of some classes, (K',) int64, by their names in composed form.

        Raises:
            InputError: a class that the model was not trained on; the message begins with `where`.
        """
        known, wanted = {name: label for label, name in enumerate(self.class_names)}, [*map(nfc, class_names)]
        if unknown := [name for name in wanted if name not in known]:
            raise InputError(
                f"{where} has the class {unknown[0]!r}, which the model was not trained on (it knows {len(known)} "
                f"classes, from {self.class_names[0]!r} to {self.class_names[-1]!r})."
            )
        return np.array([known[name] for name in wanted], np.int64)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image_size, self.image_size, self.channels

    def __call__(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def check_file(path: str | Path) -> None:
    """Refuses a path without a file.

    Raises:
        InputError: there is none.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no model file {str(path)!r}; export one with car-ext export RUN.")


@contextlib.contextmanager
def complete_facts(path: str | Path) -> Iterator[None]:
    """For reading the metadata of a file.

    Raises:
        InputError: they are incomplete or no JSON.
    """
    try:
        yield
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"{str(path)!r} lacks the metadata that car-ext export writes (problem: {error}); export it again."
        ) from error
