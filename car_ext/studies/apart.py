"""A comparison by machines without a common disk: what each run found comes together in a storage."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.machine.processes import refuse_many
from car_ext.studies import outcome
from car_ext.studies.comparison import Methods, check_stages, found, together, trained
from car_ext.studies.storage import optuna
from car_ext.studies.trials import Pieces, held_by, piece_of
from car_ext.studies.work import Work, joined
from car_ext.training.data import load_data
from car_ext.values import distinct


def compare_apart(
    config: Config,
    methods: Methods,
    seeds: Sequence[int],
    out: Path,
    storage: str,
    *,
    exported: Sequence[str] = (),
    wait: bool = False,
    progress: bool = True,
) -> tuple[dict[str, list[dict]], list[str]]:
    """As `comparison.compare`, together with all that call this with one storage and the same name of `out`.

    Each run is done once, by whichever worker claims it, in its own `out`; its summary goes to the storage. A run that
    a killed worker leaves is done again by another one, from the start unless their disk is the same. A second stage
    needs the network of its first: where that is not on the worker's disk, it is trained there too, and this is said.

    Args:
        config: as `methods`, `seeds`, `out`, `exported` and `progress`, those of `comparison.compare`.
        storage: as of `open_storage`.
        wait: stay until the others have finished too, and do what a killed one leaves.

    Returns:
        The results as of `comparison.compare`, empty until the last run is finished, and the runs that others are at
        work on.

    Raises:
        InputError: anything wrong with a job or the storage, or another comparison in it.
    """
    refuse_many("a comparison")
    distinct(seeds, "--seeds")
    check_stages(methods)
    data, *_ = load_data(dataclasses.replace(config, cache_gb=0))
    facts: dict[str, Any] = {"methods": {name: dict(options) for name, options in methods.items()}}
    facts |= {"seeds": list(seeds), "exported": list(exported), "images": data.fingerprint}
    runs = [(name, seed) for name in methods for seed in seeds]

    def do(trial: "optuna.Trial", piece: int) -> float:
        name, seed = runs[piece]
        trial.set_user_attr("label", f"{name}-seed{seed}")
        if progress:
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
        first = methods[name].get("stage2")
        if first and trained(config, methods, first, seed, out, progress):
            print(f"note: {name} builds upon {first}-seed{seed}, which was not on this disk", file=sys.stderr)
        trained(config, methods, name, seed, out, progress)
        summaries = found(config, name, seed, out, name in exported, progress)
        trial.set_user_attr("summaries", summaries)
        return float(summaries[name]["overall_accuracy"])

    def first(trial: "optuna.Trial") -> None:
        outcome.join(trial, config, facts, "--compare-out")

    with joined(out, storage) as (study, worker):
        outcome.check_same(study, config, facts, "--compare-out")
        work = Work(study, Pieces(study, len(runs), worker), first, do, fails=False)
        while True:
            work.until_none_is_left(wait)
            trials = held_by(study.get_trials(deepcopy=False))
            if at_work := [_described(trial) for trial in trials.values() if "summaries" not in trial.user_attrs]:
                return {}, at_work
            if len(trials) == len(runs):  # else one was interrupted just now
                return together(trials[piece].user_attrs["summaries"] for piece in range(len(runs))), []


def _described(trial: "optuna.trial.FrozenTrial") -> str:
    host, process, _ = trial.user_attrs["worker"]
    return f"{trial.user_attrs.get('label', piece_of(trial))} on {host}, process {process}"
