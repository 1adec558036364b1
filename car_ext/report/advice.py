"""What to look at or to try next, in words: rules of thumb, each no more than docs/evidence.md has measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import yaml

from car_ext.metrics.counts import mean
from car_ext.report.cells import percent
from car_ext.report.runs import Run

FEW_IMAGES = 50  # test images of a class below which its accuracy moves by over 2 points with one image
MANY_CLASSES = 50  # from which on the published moving average of CAR forgets
BEHIND = 0.1  # by how much the rarest classes trail where something is to be done about them
FITTED = 0.8  # accuracy of the worst class on its training images that says that training has reached all classes
UNFITTED = 0.5
TOO_SURE = 0.05  # mean confidence less accuracy
WITH_PRIOR = ("balanced_softmax", "logit_adjusted", "lade")  # losses that have the class prior in them


class Facts(NamedTuple):
    """What the rules ask of a run."""

    classes: int
    behind: float | None  # overall accuracy less that of the rarest three
    images: int | None  # test images of the worst class
    trained: float | None  # accuracy of the worst class on the training images
    worst: float | None  # and of the worst class on the test images
    too_sure: float | None  # mean confidence less accuracy
    loss: str | None  # None where the run's options are not known
    prior: bool
    car: bool
    car_options: Mapping[str, Any]
    notes: int  # on the data

    @property
    def plain(self) -> bool:
        """Whether it was trained with cross-entropy."""
        return self.loss == "ce"

    @property
    def trails(self) -> bool:
        return self.behind is not None and self.behind > BEHIND

    @property
    def fitted(self) -> bool:
        return self.trained is not None and self.trained >= FITTED

    @classmethod
    def of(cls, run: Run) -> "Facts":
        worst, config = run.worst_class, run.config
        loss = config.get("loss")
        rarest = np.lexsort((-np.arange(run.class_counts.size), run.class_counts))[:3]
        tail = mean(run.accuracies[rarest])
        word = next(
            (word for word in str(config.get("regularizer")).split("+") if word.partition(":")[0] == "car"), None
        )
        return cls(
            classes=len(run.worst_first),
            behind=None if tail is None or run.overall is None else run.overall - tail,
            images=None if worst is None or run.test_counts is None else int(run.test_counts[worst]),
            trained=run.summary.get("train_worst_class_accuracy"),
            worst=None if worst is None else float(run.accuracies[worst]),
            too_sure=_too_sure(run),
            loss=loss,
            prior=str(loss).partition(":")[0].partition("+")[0] in WITH_PRIOR,
            car=word is not None,
            car_options=_car_options(config.get("car"), word or ""),
            notes=len(run.summary.get("data_notes") or ()),
        )


def _car_options(options: Any, word: str) -> dict[str, Any]:
    """The options of CAR, over which go those of its word, such as `car:alpha=0.2,prior=1`."""
    given = (pair.partition("=")[::2] for pair in word.partition(":")[2].split(",") if pair)
    return {**(options if isinstance(options, Mapping) else {}), **{key: yaml.safe_load(value) for key, value in given}}


class Rule(NamedTuple):
    """`text` has {} for `number`, so that runs can share the sentence; between backticks stands what to type."""

    applies: Callable[[Facts], object]
    text: Callable[[Facts], str]
    number: Callable[[Facts], str] = lambda facts: ""


RULES = (
    Rule(
        lambda facts: facts.notes,
        lambda facts: (
            "Look at the notes on the data first (under Setup): what was left out, cut or found twice there moves "
            "every score here."
        ),
    ),
    Rule(
        lambda facts: facts.images is not None and facts.images < FEW_IMAGES,
        lambda facts: (
            "The worst class has {} test images, so its accuracy is noise: "
            + (
                "watch the worst tenth and the number of classes at 0 % in its place."
                if facts.classes > 10
                else "read its interval, and compare several seeds before one run is called better."
            )
        ),
        lambda facts: str(facts.images),
    ),
    Rule(
        lambda facts: facts.trained is not None and facts.trained < UNFITTED,
        lambda facts: (
            "On its own training images the worst class is right {} % of the time: training has not reached every "
            "class. Longer training took cross-entropy itself from 1 to 17 % on the worst class of CIFAR-10, and what "
            "CAR adds got smaller with it: compare methods where training fits."
        ),
        lambda facts: percent(facts.trained),
    ),
    Rule(
        lambda facts: facts.fitted and facts.worst is not None and facts.trained and facts.worst < facts.trained / 2,
        lambda facts: (
            "The training images of every class are learned, yet the worst class on the test images stands at {} %: "
            "the tail is over-fitted. Networks like that are where a class prior in the loss did most."
        ),
        lambda facts: percent(facts.worst),
    ),
    Rule(
        lambda facts: facts.plain and facts.trails,
        lambda facts: (
            "The three rarest classes lie {} points below the overall accuracy. "
            + (
                "CAR is in; a class prior did more where both were measured: "
                if facts.car
                else "First the class prior: "
            )
            + "`car-ext export RUN --logit-adjust 1.2` costs no training; `--loss balanced_softmax`, or `--stage2 RUN "
            "--loss logit_adjusted:tau=1.5 --epochs 20` on this network, trains with it. Then, where the training "
            "images are fitted, CAR with the prior: `--car-prior 1 --car-alpha 0.2`."
        ),
        lambda facts: f"{100 * (facts.behind or 0):.0f}",
    ),
    Rule(
        lambda facts: facts.prior and facts.car and not facts.car_options.get("prior"),
        lambda facts: (
            "CAR on plain logits beside a loss with the class prior took back what the prior gave the rare classes: "
            "give CAR the prior, too (`--car-prior 1 --car-alpha 0.2`), or leave it out."
        ),
    ),
    Rule(
        lambda facts: facts.prior and not facts.car and facts.fitted and facts.trails,
        lambda facts: (
            "The class prior is in, and the three rarest classes still lie {} points below the overall accuracy: a "
            "larger tau (`--loss logit_adjusted:tau=1.25` to 1.5), or CAR with the prior (`--car-prior 1 --car-alpha "
            "0.2`), which did about as much where training fits."
        ),
        lambda facts: f"{100 * (facts.behind or 0):.0f}",
    ),
    Rule(
        lambda facts: facts.car and facts.classes >= MANY_CLASSES and facts.car_options.get("absent") == "decay",
        lambda facts: (
            "With many classes CAR's moving average forgets those that a batch lacks: `--car-absent hold --car-alpha "
            "1` nearly doubled the little that CAR did for the few-shot ones of 100."
        ),
    ),
    Rule(
        lambda facts: (
            facts.car
            and facts.plain
            and facts.fitted
            and facts.classes < MANY_CLASSES
            and facts.car_options.get("gamma", 1) < 1
        ),
        lambda facts: (
            "Training images are fitted, so CAR's gate is nearly shut with its margin of {}: on digits `--car-gamma 2` "
            "added 10 points to the worst class."
        ),
        lambda facts: f"{facts.car_options['gamma']:g}",
    ),
    Rule(
        lambda facts: facts.too_sure is not None and facts.too_sure > TOO_SURE,
        lambda facts: (
            "The confidence lies {} points above the accuracy on average (Calibration): before a threshold on it is "
            "set, export with `--temperature auto`, which is fitted on held-out images."
        ),
        lambda facts: f"{100 * (facts.too_sure or 0):.0f}",
    ),
)


def advice(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Each sentence that applies, with the names of the runs to which it does."""
    found: dict[str, list[tuple[str, str]]] = {}
    for rule in RULES:
        for run, facts in zip(runs, map(Facts.of, runs), strict=True):
            if rule.applies(facts):
                found.setdefault(rule.text(facts), []).append((run.name, rule.number(facts)))
    return [
        (text.replace("{}", _and(number for _, number in of)), [name for name, _ in of]) for text, of in found.items()
    ]


def _and(numbers: Iterable[str]) -> str:
    """In the order of the runs; one that all share once."""
    every = [*numbers]
    *most, last = every[:1] if len(set(every)) == 1 else every
    return f"{', '.join(most)} and {last}" if most else last


def _too_sure(run: Run) -> float | None:
    """Mean confidence less accuracy; None without findings or images."""
    if run.findings is None or not (count := run.findings.reliability["count"]).sum():
        return None
    filled = count > 0
    gap = run.findings.reliability["confidence"] - run.findings.reliability["accuracy"]
    return float((count[filled] * gap[filled]).sum() / count.sum())
