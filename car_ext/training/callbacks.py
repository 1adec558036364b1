"""What hears of a run while it goes on: loggers, a sweep that prunes, anything of a caller's own."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from car_ext.config.config import Config


class Callback:
    """Override what you want to hear of; everything does nothing by default.

        class Printer(Callback):
            def after_epoch(self, row):
                print(row["epoch"], row["loss"])

        train(config, callbacks=[Printer()])

    Whatever a callback raises ends the run and reaches the caller of `train`. What was written before it stays whole:
    the checkpoint of the last epoch, from which the run can be resumed, and after `on_end` the summary.
    """

    def on_start(self, config: Config, run_dir: Path) -> None:
        """Before the first epoch, or the first after a break; `run_dir` has the lines of the epochs before it."""

    def after_step(self, step: int, values: Mapping[str, float]) -> None:
        """Of every step in order, from 1 over the whole run, but told late, several at once.

        Reading a loss makes the CPU wait for the GPU, so it is done once in half a second. `values` has loss,
        base_loss, train_accuracy and lr of the step, and sigma where CAR is on.
        """

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        """Of every line of metrics.jsonl, once it and the epoch's checkpoint are written."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """Of a run that is done, once its summary is written; a finished run that is only read again tells nothing."""

    def close(self) -> None:
        """At the very end, also of a run that failed; once for each `on_start` that was called."""


class Callbacks(Callback):
    """Several as one, told in their order."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._all = [*callbacks]
        self._begun: list[Callback] = []

    @property
    def hear_steps(self) -> bool:
        """Whether any wants to hear of steps."""
        return any(type(callback).after_step is not Callback.after_step for callback in self._all)

    def on_start(self, config: Config, run_dir: Path) -> None:
        for callback in self._all:
            self._begun.append(callback)
            callback.on_start(config, run_dir)

    def after_step(self, step: int, values: Mapping[str, float]) -> None:
        for callback in self._all:
            callback.after_step(step, values)

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        for callback in self._all:
            callback.after_epoch(row)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        for callback in self._all:
            callback.on_end(summary)

    def close(self) -> None:
        """All of them, whatever one raises."""
        if self._begun:
            try:
                self._begun.pop().close()
            finally:
                self.close()


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row or a summary is a number, as loggers want it."""
    return {key: value for key, value in row.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def flat(values: Mapping[str, Any], above: Sequence[str] = ()) -> dict[str, Any]:
    """Nested values under names with dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = (*above, key)
        found |= flat(value, path) if isinstance(value, Mapping) else {".".join(path): value}
    return found
