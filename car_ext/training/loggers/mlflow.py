"""MLflow, set up by its own environment: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.training.callbacks import Callback, flat, numbers
from car_ext.training.logger import PROJECT, Logger, needed, remembered


class MLflow(Callback):
    """The lines of metrics.jsonl by epoch, the options as parameters, the scores as metrics `final.NAME`.

    It speaks through a client of its own, so that a run which the caller has begun stays the caller's.
    """

    def __init__(self) -> None:
        self._mlflow, self._run, self._ended = needed("mlflow"), "", False

    def on_start(self, config: Config, run_dir: Path) -> None:
        self._client = self._mlflow.MlflowClient()
        self._run, begun = remembered(run_dir, "mlflow", lambda: self._begin(run_dir.name))
        if begun:
            self._client.update_run(self._run, status="RUNNING")
            return
        parameters = flat(config.to_dict()).items()
        self._client.log_batch(self._run, params=[self._entity("Param", key, str(of)) for key, of in parameters])

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        self._log(numbers(row), row["epoch"])

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._log({f"final.{key}": value for key, value in numbers(summary).items()}, summary["epochs"])
        self._ended = True

    def close(self) -> None:
        if self._run:
            self._client.set_terminated(self._run, "FINISHED" if self._ended else "FAILED")

    def _begin(self, name: str) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        return self._client.create_run(number, run_name=name).info.run_id

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._entity("Metric", key, float(value), now, step) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _entity(self, kind: str, *values: Any) -> Any:
        return getattr(self._mlflow.entities, kind)(*values)


LOGGER = Logger("mlflow", MLflow)
