"""Many settings of one job, each over several seeds: a grid or Optuna's search, and one table of them, best first."""

import dataclasses
import os
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.config.config import Config
from car_ext.datasets import LongTailedData
from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.files import write_json, write_text
from car_ext.machine.processes import refuse_many
from car_ext.methods.regularizers.car import CAR
from car_ext.metrics.vocabulary import SMOOTHED, Score, objectives
from car_ext.metrics.worst_tenth import STRENGTH, smoothed_worst_tenth
from car_ext.run.folder import RunFolder
from car_ext.run.lock import alone
from car_ext.seeds import derive
from car_ext.studies import picture
from car_ext.studies import table as tables
from car_ext.studies.space import Space
from car_ext.studies.trials import (
    HEARTBEAT,
    TrialState,
    begun,
    check_same,
    is_interrupted,
    optuna,
    parameters_of,
    queue,
    run_name,
)
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
    progress: bool = True,
) -> dict[str, Any]:
    """Train the settings of `space`, on as many machines as call this with one `storage`.

    Every run has a folder in `out`, named after its settings. After a kill the same call goes on: finished runs are
    read, an interrupted one is resumed. After each trial the table is written to `out`, as sweep.json and sweep.md;
    in the end also sweep.png.

    Args:
        config: the job. Scored are its validation images, if it has any; with `holdout` images held out from training;
            else the test set, of which the table then warns.
        space: what to vary.
        out: folder of the runs; its name is that of the study.
        search: "grid" for every combination; "tpe" for Optuna's tree-structured Parzen estimator (Bergstra et al.,
            NeurIPS 2011); None: a grid if the space is finite.
        trials: with tpe, how many in all, those of earlier calls, pruned and failed ones included.
        seeds: of the runs of a trial.
        score: a key of `objectives`. By default `smoothed_worst_tenth` of the images of all runs of the trial, counted
            together: it tells settings apart whose worst classes are all at 0, where the search would be blind. Of any
            other score it is the mean over the runs.
        prune: stop a trial whose best epoch so far is below the median of the others' there, from a quarter of the
            epochs and five finished trials on; None: with tpe.
        storage: database URL, as Optuna takes it; None: an SQLite file in `out`.
        progress: show that of the runs.

    Returns:
        What sweep.json holds: `score`, `seeds`, `scored_on`; `trials`, rows as of `table.table` with their score,
        their `parameters` and the name of their `runs`, best first; `pruned`, `failed`; and `unfinished`,
        how many are still to be done, here or elsewhere.

    Raises:
        InputError: anything wrong with the job, another sweep in `out`, every trial failed, or no Optuna.
    """
    if optuna is None:
        raise InputError("a sweep needs Optuna, which is not installed; pip install 'car-ext[sweep]'.")
    refuse_many("a sweep")
    distinct(seeds, "--seeds")
    search = search or ("grid" if space.finite else "tpe")
    points = list(space.grid()) if search == "grid" else []
    for name, options in space.cases.items():
        config.with_options(options, f"case {name!r}")
    # What is wrong with the data is wrong with every trial.
    data, *_ = load_data(dataclasses.replace(config, cache_gb=0))
    scored_on = _scored_on(config, data)
    prune = search == "tpe" if prune is None else prune
    pruner = optuna.pruners.MedianPruner(5, config.epochs // 4) if prune else optuna.pruners.NopPruner()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    runner = _Runner(config, space, out, seeds, objectives()[score], prune, progress, scored_on)
    if progress:
        tell(f"settings are scored on {scored_on}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        url = storage or f"sqlite:///{out.resolve()}/sweep.db"
        database = optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT)
        study = optuna.create_study(
            study_name=out.name, storage=database, direction="maximize", pruner=pruner, load_if_exists=True
        )
        check_same(study, out, config, {"space": repr(space), "search": search, "seeds": list(seeds), "score": score})
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)
        while queue(study) or (search == "tpe" and begun(study) < trials):
            # One process proposes the same settings every time; several must not propose the same ones.
            seed = None if storage else derive("sweep", begun(study)) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=bool(storage))
            study.optimize(runner, n_trials=1, catch=(InputError,))
            runner.write(study)
    table = runner.write(study)
    runner.draw(study)
    if table["failed"] and not table["trials"]:
        raise InputError(f"every trial failed, the first with: {table['failed'][0]['reason']}")
    return table


