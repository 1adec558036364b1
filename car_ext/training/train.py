"""Train a classifier, and resume it to the bit."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe
from car_ext.datasets.overview import print_overview
from car_ext.datasets.split_list import split_list
from car_ext.errors import InputError
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import keep_freed_memory
from car_ext.run import checkpoint
from car_ext.run.folder import RunFolder
from car_ext.run.lock import INSIDE, alone, refuse_many_processes
from car_ext.training.job import Job
from car_ext.training.loader import alive_workers
from car_ext.training.progress import Progress
from car_ext.training.summary import summarize

PLACES = {"data", "data_root", "test_list"}  # the same data may lie elsewhere when a run is resumed


def train(
    config: Config, *, progress: bool = True, after_epoch: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Run the job and return its summary: the metrics of the last epoch and how they came about.

    Writes `config.run_dir`: config.yaml, split.csv (which file is in which split), metrics.jsonl (a line an epoch),
    tensorboard/, the last checkpoint and, at the end, findings.npz (what `car_ext.report` shows besides the scores) and
    summary.json. With `config.resume` it goes on from the last checkpoint, on a CPU to the very bits of a run without
    a break, also where the same data lie elsewhere by now; a finished run only returns its summary. An epoch's
    checkpoint is written before the test images are read.

    Args:
        config: the job.
        progress: show it on stderr.
        after_epoch: called with each line of metrics.jsonl, once its checkpoint is written: whatever it raises ends
            the run, which can be resumed.

    Raises:
        InputError: anything wrong with the input, before the folder is created; a loss that is not finite; another
            process at work in the folder, or one of several that a launcher started.
    """
    refuse_many_processes()
    folder = RunFolder(config.run_dir)
    moved, done = _check(folder, config), _done(folder, config)
    if done and not moved:
        return done
    with deterministic(), keep_freed_memory(), alive_workers():
        job = Job(config)
        with alone(folder.path):
            moved = _check(folder, config)  # again: another process may have been there since
            found = checkpoint.load_latest(folder.path)
            if moved and not (found and found[2].get("data_fingerprint")):
                raise _differing(folder, moved)
            if found:
                job.restore(*found)
            return _done(folder, config) or _run(job, folder, progress, after_epoch)


def _run(
    job: Job, folder: RunFolder, progress: bool, after_epoch: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    config = job.config
    folder.start(dataclasses.replace(config, resume=False).to_dict(), split_list(job.data))
    scored = folder.keep_metrics(job.epoch)
    if progress:
        print_overview(job.data)
    with (
        threads(job.threads),
        SummaryWriter(folder.tensorboard, purge_step=scored + 1) as writer,
        Progress(config, len(job.batches.train), job.epoch, shown=progress) as report,
    ):
        while scored < config.epochs:
            if scored == job.epoch:
                job.train_epoch(report)
                checkpoint.save(folder.path, job.epoch, *job.snapshot())
            row = job.score_epoch()
            scored += 1
            folder.add_metrics(row)
            for key, value in row.items():
                if value is not None:
                    writer.add_scalar(key, value, job.epoch)
            report.epoch(row)
            if after_epoch:
                after_epoch(row)
        summary, findings = summarize(job)
    folder.write_findings(findings)
    folder.write_summary(summary)
    return summary


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
