"""What `--gate` and `--require` say: names of scores and classes, each with a limit."""

from collections.abc import Iterable

import numpy as np

from car_ext.errors import InputError, closest
from car_ext.metrics.vocabulary import Score, scores
from car_ext.text import nfc, printable
from car_ext.values import convert

EVERY_CLASS = "class"
ONE_CLASS = "class:"
TESTS = ("paired", "none")
LEVEL = 0.05


def gate_keys() -> dict[str, str]:
    """Word of a gate to key of a summary."""
    return {score.gate: score.key for score in scores() if score.gate}


def required() -> dict[str, Score]:
    """What `--require` may name: every score, by its word in a gate or else by the last part of its key."""
    return {score.gate or score.key.rpartition(".")[2]: score for score in scores()}


def parse_gate(given: str | Iterable[str]) -> dict[str, float]:
    """`worst=0.02,overall=0.005` as {"worst": 0.02, "overall": 0.005}: fractions by which scores may fall.

    Names are those of `gate_keys`, `class` for the accuracy of any class, and `class:NAME` for that of one.

    Raises:
        InputError: another name, a name given twice, or a number outside [0, 1].
    """
    gate: dict[str, float] = {}
    for word in _words("--gate", given, ("=",)):
        text, _, value = word.rpartition("=")
        name = _add("--gate", gate, text, value, gate_keys())
        if not 0 <= gate[name] <= 1:
            raise InputError(f"--gate {name} is {value}: give a fraction from 0 to 1, such as 0.02.")
    return gate


def parse_require(given: str | Iterable[str]) -> dict[str, float]:
    """`worst>=0.6,class:dog>=0.8,ece<=0.1` as name to limit.

    Names are those of `required`, `class` for the accuracy of every class, and `class:NAME` for that of one.

    Raises:
        InputError: another name, a name given twice, a number that is none, or a limit on the wrong side.
    """
    limits: dict[str, float] = {}
    for word in _words("--require", given, (">=", "<=")):
        side = ">=" if word.rfind(">=") > word.rfind("<=") else "<="
        text, _, value = word.rpartition(side)
        name = _add("--require", limits, text, value, required())
        if side != sign(name):
            better = "better" if side == "<=" else "worse"
            raise InputError(f"--require {word}: more of {name} is {better}; write {name}{sign(name)}{value.strip()}.")
    return limits


def sign(name: str) -> str:
    """On which side of its limit a score is good."""
    one = required().get(name)
    return ">=" if one is None or one.more_is_better else "<="


def class_of(name: str, known: Iterable[str], option: str) -> str:
    """The class of `class:NAME` as a summary spells it.

    Raises:
        InputError: there is none.
    """
    wanted = name.removeprefix(ONE_CLASS)
    spelled = {nfc(own): own for own in known}
    if wanted not in spelled:
        raise InputError(
            f"{option} {name}: the model knows no class {printable(wanted)!r}{closest(wanted, spelled) or '.'}"
        )
    return spelled[wanted]


def _words(option: str, text: str | Iterable[str], signs: tuple[str, ...]) -> list[str]:
    """What commas part; a part without a sign belongs to the next, as a class may have commas in its name."""
    words: list[str] = []
    for given in [text] if isinstance(text, str) else text:
        begun: list[str] = []
        for part in given.split(","):
            begun.append(part)
            if any(sign in part for sign in signs):
                words.append(",".join(begun))
                begun = []
        if begun:
            example = "worst=0.02" if signs == ("=",) else "worst>=0.6"
            raise InputError(f"{option} {given}: {','.join(begun)!r} says no limit; write it as in {example}.")
    return words


def _add(option: str, limits: dict[str, float], text: str, value: str, known: Iterable[str]) -> str:
    """Notes a limit under its name, of a class in composed form, which is returned."""
    name, words = nfc(text.strip()), [*known, EVERY_CLASS]
    one_class = name.startswith(ONE_CLASS) and name != ONE_CLASS
    if not (name in words or one_class) or name in limits:
        raise InputError(f"{option} {name}: {name!r} must be one of {', '.join(words)} or {ONE_CLASS}NAME, each once.")
    limits[name] = convert(value, float, f"{option} {name}")
    if not np.isfinite(limits[name]):
        raise InputError(f"{option} {name} is {value}: give a finite number.")
    return name
