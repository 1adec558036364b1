"""The same job by several methods and over several seeds: what each does to the worst class."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
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
from car_ext.run.lock import alone
from car_ext.studies.table import BEST
from car_ext.training.train import train
from car_ext.values import distinct

BASICS = "basics"  # of the files of methods that come with the package
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


def compare(
    config: Config,
    methods: Methods,
    seeds: Sequence[int],
    out: Path,
    *,
    exported: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, list[dict]]:
    """Train every method with every seed.

    Runs go to `out/METHOD-seedN`; finished ones are read, not repeated, and an interrupted one is resumed.

    Args:
        config: the job.
        methods: name to options over the job's. `stage2` names an earlier method, whose run with the same seed is
            the first stage.
        seeds: at least one.
        out: folder of the runs.
        exported: methods whose runs are exported and scored in onnxruntime as well.

    Returns:
        Method name to its summaries, one a seed, and in each the overall accuracy of the best epoch, or of the one that
        validation images chose; those in onnxruntime as `METHOD, onnxruntime`.

    Raises:
        InputError: anything wrong with a job, runs in `out` that belong to another one, or another process at work
            there.
    """
    refuse_many("a comparison")
    distinct(seeds, "--seeds")
    with alone(out):
        return _compare(config, methods, seeds, out, exported, progress)


def _compare(
    config: Config, methods: Methods, seeds: Sequence[int], out: Path, exported: Sequence[str], progress: bool
) -> dict[str, list[dict]]:
    results: dict[str, list[dict]] = {}
    for name in methods:
        for seed in seeds:
            run_dir = out / f"{name}-seed{seed}"
            job = _job(config, methods, name, seed, out)
            job = dataclasses.replace(job, seed=seed, out=str(run_dir), resume=run_dir.exists())
            summary = train(job, progress=progress)
            results.setdefault(name, []).append(summary | {BEST.key: _best(summary, RunFolder(run_dir))})
            if name in exported:
                scored = evaluate(to_onnx(run_dir), config.data, options=config.data_options, progress=progress)
                results.setdefault(f"{name}, onnxruntime", []).append(scored.summary)
    return results


def _best(summary: Mapping[str, Any], run: RunFolder) -> float:
    if "kept_epoch" in summary:  # the test images were scored once
        return summary["overall_accuracy"]
    return max(row["test_overall"] for row in run.read_metrics())


def _job(config: Config, methods: Methods, name: str, seed: int, out: Path) -> Config:
    options = dict(methods[name])
    if (first := options.get("stage2")) is None:
        return config.with_options(options, f"method {name!r}")
    if first not in methods or list(methods).index(first) >= list(methods).index(name):
        raise InputError(f"method {name!r} has stage2 {first!r}, which is no method before it.")
    threads = {"threads": config.threads}
    return second_stage(out / f"{first}-seed{seed}", threads | options, f"method {name!r}")
