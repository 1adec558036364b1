"""Look, race representations, try heads, choose, fit on everything, score the test images once, report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from car_ext.automatic.choice import Candidate, Choice, Chooser
from car_ext.automatic.clock import Clock
from car_ext.automatic.folds import UNMEASURED
from car_ext.automatic.goal import Goal
from car_ext.automatic.heads import Linear, Recipe, fit, portfolio, post_hoc
from car_ext.automatic.outcome import Outcome, facts_of
from car_ext.automatic.promise import promise
from car_ext.automatic.race import Entry, Raced, race
from car_ext.automatic.representation import EVERYTHING
from car_ext.automatic.store import Store
from car_ext.config.config import OPTIONS, Config
from car_ext.datasets import LongTailedData
from car_ext.datasets.split_list import split_list
from car_ext.errors import InputError
from car_ext.machine.kernels import deterministic, threads
from car_ext.machine.memory import keep_freed_memory
from car_ext.run import checkpoint
from car_ext.run.folder import RunFolder
from car_ext.run.lock import alone
from car_ext.training.data import load_data
from car_ext.training.loader import alive_workers
from car_ext.training.progress import Progress
from car_ext.training.summary import summarize

OWN = Recipe("its own head", "balanced_softmax")  # of a trained network
RESERVE = 0.15  # of the time, for what comes after the choice
WEIGHTS = "tf_efficientnet_lite0"


def auto(
    config: Config | str | Path,
    *,
    hours: float | None = None,
    target: str = "worst10",
    out: str | Path | None = None,
    progress: bool = True,
) -> Outcome:
    """The classifier of a folder with the best worst classes, chosen on its training images alone.

    Representations are raced on one fold: pretrained features as they are, the same weights fine-tuned, small networks
    from scratch. On the best one, the heads of `heads.portfolio` are fitted without each fold and measured on it, with
    offsets fitted on the others; the mean of those that are as good as the best is fitted on all training images and
    written as a run, which `export` and `evaluate` take like any other. The test images are scored once, at the end.

    What is found is kept in `out/work`, so that the same call goes on after a break. Without `hours` nothing depends on
    measured time: same seed, same bits at one thread count. With it, the epochs that the time allows are noted there,
    and a repetition that finds them does the same.

    Args:
        config: the job whose data, weights, seed and machine are used; or the data alone.
        hours: that all may take; None for a fixed plan.
        target: as of `Goal.parse`.
        out: folder of the result, itself a run; default: runs/auto-DATA.
        progress: print a line for each thing that is done, on stderr.

    Raises:
        InputError: as of `train`; no class of which two images, or groups, are there; a folder that holds a choice by
            other options, of other images.
    """
    if not isinstance(config, Config):
        config = Config(data=str(config), pretrained="timm", model=WEIGHTS)
    goal = Goal.parse(target)
    folder = Path(out or Path("runs") / f"auto-{Path(config.data).stem}")
    config = dataclasses.replace(config, out=str(folder), resume=False)
    with deterministic(), keep_freed_memory(), alive_workers(), alone(folder):
        data = load_data(dataclasses.replace(config, img_size=None, pretrained=None, tune="full"))[0]
        asked = {**_identity(config, data.fingerprint), "target": target, "hours": hours}
        if done := Outcome.read(folder):
            if done.facts["asked"] != asked:
                raise InputError(
                    f"--out {folder} holds a choice by other options or of other images; give another folder."
                )
            return done
        return _Search(config, goal, folder, hours, progress, data).run(asked)


def _identity(config: Config, fingerprint: str) -> dict[str, Any]:
    """What every feature and head depends on, ready for JSON."""
    kept = [key for key, field in OPTIONS.items() if not field.metadata["changes_result"]]
    options = {key: value for key, value in config.to_dict().items() if key not in kept}
    return {"options": options, "data": fingerprint}


class _Search:
    def __init__(
        self,
        config: Config,
        goal: Goal,
        folder: Path,
        hours: float | None,
        progress: bool,
        data: LongTailedData,
    ) -> None:
        self._config, self._goal, self._folder, self._data = config, goal, folder, data
        self._store = Store(folder / "work", _identity(config, data.fingerprint))
        self._clock = Clock(None if hours is None else 3600 * hours, shown=progress)
        self._recipe_of: dict[str, Recipe] = {}  # of each head that is tried

    def run(self, asked: dict[str, Any]) -> Outcome:
        raced = race(self._config, self._data, self._goal, self._store, self._clock)
        best, targets = raced.best, raced.data.train.targets
        self._cross_fit(best, raced)
        chooser = self._chooser(best, raced)
        candidates, untried = self._candidates(best, raced)
        choice = chooser.choose(candidates)
        self._clock.tell(f"chosen on {best.name}: {choice.name}")
        features = best.representation.of_fold(EVERYTHING, best.epochs)
        finals: dict[str, Linear] = {}
        for recipe in dict.fromkeys(self._recipe_of[name] for name in choice.members):
            finals |= dict(self._variants(recipe, features, np.arange(len(targets)), raced))
        notes = [*raced.notes, *([f"for want of time not tried: {', '.join(untried)}"] if untried else [])]
        return self._written(raced, choice, choice.head(finals), notes, asked)

    def _recipes(self, entry: Entry, raced: Raced) -> list[Recipe]:
        every = portfolio(raced.data.num_classes)
        return [OWN, *every] if entry.epochs else every

    def _cross_fit(self, entry: Entry, raced: Raced) -> None:
        """Trains the winning network without further folds, as long as the time allows."""
        if not entry.epochs:
            return
        folds = np.unique(raced.fold[raced.fold != UNMEASURED]).tolist()
        seconds = entry.representation.seconds_an_epoch() * entry.epochs if self._clock.seconds else 0.0
        for number in folds[1:]:
            # The final network is to come: a quarter longer than one of a fold.
            if self._clock.seconds is not None and self._clock.left < 2.5 * seconds + RESERVE * self._clock.seconds:
                break
            if self._clock.seconds is None and number > 1 and not entry.representation.quick:  # a fixed plan: two folds
                break
            entry.representation.of_fold(number, entry.epochs)
            entry.folds.append(number)
            self._clock.tell(f"{entry.name}: trained without fold {number + 1} of {len(folds)}")

    def _chooser(self, entry: Entry, raced: Raced) -> Chooser:
        targets, groups, classes = raced.data.train.targets, raced.dependence.numbers, raced.data.num_classes
        held = np.flatnonzero(np.isin(raced.fold, entry.folds))
        pairs = np.unique(np.stack([targets, groups], axis=1), axis=0)
        of_class = np.bincount(pairs[:, 0], minlength=classes)
        return Chooser(targets[held], raced.fold[held], groups[held], of_class, self._goal, self._config.seed)

    def _candidates(self, entry: Entry, raced: Raced) -> tuple[list[Candidate], list[str]]:
        """Every head without each fold, on the images of that fold; and the names of those there is no time for."""
        held = np.flatnonzero(np.isin(raced.fold, entry.folds))
        found: list[Candidate] = []
        recipes, untried = self._recipes(entry, raced), []
        for number, recipe in enumerate(recipes):
            if found and self._clock.left < RESERVE * (self._clock.seconds or 0) + self._final_seconds(entry):
                untried = [recipe.name for recipe in recipes[number:]]
                break
            piece = self._store.piece(
                f"{entry.name}-{recipe.name}".replace(" ", "-"), self._measuring(entry, raced, recipe)
            )
            found += [Candidate(name, logits) for name, logits in piece.items()]
            self._recipe_of |= dict.fromkeys(piece, recipe)
            self._clock.tell(f"{recipe.name}: fitted without {len(entry.folds)} folds")
        assert all(len(candidate.logits) == len(held) for candidate in found)
        return found, untried

    def _measuring(self, entry: Entry, raced: Raced, recipe: Recipe) -> Any:
        def measured() -> dict[str, np.ndarray]:
            held = np.flatnonzero(np.isin(raced.fold, entry.folds))
            logits: dict[str, np.ndarray] = {}
            for fold in entry.folds:
                piece = entry.representation.of_fold(fold, entry.epochs)
                own = np.flatnonzero(raced.fold[held] == fold)
                for name, head in self._variants(recipe, piece, np.flatnonzero(raced.fold != fold), raced):
                    logits.setdefault(name, np.empty((len(held), raced.data.num_classes), np.float32))
                    logits[name][own] = head(piece["features"][held[own]])
            return logits

        return measured

    def _variants(
        self, recipe: Recipe, piece: dict[str, np.ndarray], rows: np.ndarray, raced: Raced
    ) -> list[tuple[str, Linear]]:
        targets = raced.data.train.targets
        if recipe is OWN:
            return [(OWN.name, Linear(piece["weight"], piece["bias"]))]
        features = piece["features"] if len(rows) == len(targets) else piece["features"][rows]
        with threads(self._config.threads or torch.get_num_threads()):
            head = fit(recipe, features, targets[rows], raced.data.num_classes, self._config.seed)
        counts = np.bincount(targets[rows], minlength=raced.data.num_classes)
        return [*post_hoc(recipe, head, np.maximum(counts, 1))]

    def _final_seconds(self, entry: Entry) -> float:
        return entry.representation.seconds_an_epoch() * entry.epochs if entry.epochs else 0.0

    def _written(
        self, raced: Raced, choice: Choice, head: Linear, notes: Sequence[str], asked: dict[str, Any]
    ) -> Outcome:
        """The run of the chosen head, its summary on the test images and the account of the choice."""
        best = raced.best
        job = best.representation.job_of_everything(best.epochs)
        layer = torch.nn.Linear(*head.weight.shape[::-1])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(head.weight))
            layer.bias.copy_(torch.from_numpy(head.bias))
        job.learner.result.head = layer.to(job.machine.device)
        folder = RunFolder(self._folder)
        folder.start(job.config.to_dict(), split_list(job.data))
        checkpoint.write(self._folder, checkpoint.KEPT, max(best.epochs, 1), *job.keepsake())
        test_images = np.bincount(job.data.test.targets, minlength=job.data.num_classes)
        promised = promise(choice.row.measured, test_images, self._goal, self._config.seed)
        self._clock.tell("scoring the test images, once")
        with threads(job.threads), Progress(job.config, 1, 0, shown=False) as report:
            made = summarize(job, report, best.epochs)
        assert made, "there is one process"
        summary, findings, predictions = made
        outcome = facts_of(raced, choice, self._goal, promised, summary, notes, self._clock.spent, asked, self._folder)
        folder.write_findings(findings)
        folder.write_predictions(predictions)
        outcome.write(self._folder)
        folder.write_summary({**summary, "method": f"auto: {choice.name}"})
        return outcome
