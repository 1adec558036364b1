"""Many settings of one job, each over several seeds: a grid or Optuna's search, and one table of them, best first."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.config.config import Config
from car_ext.datasets import LongTailedData
from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.machine.processes import refuse_many
from car_ext.methods.regularizers.car import CAR
from car_ext.metrics.vocabulary import SMOOTHED, Score, objectives
from car_ext.metrics.worst_tenth import smoothed_worst_tenth
from car_ext.run.folder import RunFolder
from car_ext.run.lock import alone
from car_ext.seeds import derive
from car_ext.studies import outcome
from car_ext.studies import table as tables
from car_ext.studies.space import Space
from car_ext.studies.storage import masked, needed, open_storage, optuna
from car_ext.studies.trials import Pieces, interrupted, run_name
from car_ext.studies.work import DATABASE, Work, joined, own_storage, quiet
from car_ext.training.callbacks import Callback
from car_ext.training.data import load_data
from car_ext.training.train import train
from car_ext.values import distinct


def sweep(
    config: Config,
    space: Space,
    out: Path,
    *,
    search: str | None = None,
    trials: int = 20,
    seeds: Sequence[int] = (0, 1, 2),
    score: str = SMOOTHED.key,
    prune: bool | None = None,
    storage: str | None = None,
    wait: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the settings of `space`, on as many machines as call this with one `storage`.

    Every run has a folder in `out`, named after its settings. After a kill the same call goes on, or another worker
    does: a trial that was begun and came to no end is done again, on the same folder of runs from its last checkpoint
    on. After each trial the table is written to `out`, as sweep.json and sweep.md; in the end also sweep.png.

    What a trial tries is decided by its place among the trials, not by who does it: on a grid, and for the first nine
    trials of tpe, which are random, many workers find what one does. Later ones depend on what was finished before.

    Args:
        config: the job. Scored are its validation images, if it has any; with `holdout` images held out from training;
            else the test set, of which the table then warns.
        space: what to vary.
        out: folder of the runs; its name is that of the study.
        search: "grid" for every combination; "tpe" for Optuna's tree-structured Parzen estimator (Bergstra et al.,
            NeurIPS 2011); None: a grid if the space is finite.
        trials: with tpe, how many in all, those of other workers and earlier calls, pruned and failed ones included.
        seeds: of the runs of a trial.
        score: a key of `objectives`. By default `smoothed_worst_tenth` of the images of all runs of the trial, counted
            together: it tells settings apart whose worst classes are all at 0, where the search would be blind. Of any
            other score it is the mean over the runs.
        prune: stop a trial whose best epoch so far is below the median of the others' there, from a quarter of the
            epochs and five finished trials on; None: with tpe.
        storage: as of `open_storage`; None: an SQLite file in `out`.
        wait: stay until the other workers have finished too, and do what a killed one leaves.
        progress: show that of the runs.

    Returns:
        What sweep.json holds: `score`, `seeds`, `scored_on`; `trials`, rows as of `table.table` with their score,
        their `parameters` and the name of their `runs`, best first; `pruned`, `failed`; `at_work`, what other workers
        are doing; and `unfinished`, how many trials are still to end.

    Raises:
        InputError: anything wrong with the job or the storage, another sweep in it, every trial failed, or no Optuna.
    """
    refuse_many("a sweep")
    distinct(seeds, "--seeds")
    needed()
    search = search or ("grid" if space.finite else "tpe")
    points = list({run_name(point): point for point in space.grid()}.values()) if search == "grid" else None
    for name, options in space.cases.items():
        config.with_options(options, f"case {name!r}")
    # What is wrong with the data is wrong with every trial.
    data, *_ = load_data(dataclasses.replace(config, cache_gb=0))
    facts = {
        "space": repr(space),
        "search": search,
        "seeds": list(seeds),
        "score": score,
        "images": data.fingerprint,
        "scored_on": _scored_on(config, data),
    }
    prune = search == "tpe" if prune is None else prune
    pruner = optuna.pruners.MedianPruner(5, config.epochs // 4) if prune else optuna.pruners.NopPruner()
    if progress:
        tell(f"settings are scored on {facts['scored_on']}")
    with joined(out, storage, pruner) as (study, worker):
        outcome.check_same(study, config, facts)
        number = trials if points is None else len(points)
        study.set_user_attr("pieces", number)

        def write() -> None:
            if outcome.began_as(study):
                outcome.write(study, number, out)

        def note(trial: "optuna.Trial") -> None:
            outcome.join(trial, config, facts)

        runner = _Runner(config, space, out, seeds, objectives()[score], prune, progress, points)
        Work(study, Pieces(study, number, worker), note, runner, write).until_none_is_left(wait)
        table = outcome.write(study, number, out)
        outcome.draw(study, out)
    if table["failed"] and not table["trials"]:
        raise InputError(f"every trial failed, the first with: {table['failed'][0]['reason']}")
    return table


def show(out: Path, storage: str | None = None) -> dict[str, Any]:
    """The table of a sweep as it stands in the storage, also written and drawn in `out`; nothing is trained.

    Args:
        out: as of `sweep`; of another machine's only the name need be the same.
        storage: as of `sweep`.

    Raises:
        InputError: no such sweep, or none of its trials has begun.
    """
    needed()
    with quiet():
        if not storage and not (out / DATABASE).exists():
            raise InputError(f"{out} holds no sweep; give its --sweep-out, or the --storage where it lies.")
        found = open_storage(storage or own_storage(out))
        where = masked(storage) if storage else str(out)
        names = optuna.get_all_study_names(found)
        if out.name not in names:
            there = f"only {', '.join(map(repr, names))}" if names else "nor any other"
            raise InputError(f"{where} holds no study {out.name!r}, {there}.")
        study = optuna.load_study(study_name=out.name, storage=found)
        if outcome.began_as(study) is None:
            raise InputError(f"no trial of the study {out.name!r} in {where} has begun.")
        table = outcome.write(study, study.user_attrs["pieces"], out)
        outcome.draw(study, out)
    return table


def _scored_on(config: Config, data: LongTailedData) -> str:
    if data.val is not None:
        return f"the {len(data.val)} validation images, on which no run trained; not on the test set"
    if config.holdout:
        return f"{config.holdout:.3g} of each class's training images, on which no run trained; not on the test set"
    return (
        "the test set: whoever chooses a row by it fits the test set, and the best row's score is too high; "
        "--holdout 0.2 scores images held out from training instead"
    )


def _counts(summary: Mapping[str, Any]) -> np.ndarray:
    """(2, K) recognised images of each class, and all of them."""
    images = [*summary["test_counts"].values()]
    accuracies = [accuracy or 0.0 for accuracy in summary["per_class_accuracy"].values()]
    return np.stack([np.rint(np.multiply(accuracies, images)), images])


@dataclasses.dataclass(frozen=True)
class _Runner:
    """Does the trials.

    Attributes:
        points: the parameters of each piece of a grid; None where a search proposes them.
    """

    config: Config
    space: Space
    out: Path
    seeds: Sequence[int]
    score: Score
    prune: bool
    progress: bool
    points: Sequence[Mapping[str, Any]] | None

    def __call__(self, trial: "optuna.Trial", piece: int) -> float:
        """Train the settings with every seed; their score."""
        parameters = self._parameters(trial, piece)
        found, counts = [], []
        job = self._matched(self.space.job(self.config, parameters))
        for number in range(len(self.seeds)):
            summary = self._train(trial, job, parameters, number)
            found.append({score.key: score.of(summary) for score in (*tables.compared(), self.score)})
            counts.append(_counts(summary))
            trial.set_user_attr("scores", found)
        pooled = smoothed_worst_tenth(*np.sum(counts, axis=0)) if self.score is SMOOTHED else None
        return float(np.mean([row[self.score.key] for row in found])) if pooled is None else pooled

    def _parameters(self, trial: "optuna.Trial", piece: int) -> dict[str, Any]:
        """What the trial tries, by its place alone: as before, where it was interrupted; of the grid; or proposed."""
        before = interrupted(trial.study.get_trials(deepcopy=False), piece)
        given = dict(self.points[piece]) if self.points is not None else before[-1].params if before else {}
        proposing = optuna.samplers.TPESampler(seed=derive("sweep", piece) % 2**32, constant_liar=True)
        trial.study.sampler = optuna.samplers.PartialFixedSampler(given, proposing)
        parameters = self.space.suggest(trial)
        label = self.space.label(parameters)
        trial.set_user_attr("label", label)
        if before and self.progress:
            host = before[-1].user_attrs["worker"][0]
            print(f"{label}: again, after {len(before)} interruption(s), the last on {host}", file=sys.stderr)
        return parameters

    def _matched(self, job: Config) -> Config:
        if not self.space.matched_strength:
            return job
        counts = load_data(dataclasses.replace(job, cache_gb=0))[0].class_counts
        return job.with_car(alpha=job.car_options.alpha * _mean_weight(self.config, counts) / _mean_weight(job, counts))

    def _train(self, trial: "optuna.Trial", job: Config, parameters: Mapping, number: int) -> dict[str, Any]:
        """The summary of the run with one of the seeds; where trials are pruned, Optuna hears of each epoch."""
        seed, seen = self.seeds[number], set()
        folder = self.out / f"{run_name(parameters)}-seed{seed}"
        if self.progress:
            print(f"{self.space.label(parameters)}, seed {seed}", file=sys.stderr, flush=True)

        def report(row: Mapping[str, Any]) -> None:
            value = row.get(f"val_{self.score.epoch}", row.get(f"test_{self.score.epoch}"))
            if row["epoch"] not in seen and value is not None:
                seen.add(row["epoch"])
                trial.report(value, number * job.epochs + row["epoch"])

        class Pruning(Callback):
            def after_epoch(self, row: Mapping[str, Any]) -> None:
                report(row)
                if trial.should_prune():
                    trial.set_user_attr("pruned", {"epoch": row["epoch"], "seed": seed})
                    raise optuna.TrialPruned

        job = dataclasses.replace(job, seed=seed, out=str(folder), resume=True)
        with alone(folder, wait=True):  # two may have proposed, or queued, the same settings at once
            for row in RunFolder(folder).read_metrics() if self.prune else ():  # of an interrupted run
                report(row)
            summary = train(job, progress=self.progress, callbacks=[Pruning()] if self.prune else [])
        scored = summary.get("validation") or summary
        if self.score.of(scored) is None:
            raise InputError(f"{self.score.key} is not defined on {summary['data']}; choose another --score.")
        return scored


def _mean_weight(config: Config, counts: np.ndarray) -> float:
    return float(CAR(counts, **dataclasses.asdict(config.car_options)).class_weights.mean())
