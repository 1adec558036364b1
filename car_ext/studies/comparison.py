"""The same job by several methods and over several seeds: what each does to the worst class."""

import contextlib
import dataclasses
import itertools
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from car_ext.config import yaml_file
from car_ext.config.config import Config
from car_ext.config.recipe import second_stage
from car_ext.errors import InputError
from car_ext.evaluation.evaluate import evaluate
from car_ext.export import to_onnx
from car_ext.machine.processes import refuse_many
from car_ext.recipes import METHODS
from car_ext.run.folder import RunFolder
from car_ext.run.lock import Busy, alone
from car_ext.studies.table import BEST
from car_ext.training.train import train
from car_ext.values import distinct

BASICS = "basics"  # of the files of methods that come with the package
WAIT = 5  # seconds between two looks at what the others do
Methods = Mapping[str, Mapping[str, Any]]  # name -> the options in which it differs from the job


def read_methods(name: str, folder: Path) -> Methods:
    """A file of methods, `METHOD: {option: value}`, by path or by its name in `folder`.

    The options are checked where they are used.

    Raises:
        InputError: a file that is not one.
    """
    path = yaml_file.find(name, folder, "--methods")
    content = yaml_file.read(path)
    for method, options in content.items():
        if not isinstance(options, dict) or not re.fullmatch(r"[\w.+-]+", str(method)):
            raise InputError(f"{path} holds {method!r}: {options!r}, but must hold lines 'NAME: {{option: value}}'.")
    return content


def methods_of(config: Config, name: str | None) -> Methods:
    """The methods to compare: of the file of this name; else `BASICS`, or `with_and_without` of a loss not among them.

    Raises:
        InputError: as of `read_methods`.
    """
    basics = read_methods(BASICS, METHODS)
    if name is None and (config.regularizer != "none" or config.loss not in {one["loss"] for one in basics.values()}):
        return with_and_without(config)
    return read_methods(name, METHODS) if name else basics


def with_and_without(config: Config) -> Methods:
    """The job without a regularizer and with its own, CAR if it names none."""
    regularizer = "car" if config.regularizer == "none" else config.regularizer
    both = [dataclasses.replace(config, regularizer=name) for name in ("none", regularizer)]
    return {job.method: {"regularizer": job.regularizer} for job in both}


def share(
    config: Config,
    methods: Methods,
    seeds: Sequence[int],
    out: Path,
    *,
    wait: bool = False,
    progress: bool = True,
) -> list[str]:
    """Train every method with every seed, together with all others that do the same in `out`.

    Runs go to `out/METHOD-seedN`, and each belongs to whoever takes its lock first; `out` may be on a disk that many
    machines share, if its locks hold for all of them (NFSv4, Lustre with `flock`). The system takes the lock from a
    process that is killed, and whoever comes by next resumes its run. Finished runs are left as they are.

    Args:
        config: the job.
        methods: as of `compare`.
        seeds: at least one.
        out: folder of the runs.
        wait: stay until the others have finished too, and resume what a killed one leaves.
        progress: show that of the runs.

    Returns:
        The runs that others are at work on, or that follow on those, each with how far it is; empty at the end.

    Raises:
        InputError: anything wrong with a job, or runs in `out` that belong to another one.
    """
    refuse_many("a comparison")
    distinct(seeds, "--seeds")
    check_stages(methods)
    left = [(name, seed) for name in methods for seed in seeds]
    while True:
        before, left = left, [run for run in left if not _train(config, methods, *run, out, progress)]
        if left and left == before and wait:
            time.sleep(WAIT)
        elif left in ([], before):  # else one of them may be free by now
            runs = [RunFolder(out / f"{name}-seed{seed}") for name, seed in left]
            return [f"{run.path.name}, {run.epochs()} epochs done" for run in runs]