def markdown(table: Mapping[str, Any]) -> str:
    """A sweep's table as Markdown, accuracies in per cent."""
    score = objectives()[table["score"]]
    lines = [f"Sorted by {score.key}, {_meaning(score)} {', '.join(map(str, table['seeds']))}.", ""]
    lines += [f"Scored on {table['scored_on']}.", "", tables.markdown(table["trials"], first=[score])]
    lines += [f"- pruned at epoch {row['epoch']} of seed {row['seed']}: {row['method']}" for row in table["pruned"]]
    lines += [f"- failed: {row['method']}: {row['reason']}" for row in table["failed"]]
    lines += [f"- not finished: {table['unfinished']}"] if table["unfinished"] else []
    return "\n".join(lines).rstrip() + "\n"


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


def _meaning(score: Score) -> str:
    if score is not SMOOTHED:
        return "the mean over seeds"
    return (
        "the mean over the worst tenth of the classes of (recognised + s m) / (images + s), where m is the accuracy "
        f"over all images and s = {STRENGTH:g}; images counted together over seeds"
    )


@dataclasses.dataclass(frozen=True)
class _Runner:
    """What Optuna calls with every trial."""

    config: Config
    space: Space
    out: Path
    seeds: Sequence[int]
    score: Score
    prune: bool
    progress: bool
    scored_on: str

    def __call__(self, trial: "optuna.Trial") -> float:
        """Train the settings with every seed; their score."""
        trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
        parameters = self.space.suggest(trial)
        found, counts = [], []
        try:
            job = self._matched(self.space.job(self.config, parameters))
            for number in range(len(self.seeds)):
                summary = self._train(trial, job, parameters, number)
                found.append({score.key: score.of(summary) for score in (*tables.compared(), self.score)})
                counts.append(_counts(summary))
                trial.set_user_attr("scores", found)
        except InputError as error:
            trial.set_user_attr("failed", str(error))
            raise
        pooled = smoothed_worst_tenth(*np.sum(counts, axis=0)) if self.score is SMOOTHED else None
        return float(np.mean([row[self.score.key] for row in found])) if pooled is None else pooled

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

    def write(self, study: "optuna.Study") -> dict[str, Any]:
        """The table as it is now, also written."""
        states: dict[TrialState, list] = {state: [] for state in TrialState}
        for trial in study.get_trials(deepcopy=False):
            if parameters_of(trial) not in map(parameters_of, states[trial.state]) and not is_interrupted(trial):
                states[trial.state].append(trial)
        done = states[TrialState.COMPLETE]
        key, found = self.score.key, {str(trial.number): trial.user_attrs["scores"] for trial in done}
        rows = tables.table(found, further=[self.score])
        table = {
            "score": key,
            "seeds": list(self.seeds),
            "scored_on": self.scored_on,
            "trials": sorted(
                (row | {key: trial.value} | self._described(trial) for row, trial in zip(rows, done, strict=True)),
                key=lambda row: (-row[key], -(row["rarest_three_accuracy"] or 0.0), row["method"]),
            ),
            "pruned": [trial.user_attrs["pruned"] | self._described(trial) for trial in states[TrialState.PRUNED]],
            "failed": [
                {"reason": trial.user_attrs["failed"]} | self._described(trial) for trial in states[TrialState.FAIL]
            ],
            "unfinished": len(states[TrialState.WAITING]) + len(states[TrialState.RUNNING]),
        }
        write_json(self.out / "sweep.json", table)
        write_text(self.out / "sweep.md", markdown(table))
        return table

    def draw(self, study: "optuna.Study") -> None:
        """The finished trials as a picture."""
        done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        if done:
            scores = {self._described(trial)["method"]: trial.user_attrs["scores"] for trial in done}
            title = f"{Path(self.config.data).stem}: mean over {len(self.seeds)} seed(s)"
            picture.draw_scores(scores, self.out / "sweep.png", title)

    def _described(self, trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
        parameters = parameters_of(trial)
        return {"method": self.space.label(parameters), "parameters": parameters, "runs": run_name(parameters)}


def _mean_weight(config: Config, counts: np.ndarray) -> float:
    return float(CAR(counts, **dataclasses.asdict(config.car_options)).class_weights.mean())
