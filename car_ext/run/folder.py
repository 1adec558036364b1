"""The folder of one training run: who may write to it, and its small files."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import yaml

from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe
from car_ext.errors import InputError
from car_ext.files import write_json, write_text
from car_ext.metrics.findings import Findings


class RunFolder:
    """``config.yaml`` (resolved), ``metrics.jsonl`` (a line an epoch), ``summary.json`` and ``findings.npz`` of a run.

    Checkpoints and TensorBoard events lie beside them. Files are replaced whole, never left half written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensorboard = path / "tensorboard"
        self._config, self._metrics, self._summary, self._findings = (
            path / name for name in ("config.yaml", "metrics.jsonl", "summary.json", "findings.npz")
        )

    def check(self, config: Config) -> None:
        """Raise :class:`InputError` unless ``config`` may start a run here, or resume the one it finds."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path} is a file; give the name of a folder.")
        if not config.resume and self.path.is_dir() and any(self.path.iterdir()):
            raise InputError(
                f"--out {self.path} is not empty; add --resume to go on with its run, or give another --out."
            )
        if config.resume and self._config.exists():
            keys = config.differences(read_recipe(self._config))
            if keys:
                raise InputError(
                    f"--resume needs the options {self.path} began with, which differ in {', '.join(keys)}; "
                    f"use --config {self._config} --resume, or give another --out."
                )

    def start(self, config: Config) -> None:
        """Create the folder and write the configuration, readable with ``--config``."""
        self.path.mkdir(parents=True, exist_ok=True)
        values = dataclasses.replace(config, resume=False).to_dict()
        write_text(self._config, yaml.safe_dump(values, sort_keys=False))

    def keep_metrics(self, epochs: int) -> None:
        """Drop what an interrupted run wrote after its last checkpoint, at the end of epoch ``epochs``."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True) if epochs else []
        write_text(self._metrics, "".join(lines[:epochs]))

    def add_metrics(self, row: dict[str, Any]) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines so far, one an epoch; the last may be of an epoch that a kill has left without a checkpoint."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines() if self._metrics.exists() else []
        return [json.loads(line) for line in lines]

    def read_config(self) -> dict[str, Any]:
        """The configuration as plain values, without holding it to what this version knows; empty where none is."""
        return yaml.safe_load(self._config.read_text(encoding="utf-8")) if self._config.exists() else {}

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
