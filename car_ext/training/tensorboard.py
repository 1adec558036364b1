"""TensorBoard's events, which every run writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.run.folder import RunFolder
from car_ext.training.callbacks import Callback


class TensorBoard(Callback):
    """The lines of metrics.jsonl as scalars, by epoch."""

    def on_start(self, config: Config, run_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = RunFolder(run_dir)
        # What an interrupted run wrote behind its last line is not shown.
        self._writer = SummaryWriter(folder.tensorboard, purge_step=len(folder.read_metrics()) + 1)

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        for key, value in row.items():
            if value is not None:
                self._writer.add_scalar(key, value, row["epoch"])

    def close(self) -> None:
        self._writer.close()