def compare(
    config: Config,
    methods: Methods,
    seeds: Sequence[int],
    out: Path,
    *,
    exported: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, list[dict]]:
    """Train every method with every seed, as `share` does, and wait until all runs are finished.

    Args:
        config: the job.
        methods: name to options over the job's. `stage2` names an earlier method, whose run with the same seed is
            the first stage.
        seeds: at least one.
        out: folder of the runs; finished ones are read, not repeated, and an interrupted one is resumed.
        exported: methods whose runs are exported and scored in onnxruntime as well.
        progress: show that of the runs.

    Returns:
        Method name to its summaries, one a seed, and in each the overall accuracy of the best epoch, or of the one that
        validation images chose; those in onnxruntime as `METHOD, onnxruntime`.

    Raises:
        InputError: as of `share`.
    """
    share(config, methods, seeds, out, wait=True, progress=progress)
    with alone(out, wait=True):  # two may come to the end at once
        return together(
            found(config, name, seed, out, name in exported, progress) for name in methods for seed in seeds
        )


def found(config: Config, name: str, seed: int, out: Path, exported: bool, progress: bool) -> dict[str, dict]:
    """The summary of a finished run and, if it is to be exported, the one in onnxruntime, as `compare` names them."""
    run = RunFolder(out / f"{name}-seed{seed}")
    summary = run.read_summary() or {}
    summaries = {name: summary | {BEST.key: _best(summary, run)}}
    if exported:
        scored = evaluate(to_onnx(run.path), config.data, options=config.data_options, progress=progress)
        summaries[f"{name}, onnxruntime"] = scored.summary
    return summaries


def together(runs: Iterable[Mapping[str, dict]]) -> dict[str, list[dict]]:
    """What `found` gives of each run, by name."""
    results: dict[str, list[dict]] = {}
    for name, summary in itertools.chain.from_iterable(run.items() for run in runs):
        results.setdefault(name, []).append(summary)
    return results


def check_stages(methods: Methods) -> None:
    """Refuse a second stage whose first does not come before it.

    Raises:
        InputError: there is one.
    """
    for place, (name, options) in enumerate(methods.items()):
        if (first := options.get("stage2")) not in (None, *list(methods)[:place]):
            raise InputError(f"method {name!r} has stage2 {first!r}, which is no method before it.")


def trained(
    config: Config, methods: Methods, name: str, seed: int, out: Path, progress: bool, *, wait: bool = True
) -> bool:
    """Train a run unless it is finished; whether it was not.

    Args:
        config, methods, out, progress: as of `share`.
        name: of the method, whose first stage is finished.
        seed: of the run.
        wait: for another process that has it.

    Raises:
        Busy: another process has it, and we do not wait.
        InputError: as of `share`.
    """
    run = RunFolder(out / f"{name}-seed{seed}")
    job = dataclasses.replace(_job(config, methods, name, seed, out), seed=seed, out=str(run.path))
    done = run.read_summary() is not None
    with contextlib.nullcontext() if done else alone(run.path, wait):
        train(dataclasses.replace(job, resume=run.path.exists()), progress=progress)
    return not done


def _train(config: Config, methods: Methods, name: str, seed: int, out: Path, progress: bool) -> bool:
    """Whether the run is finished now; not where another process has it, or its first stage."""
    first = methods[name].get("stage2")
    if first and RunFolder(out / f"{first}-seed{seed}").read_summary() is None:
        return False
    try:
        trained(config, methods, name, seed, out, progress, wait=False)
    except Busy:
        return False
    return True


def _best(summary: Mapping[str, Any], run: RunFolder) -> float:
    if "kept_epoch" in summary:  # the test images were scored once
        return summary["overall_accuracy"]
    return max(row["test_overall"] for row in run.read_metrics())


def _job(config: Config, methods: Methods, name: str, seed: int, out: Path) -> Config:
    options = dict(methods[name])
    if (first := options.get("stage2")) is None:
        return config.with_options(options, f"method {name!r}")
    threads = {"threads": config.threads}
    return second_stage(out / f"{first}-seed{seed}", threads | options, f"method {name!r}")
