"""What a sweep has found so far: its table and its picture, from the storage alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.files import write_json, write_text
from car_ext.metrics.vocabulary import SMOOTHED, Score, objectives
from car_ext.metrics.worst_tenth import STRENGTH
from car_ext.run.lock import alone
from car_ext.studies import picture
from car_ext.studies import table as tables
from car_ext.studies.storage import optuna
from car_ext.studies.trials import held_by, run_name
from car_ext.training.train import PLACES

if optuna is not None:
    from optuna.trial import TrialState


def began_as(study: "optuna.Study") -> dict[str, Any] | None:
    """What the first trial noted of the sweep that it belongs to; None before there is one.

    Raises:
        InputError: an earlier version began the study, and counted its trials in another way.
    """
    if "sweep" in study.user_attrs:
        raise InputError(
            f"the study {study.study_name} was begun by an earlier version of car-ext, which can finish it; "
            "give another folder to start again."
        )
    return next((trial.user_attrs["sweep"] for trial in study.get_trials(deepcopy=False) if _notes(trial)), None)


def check_same(study: "optuna.Study", config: Config, facts: Mapping[str, Any], folder: str = "--sweep-out") -> bool:
    """Whether the study has begun; refuse to add to one that began as another sweep.

    The same images may lie elsewhere on another machine.

    Raises:
        InputError: it began as another one.
    """
    if (before := began_as(study)) is None:
        return False
    job = Config.from_dict(before["job"], f"the study {study.study_name}")
    differ = [key for key in job.differences(config) if key not in PLACES or before["images"] != facts["images"]]
    differ += [key for key, value in facts.items() if before.get(key) != value]
    if differ:
        raise InputError(
            f"the study {study.study_name} began with other {', '.join(differ)}; give those, or another {folder}."
        )
    return True


def join(trial: "optuna.Trial", config: Config, facts: Mapping[str, Any], folder: str = "--sweep-out") -> None:
    """The first trial notes what the study is, and each later one is of the same.

    Raises:
        InputError: it is not.
    """
    if not check_same(trial.study, config, facts, folder):
        trial.set_user_attr("sweep", {"job": config.to_dict(), **facts})


def write(study: "optuna.Study", pieces: int, out: Path) -> dict[str, Any]:
    """The table as it is now, also written to sweep.json and sweep.md.

    Args:
        study: with at least one trial that has begun.
        pieces: trials that there are to be.
        out: folder of both files; several processes may write there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / "sweep", wait=True):  # who comes last has seen what the others wrote
        table = _table(study, pieces)
        write_json(out / "sweep.json", table)
        write_text(out / "sweep.md", markdown(table))
    return table


def draw(study: "optuna.Study", out: Path) -> None:
    """The finished trials as a picture, sweep.png; none where there are none."""
    facts = began_as(study)
    done = [trial for trial in _held(study) if trial.state == TrialState.COMPLETE]
    if done and facts:
        scores = {trial.user_attrs["label"]: trial.user_attrs["scores"] for trial in done}
        title = f"{Path(facts['job']['data']).stem}: mean over {len(facts['seeds'])} seed(s)"
        with alone(out / "sweep", wait=True):
            picture.draw_scores(scores, out / "sweep.png", title)


def markdown(table: Mapping[str, Any]) -> str:
    """A sweep's table as Markdown, accuracies in per cent."""
    score = objectives()[table["score"]]
    lines = [f"Sorted by {score.key}, {_meaning(score)} {', '.join(map(str, table['seeds']))}.", ""]
    lines += [f"Scored on {table['scored_on']}.", "", tables.markdown(table["trials"], first=[score])]
    lines += [f"- pruned at epoch {row['epoch']} of seed {row['seed']}: {row['method']}" for row in table["pruned"]]
    lines += [f"- failed: {row['method']}: {row['reason']}" for row in table["failed"]]
    lines += [f"- at work on {row['host']}, process {row['process']}: {row['method']}" for row in table["at_work"]]
    lines += [f"- not finished: {table['unfinished']}"] if table["unfinished"] else []
    return "\n".join(lines).rstrip() + "\n"


def _table(study: "optuna.Study", pieces: int) -> dict[str, Any]:
    facts = began_as(study) or {}
    states: dict[TrialState, list] = {state: [] for state in TrialState}
    for trial in _held(study):
        states[trial.state].append(trial)
    done, score = states[TrialState.COMPLETE], objectives()[facts["score"]]
    key, found = score.key, {str(trial.number): trial.user_attrs["scores"] for trial in done}
    rows = tables.table(found, further=[score])
    return {
        "score": key,
        "seeds": facts["seeds"],
        "scored_on": facts["scored_on"],
        "trials": sorted(
            (row | {key: trial.value} | _described(trial) for row, trial in zip(rows, done, strict=True)),
            key=lambda row: (-row[key], -(row["rarest_three_accuracy"] or 0.0), row["method"]),
        ),
        "pruned": [trial.user_attrs["pruned"] | _described(trial) for trial in states[TrialState.PRUNED]],
        "failed": [{"reason": trial.user_attrs["failed"]} | _described(trial) for trial in states[TrialState.FAIL]],
        "at_work": [_at_work(trial) for trial in states[TrialState.RUNNING]],
        "unfinished": max(pieces - sum(len(states[state]) for state in states if state.is_finished()), 0),
    }


def _held(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials that count, in the order of their pieces."""
    held = held_by(study.get_trials(deepcopy=False))
    return [held[piece] for piece in sorted(held)]


def _notes(trial: "optuna.trial.FrozenTrial") -> bool:
    return "sweep" in trial.user_attrs


def _described(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    return {"method": trial.user_attrs["label"], "parameters": trial.params, "runs": run_name(trial.params)}


def _at_work(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    host, process, _ = trial.user_attrs["worker"]
    return {"method": trial.user_attrs.get("label", "beginning"), "host": host, "process": process}


def _meaning(score: Score) -> str:
    if score is not SMOOTHED:
        return "the mean over seeds"
    return (
        "the mean over the worst tenth of the classes of (recognised + s m) / (images + s), where m is the accuracy "
        f"over all images and s = {STRENGTH:g}; images counted together over seeds"
    )
