"""A worker's loop over a study: pieces are claimed and done until none is left."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from car_ext.datasets.notes import tell
from car_ext.errors import InputError
from car_ext.studies.storage import journal_file, needed, open_storage, optuna, reached
from car_ext.studies.trials import Pieces
from car_ext.studies.worker import Worker

DATABASE = "sweep.db"  # in the folder of a study that names no storage
WAIT = 5  # seconds between two looks at what the others do


def own_storage(out: Path) -> str:
    """The database of a study that names none."""
    return f"sqlite:///{out.resolve()}/{DATABASE}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's log and its warnings of what may change in later versions."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextlib.contextmanager
def joined(out: Path, storage: str | None, pruner: Any = None) -> Iterator[tuple["optuna.Study", Worker]]:
    """The study named like the folder `out`, begun where there is none, and this process as one of its workers.

    Raises:
        InputError: no Optuna, or a storage that cannot be opened or is lost meanwhile.
    """
    needed()
    with quiet():
        journal, found = journal_file(storage), open_storage(storage) if storage else None
        out.mkdir(parents=True, exist_ok=True)
        with reached(storage or own_storage(out)):
            study = optuna.create_study(
                study_name=out.name,
                storage=found or open_storage(own_storage(out)),
                sampler=optuna.samplers.RandomSampler(0),  # until a trial knows its place
                pruner=pruner,
                direction="maximize",
                load_if_exists=True,
            )
            with Worker(journal.parent if journal else out, shared=journal is not None) as worker:
                yield study, worker


@dataclasses.dataclass
class Work:
    """What a worker does with the pieces of a study.

    Attributes:
        pieces: of the study.
        first: called in a trial's turn, before it claims a piece; what it raises ends the work.
        do: does a piece and gives its score.
        after: called when a piece is done.
        fails: whether an `InputError` of `do` is noted as the reason why the piece failed, and the work goes on; else
            it ends the work, and the piece is free again.
    """

    study: "optuna.Study"
    pieces: Pieces
    first: Callable[["optuna.Trial"], None]
    do: Callable[["optuna.Trial", int], float]
    after: Callable[[], None] = lambda: None
    fails: bool = True
    _trial: int = 0
    _lost: bool = False  # whether the storage took the trial from us

    def until_none_is_left(self, wait: bool = False) -> None:
        """Do all pieces that nobody else does.

        Args:
            wait: stay until the others have finished too, and do what a killed one leaves.
        """
        while True:
            if self.pieces.free():
                self._one()
            elif wait and self.pieces.at_work():
                time.sleep(WAIT)
            else:
                return

    def _one(self) -> None:
        try:
            self.study.optimize(self, n_trials=1, catch=(_Failed, _NothingLeft))
        except Exception:
            if not self._lost:
                raise
            tell(f"trial {self._trial} was given to another worker, as this one gave no sign of life")
        except BaseException:  # such as the SystemExit of a signal's handler; Optuna leaves it as running
            self.study.tell(self._trial, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
            raise
        self.after()

    def __call__(self, trial: "optuna.Trial") -> float:
        """What Optuna calls with every trial."""
        self._trial, self._lost = trial.number, False
        try:
            return self._do(trial)
        except Exception:
            self._lost = trial.study.get_trials(deepcopy=False)[trial.number].state.is_finished()
            raise

    def _do(self, trial: "optuna.Trial") -> float:
        piece = self.pieces.claim(trial, lambda: self.first(trial))
        if piece is None:
            raise _NothingLeft
        try:
            return self.do(trial, piece)
        except InputError as error:
            if not self.fails:
                raise
            trial.set_user_attr("failed", str(error))
            raise _Failed from error


class _Failed(Exception):
    """A piece's own `InputError`, which is noted."""


class _NothingLeft(Exception):
    """Other workers have taken the last pieces meanwhile."""
