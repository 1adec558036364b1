"""trackio, set up by its own environment: TRACKIO_DIR, TRACKIO_SPACE_ID and others. It keeps one run a process."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.training.callbacks import Callback, flat, numbers
from car_ext.training.logger import PROJECT, Logger, needed


class Trackio(Callback):
    """The lines of metrics.jsonl by epoch, the options as configuration, the scores as `final.NAME`."""

    def __init__(self) -> None:
        self._trackio, self._begun = needed("trackio"), False

    def on_start(self, config: Config, run_dir: Path) -> None:
        self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=run_dir.name,
            config=flat(config.to_dict()),
            resume="allow",
        )
        self._begun = True

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        self._trackio.log(numbers(row), step=row["epoch"])

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._trackio.log({f"final.{key}": value for key, value in numbers(summary).items()}, step=summary["epochs"])

    def close(self) -> None:
        if self._begun:
            self._trackio.finish()


LOGGER = Logger("trackio", Trackio)
