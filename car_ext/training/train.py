"""Train a classifier, and resume it to the bit."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe
from car_ext.datasets.overview import print_overview
from car_ext.datasets.split_list import split_list
from car_ext.errors import InputError
from car_ext.machine.device import find_device
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import keep_freed_memory
from car_ext.machine.processes import Processes, joined
from car_ext.metrics.findings import Findings
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.run import checkpoint
from car_ext.run.folder import RunFolder
from car_ext.run.lock import INSIDE, alone
from car_ext.training.callbacks import Callback, Callbacks
from car_ext.training.job import Job
from car_ext.training.loader import alive_workers
from car_ext.training.progress import Progress
from car_ext.training.selection import Selection
from car_ext.training.summary import summarize
from car_ext.training.tensorboard import TensorBoard

PLACES = {"data", "data_root", "test_list"}  # the same data may lie elsewhere when a run is resumed


def train(config: Config, *, progress: bool = True, callbacks: Iterable[Callback] = ()) -> dict[str, Any]:
    """Run the job and return its summary: the metrics of the kept epoch and how they came about.

    Where the data have validation images, they are scored after each epoch, the best one is kept, and the test images
    are scored once, at the end. Without, the test images are scored after each epoch, and the last one is kept.

    Writes `config.run_dir`: config.yaml, split.csv (which file is in which split), metrics.jsonl (a line an epoch),
    tensorboard/, the last checkpoint, where one is chosen that of the best epoch and, at the end, findings.npz (what
    `car_ext.report` shows besides the scores), predictions.parquet (what each image is taken for) and summary.json.
    With `config.resume` it goes on from the last checkpoint, on a CPU to the very bits of a run without a break, also
    where the same data lie elsewhere by now; a finished run only returns its summary. An epoch's checkpoint is
    written before it is scored.

    Of several processes that a launcher such as torchrun has started, each has a device and its part of every batch of
    `config.batch_size` images; together they do what one would. The first alone writes, shows progress, calls the
    callbacks and counts the scores; all return the same summary.

    Args:
        config: the job.
        progress: show it on stderr.
        callbacks: hear of the run, see `Callback`; TensorBoard's events are written besides.

    Raises:
        InputError: anything wrong with the input, before the folder is created; a loss that is not finite; another
            process at work in the folder; one of several processes that has died.
    """
    with joined(config.device) as processes:
        folder = RunFolder(config.run_dir)
        moved, done = processes.of_first(lambda: (_check(folder, config), _done(folder, config)))
        if done and not moved:
            return done
        with deterministic(), keep_freed_memory(), alive_workers():
            job = Job(config, processes, processes.of_first(lambda: _begun(folder, config)))
            with alone(folder.path) if processes.first else contextlib.nullcontext():
                if done := _restore(job, folder, processes, config):
                    return done
                told = Callbacks([TensorBoard(), *callbacks] if processes.first else [])
                return _run(job, folder, processes, progress and processes.first, told)


def _begun(folder: RunFolder, config: Config) -> str | None:
    """The precision that the run to resume began in; None where none is begun."""
    state = checkpoint.latest_state(folder.path) if config.resume else None
    if state is None:
        return None
    on_cpu = find_device(config.device).type == "cpu"
    older = "none" if on_cpu and config.amp == "auto" else config.amp  # 0.1.0 does not say; on a CPU auto was none
    return state.get("amp", older)


def _restore(job: Job, folder: RunFolder, processes: Processes, config: Config) -> dict[str, Any] | None:
    """Goes on from the last checkpoint, where there is one; the summary where the run is done."""
    tensors: dict[str, Tensor] = {}

    def look() -> tuple[list[str], dict[str, Any] | None, tuple[int, dict[str, Any]] | None]:
        nonlocal tensors
        moved = _check(folder, config)  # again: another process may have been there since
        found = checkpoint.load_latest(folder.path)
        if found is None:
            return moved, _done(folder, config), None
        epoch, tensors, state = found
        return moved, _done(folder, config), (epoch, state)

    moved, done, found = processes.of_first(look)
    if moved and not (found and found[1].get("data_fingerprint")):
        raise _differing(folder, moved)
    if found:
        epoch, state = found
        job.restore(epoch, processes.tensors_of_first(tensors), state)
    return done


def _begin(job: Job, folder: RunFolder) -> tuple[int, list[dict[str, Any]]]:
    """How many epochs are scored, and their lines; the folder is ready for more of them."""
    folder.start(dataclasses.replace(job.config, resume=False).to_dict(), split_list(job.data))
    return folder.keep_metrics(job.epoch), folder.read_metrics()


def _run(job: Job, folder: RunFolder, processes: Processes, progress: bool, callbacks: Callbacks) -> dict[str, Any]:
    config = job.config
    scored, rows = processes.of_first(lambda: _begin(job, folder))
    selection = Selection(config, job.data.val is not None, rows)
    if progress:
        print_overview(job.data)
        print(f"precision {job.machine.said}", file=sys.stderr, flush=True)
    with (
        threads(job.threads),
        contextlib.closing(callbacks),
        Progress(config, len(job.batches.train), job.epoch, shown=progress) as report,
    ):
        callbacks.on_start(config, folder.path)
        while scored < config.epochs and not selection.ended:
            if scored == job.epoch:
                job.train_epoch(report, callbacks.after_step if callbacks.hear_steps else None)
                snapshot = job.snapshot()
                if processes.first:
                    checkpoint.save(folder.path, job.epoch, *snapshot)
            row = job.score_epoch(report)
            scored += 1
            keepsake = job.keepsake() if selection.add(row) else None
            if processes.first:
                _note(folder, selection.best, job.epoch, row, keepsake)
            report.epoch(row)
            callbacks.after_epoch(row)
        if selection.best not in (None, job.epoch):
            kept = _kept(folder, selection.best) if processes.first else {}
            job.take(processes.tensors_of_first(kept))
        made = summarize(job, report, selection.best or job.epoch)
        summary = processes.of_first(lambda: _end(folder, *made))
        callbacks.on_end(summary)
    return summary


def _note(folder: RunFolder, best: int | None, epoch: int, row: dict[str, Any], keepsake: Any) -> None:
    """Writes what is left of an epoch: its line and, where it is the best one, its classifier."""
    if keepsake:
        checkpoint.write(folder.path, checkpoint.KEPT, epoch, *keepsake)
    folder.add_metrics(row)
    if best:
        checkpoint.keep_only(folder.path, checkpoint.KEPT, best)  # now that the line says so


def _end(
    folder: RunFolder, summary: dict[str, Any], findings: Findings, predictions: PredictionsFile
) -> dict[str, Any]:
    folder.write_findings(findings)
    folder.write_predictions(predictions)
    folder.write_summary(summary)
    return summary


def _kept(folder: RunFolder, epoch: int | None) -> dict[str, Tensor]:
    """The classifier of the best epoch.

    Raises:
        InputError: it is gone.
    """
    found = checkpoint.load_latest(folder.path, checkpoint.KEPT)
    if found is None or found[0] != epoch:
        raise InputError(
            f"{folder.path} has lost the weights of its best epoch, {epoch}; bring back {checkpoint.KEPT}-{epoch:06d}, "
            "or give another --out to start again."
        )
    return found[1]


def _done(folder: RunFolder, config: Config) -> dict[str, Any] | None:
    """The summary of a finished run to be resumed."""
    return folder.read_summary() if config.resume else None


def _check(folder: RunFolder, config: Config) -> list[str]:
    """Refuse unless `config` may start a run in the folder, or resume the one it finds.

    Returns:
        The options in which it says another place of the data than the run it finds.

    Raises:
        InputError: it may not.
    """
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path} is a file; give the name of a folder.")
    if not config.resume and path.is_dir() and any(entry.name != INSIDE for entry in path.iterdir()):
        raise InputError(f"--out {path} is not empty; add --resume to go on with its run, or give another --out.")
    if config.resume and folder.config_file.exists():
        keys = config.differences(read_recipe(folder.config_file))
        if not PLACES.issuperset(keys):
            raise _differing(folder, keys)
        return keys
    return []


def _differing(folder: RunFolder, keys: list[str]) -> InputError:
    return InputError(
        f"--resume needs the options {folder.path} began with, which differ in {', '.join(keys)}; "
        f"use --config {folder.config_file} --resume, or give another --out."
    )
