"""Weights & Biases, set up by its own environment: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline and others."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.training.callbacks import Callback, numbers
from car_ext.training.logger import PROJECT, Logger, needed, remembered


class WandB(Callback):
    """The lines of metrics.jsonl by epoch, the options as configuration, the scores as summary."""

    def __init__(self) -> None:
        self._wandb, self._ended = needed("wandb"), False
        self._run: Any = None

    def on_start(self, config: Config, run_dir: Path) -> None:
        name, _ = remembered(run_dir, "wandb", lambda: uuid.uuid4().hex)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run_dir.name,
            id=name,
            resume="allow",
            dir=str(run_dir),
            config=config.to_dict(),
        )

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        self._run.log(numbers(row), step=row["epoch"])

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(numbers(summary))
        self._ended = True

    def close(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if self._ended else 1)


LOGGER = Logger("wandb", WandB)
