"""The progress of a run on stderr: a bar on a terminal, at most eleven lines elsewhere."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

from car_ext.config.config import Config
from car_ext.training.loader import Batch

DELAY = 1  # seconds that scoring takes before it has a bar


class Progress:
    """`with Progress(config, steps_per_epoch, epochs_done) as progress: ...`; silent unless `shown`."""

    def __init__(self, config: Config, steps: int, epochs_done: int, shown: bool = True) -> None:
        terminal = sys.stderr.isatty()
        self._config, self._lines, self._scores = config, shown and not terminal, dict[str, str]()
        self._silent = not (shown and terminal)
        self._start, self._first = time.perf_counter(), epochs_done * steps
        self._bar = tqdm(
            desc=config.method,
            total=config.epochs * steps,
            initial=self._first,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            disable=self._silent,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def steps(self, count: int, loss: float, sigma: float) -> None:
        """`count` more steps are done, with this mean loss and sigma."""
        self._bar.update(count)
        rate = (self._bar.n - self._first) * self._config.batch_size / (time.perf_counter() - self._start)
        values = {"loss": f"{loss:.3f}", "images/s": f"{rate:.0f}"}
        if self._config.regularizer != "none":
            values["sigma"] = f"{sigma:.3f}"
        self._bar.set_postfix(values | self._scores)

    def scoring(self, batches: DataLoader, what: str) -> Iterable[Batch]:
        """The batches of images that are scored; a bar below the other where they take more than a second."""
        return tqdm(
            batches,
            desc=f"scoring the {what} images",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
            dynamic_ncols=True,
            leave=False,
            delay=DELAY,
            disable=self._silent,
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its line of metrics.jsonl."""
        part = "val" if "val_overall" in row else "test"
        self._scores = {key: f"{100 * row[f'{part}_{key}']:.1f}%" for key in ("overall", "worst")}
        epoch, epochs = row["epoch"], self._config.epochs
        if self._lines and (epoch == epochs or epoch % -(-epochs // 10) == 0):
            sigma = "" if row["sigma"] is None else f"  sigma {row['sigma']:.3f}"
            scores = "  ".join(f"{key} {value}" for key, value in self._scores.items())
            speed = f"{row['images_per_second']:.0f} images/s"
            line = f"epoch {epoch}/{epochs}  loss {row['loss']:.3f}{sigma}  {scores}  {speed}"
            sys.stderr.write(f"{line}\n")  # in one piece: other processes may write there too
            sys.stderr.flush()
