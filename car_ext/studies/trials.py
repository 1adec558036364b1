"""Optuna's trials as pieces of work, each of which one worker does, and where their runs lie."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from car_ext.studies import storage
from car_ext.studies.storage import optuna
from car_ext.studies.worker import Worker

if optuna is not None:
    from optuna.trial import TrialState
LOOKS = (0.02, 1.0)  # seconds between two looks at who comes before, from first to last


class Pieces:
    """The pieces of work 0, 1, ... of a study: each is done once, by whichever worker claims it.

    A trial is an attempt at a piece. What was begun and interrupted (a kill, a lost machine, Ctrl-C) is free again, for
    another trial; finished, pruned and failed ones are not. No two trials have the same piece: their numbers, which the
    storage hands out one after another, are tickets, as in Lamport's bakery (CACM 17(8), 1974): a trial chooses when
    all before it have.

    Args:
        study: of Optuna.
        number: how many pieces there are.
        worker: who we are.
    """

    def __init__(self, study: "optuna.Study", number: int, worker: Worker) -> None:
        self.number = number
        self._study, self._worker = study, worker

    def free(self) -> list[int]:
        """The pieces nobody has done or is doing, in order."""
        self._bury()
        return self._free()

    def _free(self) -> list[int]:
        held = held_by(self._trials())
        return [piece for piece in range(self.number) if piece not in held]

    def _bury(self) -> None:
        """The trials of dead workers count as interrupted from now on."""
        optuna.storages.fail_stale_trials(self._study)
        for trial in self._trials():
            name = trial.user_attrs.get("worker")
            if trial.state == TrialState.RUNNING and name and self._worker.is_dead(name):
                self._fail(trial)
                self._worker.forget(name)

    def at_work(self) -> bool:
        """Whether other workers are doing pieces."""
        return any(trial.state == TrialState.RUNNING for trial in self._trials())

    def claim(self, trial: "optuna.Trial", first: Callable[[], None] = lambda: None) -> int | None:
        """The first free piece, from now on this trial's; None where there is none left.

        Args:
            trial: that has none yet.
            first: called when it is our turn, and no other worker's.
        """
        trial.set_user_attr("worker", self._worker.name)
        waited, pause = 0.0, LOOKS[0]
        while before := [
            other
            for other in self._trials()
            if other.number < trial.number and other.state == TrialState.RUNNING and piece_of(other) is None
        ]:
            time.sleep(pause)
            waited, pause = waited + pause, min(1.5 * pause, LOOKS[1])
            if waited > 2 * storage.HEARTBEAT:  # killed in its first moments, before anything could tell
                self._fail(before[0])
                waited = 0.0
            self._bury()
        first()
        for piece in self._free()[:1]:
            trial.set_user_attr("piece", piece)
            return piece
        return None

    def _trials(self) -> "list[optuna.trial.FrozenTrial]":
        return self._study.get_trials(deepcopy=False)

    def _fail(self, trial: "optuna.trial.FrozenTrial") -> None:
        with contextlib.suppress(RuntimeError):  # by another worker, meanwhile
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def piece_of(trial: "optuna.trial.FrozenTrial") -> int | None:
    """What the trial is an attempt at; None before it has chosen, and of one that found nothing left."""
    return trial.user_attrs.get("piece")


def held_by(trials: "list[optuna.trial.FrozenTrial]") -> "dict[int, optuna.trial.FrozenTrial]":
    """Piece to the trial that does it or has done it, in the order of the trials."""
    return {piece: trial for trial in trials if (piece := piece_of(trial)) is not None and not is_interrupted(trial)}


def interrupted(trials: "list[optuna.trial.FrozenTrial]", piece: int) -> "list[optuna.trial.FrozenTrial]":
    """The attempts at a piece that came to no end."""
    return [trial for trial in trials if piece_of(trial) == piece and is_interrupted(trial)]


def is_interrupted(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether it ended without a result or a reason."""
    return trial.state == TrialState.FAIL and "failed" not in trial.user_attrs


def run_name(parameters: Mapping[str, Any]) -> str:
    """Of the runs with these settings, so that whoever meets them again goes on with the same ones."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
