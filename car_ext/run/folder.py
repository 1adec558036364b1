"""The folder of one training run and its small files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from car_ext.errors import InputError
from car_ext.files import write_json, write_text
from car_ext.metrics.findings import Findings
from car_ext.metrics.predictions_file import PredictionsFile


class RunFolder:
    """`config.yaml` (resolved), `split.csv`, `metrics.jsonl` (a line an epoch), `summary.json` and what lies beside it.

    That is `findings.npz`, for a report, and `predictions.parquet`, a row an image. Checkpoints and TensorBoard events
    lie beside them. Files are replaced whole, never left half written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensorboard = path / "tensorboard"
        self.predictions = path / "predictions.parquet"
        self.config_file, self._split, self._metrics, self._summary, self._findings = (
            path / name for name in ("config.yaml", "split.csv", "metrics.jsonl", "summary.json", "findings.npz")
        )

    def start(self, values: Mapping[str, Any], split: str = "") -> None:
        """Create the folder and write the configuration as plain values, readable with `--config`.

        Args:
            values: of the configuration.
            split: which image is in which split, as of `datasets.split_list`; nothing is written where it is empty.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if split:
            write_text(self._split, split)
        write_text(self.config_file, yaml.safe_dump(dict(values), sort_keys=False))

    def keep_metrics(self, epochs: int) -> int:
        """Drop what an interrupted run wrote after its last checkpoint, at the end of epoch `epochs`.

        Returns:
            How many lines are left: `epochs`, or one less where the last epoch was trained but not scored.

        Raises:
            InputError: there are fewer.
        """
        # The last line may be one that a kill has left unfinished.
        lines = [line for line in self._lines()[:epochs] if line.endswith("\n")]
        if len(lines) < epochs - 1:
            raise InputError(
                f"{self._metrics} holds {len(lines)} epochs, but the checkpoint beside it is of epoch {epochs}; bring "
                "back the file, or give another --out to start again."
            )
        write_text(self._metrics, "".join(lines))
        return len(lines)

    def add_metrics(self, row: dict[str, Any]) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines so far, one an epoch."""
        return [json.loads(line) for line in self._lines()]

    def epochs(self) -> int:
        """How many lines there are, also while another process writes the next one."""
        return sum(line.endswith("\n") for line in self._lines())

    def _lines(self) -> list[str]:
        return self._metrics.read_text(encoding="utf-8").splitlines(keepends=True) if self._metrics.exists() else []

    def read_config(self) -> dict[str, Any]:
        """The configuration as plain values, without holding it to what this version knows; empty where none is."""
        return yaml.safe_load(self.config_file.read_text(encoding="utf-8")) if self.config_file.exists() else {}

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        return json.loads(self._summary.read_text(encoding="utf-8")) if self._summary.exists() else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_json(self._summary, summary)

    def read_findings(self) -> Findings | None:
        """What lies beside the summary of a finished run, else None."""
        return Findings.load(self._findings) if self._findings.exists() else None

    def write_findings(self, findings: Findings) -> None:
        findings.save(self._findings)

    def write_predictions(self, predictions: PredictionsFile) -> None:
        predictions.write(self.predictions)
