"""The classifier of a run: of the epoch that is kept, else out of its last checkpoint."""

from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import find_device
from car_ext.models import tuning
from car_ext.models.classifier import Classifier, build_model
from car_ext.run import checkpoint


def load_run(run_dir: str | Path, device: str = "cpu") -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a run, in eval mode, and what was saved with it.

    It is that of the kept epoch, where the run keeps one, else that of the last checkpoint; with averaged weights where
    the run averages them. What LoRA has learnt is part of its weights.

    The second value holds `config`, `network`, `heads`, `class_names`, `class_counts`, `image_size`, `channels`, `mean`
    and `std`.

    Raises:
        InputError: there is no checkpoint, or it is damaged.
    """
    found = checkpoint.load_latest(Path(run_dir), checkpoint.KEPT) or checkpoint.load_latest(Path(run_dir))
    if found is None:
        raise InputError(f"{run_dir} holds no checkpoint; give the --out folder of a training run.")
    _, tensors, state = found
    config = Config.from_dict(state["config"], f"the checkpoint in {run_dir}")
    model = build_model(
        class_counts=state["class_counts"],
        image_size=state["image_size"],
        channels=state["channels"],
        mean=state["mean"],
        std=state["std"],
        heads=state["heads"],
        **state.setdefault("network", {"name": config.model, "patch_size": config.patch_size}),  # older ones have none
    )
    model.load_state_dict(checkpoint.unpack("average", tensors) or checkpoint.unpack("model", tensors))
    if state["network"].get("tune") == "lora":
        tuning.merge(model.backbone)
        model.built.pop("tune")
    return model.to(find_device(device)).eval(), state
