"""Which features: pretrained weights as they are, fine-tuned, or a small network from scratch, raced on one fold."""

from dataclasses import dataclass, field

import numpy as np
import torch

from car_ext.automatic.clock import Clock
from car_ext.automatic.dependence import Dependence, dependence
from car_ext.automatic.folds import UNMEASURED, deal
from car_ext.automatic.goal import Goal, Measured, Resampling
from car_ext.automatic.heads import Linear, Recipe, fit
from car_ext.automatic.representation import EVERYTHING, FEWEST_EPOCHS, MOST_EPOCHS, Kind, Representation
from car_ext.automatic.store import Store
from car_ext.config.config import Config
from car_ext.datasets import LongTailedData
from car_ext.datasets.reading import stack
from car_ext.datasets.twins import SIDE
from car_ext.errors import InputError
from car_ext.methods.offsets import shrunken

FEW = 5000  # images, up to which batches are small
TINY, SMALL, PHOTOGRAPH = 12, 64, 128  # pixels: of digits, of small images, and that photographs are brought to
QUICK = Recipe("logit-adjusted 1.5", "logit_adjusted:tau=1.5")  # the head by which frozen features are compared
SHORT, LONG = 10, 30  # epochs of the two rounds without a limit of time,
FEW_STEPS, MANY_STEPS = 200, 600  # and steps at least, which matters in small folders
CAR_TOO = "balanced_softmax", "car:alpha=0.2,prior=1"
FIRST, SECOND = 0.06, 0.3  # of the time: for each network of the first round, and for the one of the second
WITHIN = 0.1  # of the best score, for a network to be trained longer


@dataclass
class Entry:
    """A representation in the race.

    Attributes:
        representation: which.
        epochs: its network is trained for; 0 of frozen features.
        score: the mean of the goal and of the balanced accuracy on the first fold, shrunken.
        balanced: accuracy there.
        folds: that are measured.
    """

    representation: Representation
    epochs: int
    score: float = 0.0
    balanced: float = 0.0
    folds: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.representation.kind.name + (f", {self.epochs} epochs" if self.epochs else "")


@dataclass(frozen=True)
class Raced:
    """What a race finds.

    Attributes:
        entries: all, the best first.
        data: listed and decoded for the winner.
        fold: (N,) of each training image.
        dependence: its groups.
        notes: sentences on what was left out.
    """

    entries: list[Entry]
    data: LongTailedData
    fold: np.ndarray
    dependence: Dependence
    notes: list[str]

    @property
    def best(self) -> Entry:
        return self.entries[0]


def kinds(config: Config, stored: int, images: int) -> list[Kind]:
    """What is raced, for images of a stored side in pixels; without `config.pretrained` from scratch alone.

    Args:
        config: the job.
        stored: side.
        images: in the training set.
    """
    side = config.img_size
    scratch = {"pretrained": None, "tune": "full", "head": "linear", "loss": "balanced_softmax", "weight_decay": 0.05}
    schedule = {
        "optimizer": "adamw",
        "lr": 3e-3,
        "batch_size": 128 if images > FEW else 64,
        "layer_decay": None,
        "normalize": "auto",
    }
    found = []
    if config.pretrained:
        wide = side or (PHOTOGRAPH if stored <= PHOTOGRAPH else min(stored, 224))
        sides = sorted({wide, *([PHOTOGRAPH] if not side and wide > PHOTOGRAPH else [])})
        found += [
            Kind(f"frozen {config.model} {pixels} px", {"tune": "head", "img_size": pixels, "head": "linear"}, False)
            for pixels in sides
        ]
        tuned = {"tune": "full", "loss": "balanced_softmax", "batch_size": 32, "optimizer": "adamw", "lr": 1e-3}
        tuned |= {"layer_decay": 0.75, "weight_decay": 0.05, "decay_norm": False, "img_size": side or _near(stored)}
        found.append(Kind(f"fine-tuned {config.model} {tuned['img_size']} px", tuned, True))
    small = min(stored, 32)
    for model in ("convnet",) if small <= TINY else ("cifar_resnet20", "cifar_resnet20x2"):
        options = {**scratch, **schedule, "model": model, "img_size": small}
        found.append(Kind(f"{model} from scratch {small} px", options, True))
    return found


def _near(stored: int) -> int:
    """The side that weights are fine-tuned at: twice that of small images, as far as it is of use."""
    return min(max(SMALL, 32 * round(stored / 32)), PHOTOGRAPH)


