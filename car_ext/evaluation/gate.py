"""What one evaluation lost against another on the same images, and whether that is too much."""

from collections.abc import Mapping
from typing import Any

from car_ext.errors import InputError
from car_ext.metrics.counts import worst_first
from car_ext.metrics.vocabulary import scores
from car_ext.values import convert

EVERY_CLASS = "class"
NAMED = 10  # classes in a sentence
ROUNDING = 1e-9  # of differences of fractions


def gate_keys() -> dict[str, str]:
    """Word of a gate to key of a summary."""
    return {score.gate: score.key for score in scores() if score.gate}


def parse_gate(text: str) -> dict[str, float]:
    """`worst=0.02,overall=0.005` as {"worst": 0.02, "overall": 0.005}: fractions by which scores may fall.

    Names are those of `gate_keys`, and `class` for the accuracy of any class.

    Raises:
        InputError: another name, a name given twice, or a number outside [0, 1].
    """
    gate: dict[str, float] = {}
    known = [*gate_keys(), EVERY_CLASS]
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in known or name in gate:
            raise InputError(f"--gate {text}: {name!r} must be one of {', '.join(known)}, each once.")
        gate[name] = convert(value, float, f"--gate {name}")
        if not 0 <= gate[name] <= 1:
            raise InputError(f"--gate {name} is {value}: give a fraction from 0 to 1, such as 0.02.")
    return gate


def differences(first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a later evaluation less those of the first, with the keys of `metrics.summarize`.

    Returns:
        The scores of `gate_keys` and "per_class_accuracy", class name to difference; None where either is undefined.
    """
    per_class = {
        name: _less(later["per_class_accuracy"].get(name), before)
        for name, before in first["per_class_accuracy"].items()
    }
    return {key: _less(later[key], first[key]) for key in gate_keys().values()} | {"per_class_accuracy": per_class}


def broken(
    gate: Mapping[str, float], difference: Mapping[str, Any], class_counts: Mapping[str, int] | None = None
) -> list[str]:
    """A sentence for each score of the gate that fell by more than allowed, naming the classes that fell, most first.

    Args:
        gate: as of `parse_gate`.
        difference: as of `differences`.
        class_counts: training images a class, which order classes that fell alike as `worst_first` does.
    """
    falls = {name: -change for name, change in difference["per_class_accuracy"].items() if change and change < 0}
    names, counts = list(falls), [(class_counts or {}).get(name, 0) for name in falls]
    largest = [names[label] for label in worst_first([-falls[name] for name in names], counts, names)]
    classes = ", ".join(f"{name!r} by {falls[name]:.4f}" for name in largest[:NAMED])
    if len(largest) > NAMED:
        classes += f" and {len(largest) - NAMED} more"
    sentences = []
    for name, allowed in gate.items():
        if name == EVERY_CLASS:
            fall = max(falls.values(), default=0.0)
            what = "the accuracy of a class"
        else:
            key = gate_keys()[name]
            fall, what = -(difference[key] or 0.0), key.replace("_", " ")
        if fall > allowed + ROUNDING:
            sentences.append(f"{what} fell by {fall:.4f}, more than {allowed:g}; classes that fell: {classes}")
    return sentences


def _less(later: float | None, first: float | None) -> float | None:
    return None if later is None or first is None else later - first