def race(config: Config, data: LongTailedData, goal: Goal, store: Store, clock: Clock) -> Raced:
    """Each kind on the first fold; then the best trained one for longer, where it can still win.

    Args:
        config: the job.
        data: its data, as they are stored.
        goal: of the choice.
        store, clock: of the search.

    Raises:
        InputError: no fold can be measured, or weights that are asked for cannot be had.
    """
    notes: list[str] = []
    targets = data.train.targets
    offered = kinds(config, data.image_size, len(targets))
    frozen = [
        Representation(kind, config, np.zeros(len(targets)), store, clock) for kind in offered if not kind.trained
    ]
    features = None
    entries = []
    for one in frozen:
        try:
            features = one.of_fold(EVERYTHING)["features"]
        except InputError as error:
            if not config.pretrained == "timm":
                raise
            notes.append(f"pretrained weights are not tried: {error}")
            offered = [kind for kind in offered if not kind.options.get("pretrained", config.pretrained)]
            break
        entries.append(Entry(one, 0))
        clock.tell(f"features of {one.kind.name}: {features.shape[0]:,} images, {features.shape[1]:,} numbers each")
    grey = store.piece("grey", lambda: {"grey": _grey(data)})["grey"]
    depends = dependence(data.train, features, grey, config.groups)
    fold = deal(targets, depends.numbers, config.split_seed)
    if not (fold != UNMEASURED).any():
        raise InputError(
            f"no class of {data.name} has two images, or groups, so nothing can be measured; add images, or train with "
            "--loss balanced_softmax."
        )
    grouped = len(np.unique(depends.numbers))
    clock.tell(
        f"{len(np.unique(fold[fold != UNMEASURED]))} folds of {(fold != UNMEASURED).sum():,} images"
        + (f" in {grouped:,} groups: {depends.source}" if depends.source else "")
    )
    folds = np.unique(fold[fold != UNMEASURED]).tolist()
    judge = _Judge(targets, fold, folds[0], depends.numbers, data.num_classes, goal)
    for entry in entries:
        judge.frozen(entry, config.seed)
        entry.folds = folds
        clock.tell(f"{entry.name}: balanced {100 * entry.balanced:.1f} on the first fold")
    trained = [kind for kind in offered if kind.trained]
    for kind in trained:
        one = Representation(kind, config, fold, store, clock)
        epochs = _epochs(one, clock, FIRST, SHORT, FEW_STEPS)
        if epochs is None:
            notes.append(f"{kind.name} is not tried: {FEWEST_EPOCHS} epochs would take more than the time allows")
            continue
        entry = Entry(one, epochs, folds=folds[:1])
        judge.trained(entry)
        entries.append(entry)
        one.forget()
        clock.tell(f"{entry.name}: balanced {100 * entry.balanced:.1f} on the first fold")
    entries.sort(key=lambda entry: -entry.score)
    if not entries:
        raise InputError("the time is too short for any representation; give more --hours, or --pretrained FILE.")
    longer = next((entry for entry in entries if entry.epochs), None)
    if longer is not None and longer.score >= entries[0].score - WITHIN:
        found = _longer(longer, judge, clock, notes)
        entries += [found, *_with_car(found, config, fold, judge, store, clock)] if found else []
        entries.sort(key=lambda entry: -entry.score)
    return Raced(entries, data, fold, depends, notes)


def _longer(entry: Entry, judge: "_Judge", clock: Clock, notes: list[str]) -> Entry | None:
    epochs = _epochs(entry.representation, clock, SECOND, LONG, MANY_STEPS)
    if epochs is None or epochs < 1.5 * entry.epochs:
        notes.append(f"{entry.name} is not trained for longer: the time does not allow it")
        return None
    found = Entry(entry.representation, epochs, folds=list(entry.folds))
    judge.trained(found)
    clock.tell(f"{found.name}: balanced {100 * found.balanced:.1f} on the first fold")
    return found


def _with_car(
    entry: Entry, config: Config, fold: np.ndarray, judge: "_Judge", store: Store, clock: Clock
) -> list[Entry]:
    """The same with CAR beside its loss, where the time holds it twice: on the fold, and on everything."""
    kind, seconds = entry.representation.kind, 0.0
    if clock.seconds is not None:
        seconds = entry.epochs * entry.representation.seconds_an_epoch()
    if clock.left < 3.5 * seconds:
        return []
    loss, regularizer = CAR_TOO
    other = Kind(f"{kind.name} with CAR", {**kind.options, "loss": loss, "regularizer": regularizer}, True)
    found = Entry(Representation(other, config, fold, store, clock), entry.epochs, folds=list(entry.folds))
    judge.trained(found)
    clock.tell(f"{found.name}: balanced {100 * found.balanced:.1f} on the first fold")
    return [found]


def _epochs(one: Representation, clock: Clock, share: float, free: int, steps: int) -> int | None:
    """That a share of the time holds; without a limit a fixed number, and more of few steps; None where too few fit."""
    if clock.seconds is None:
        return max(free, min(MOST_EPOCHS, -(-steps // one.steps_an_epoch)))
    epochs = one.epochs_within(share * clock.seconds)
    return epochs if epochs >= FEWEST_EPOCHS else None


class _Judge:
    """Scores representations on the images of one fold."""

    def __init__(
        self, targets: np.ndarray, fold: np.ndarray, number: int, groups: np.ndarray, classes: int, goal: Goal
    ) -> None:
        self._targets, self._number, self._classes, self._goal = targets, number, classes, goal
        self._rest, self._held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        self._resampling = Resampling(targets[self._held], groups[self._held], classes, 0)

    def frozen(self, entry: Entry, seed: int) -> None:
        piece = entry.representation.of_fold(self._number)["features"]
        head = fit(QUICK, piece[self._rest], self._targets[self._rest], self._classes, seed)
        self._judge(entry, head, piece)

    def trained(self, entry: Entry) -> None:
        piece = entry.representation.of_fold(self._number, entry.epochs)
        self._judge(entry, Linear(piece["weight"], piece["bias"]), piece["features"])

    def _judge(self, entry: Entry, head: Linear, features: np.ndarray) -> None:
        targets = self._targets[self._held]
        correct = head(features[self._held]).argmax(axis=1) == targets
        measured = Measured.of(correct, targets, self._classes, self._resampling)
        seen = measured.images > 0
        balanced = float(shrunken(measured.right, measured.images)[seen].mean())
        entry.balanced = float(np.nanmean(measured.accuracies))
        entry.score = (measured.score(self._goal) + balanced) / 2


def _grey(data: LongTailedData) -> np.ndarray:
    """(N, 32, 32) float32 of the training images."""
    found = []
    for start in range(0, len(data.train), 512):
        pixels = stack(data.train.images, np.arange(start, min(start + 512, len(data.train))))
        grey = torch.from_numpy(pixels.astype(np.float32).mean(axis=3))[:, None]
        found.append(torch.nn.functional.interpolate(grey, (SIDE, SIDE), mode="area")[:, 0].numpy())
    return np.concatenate(found)
