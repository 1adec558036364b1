"""What one model lost against another, and whether chance may have it so."""

from collections.abc import Mapping
from typing import Any

from car_ext.errors import InputError
from car_ext.evaluation.outcome import Outcome, compared, places
from car_ext.evaluation.rules import EVERY_CLASS, ONE_CLASS, class_of, gate_keys
from car_ext.evaluation.significance import Paired, Side, holm, p_of_fall
from car_ext.evaluation.verdict import ROUNDING, Check, most, quoted
from car_ext.metrics.vocabulary import scores
from car_ext.text import nfc


def differences(first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a later evaluation less those of the first, with the keys of `metrics.summarize`.

    Returns:
        The scores of `gate_keys` and "per_class_accuracy", class name to difference; None where either is undefined.
    """
    per_class = {
        name: _less(later["per_class_accuracy"].get(name), before)
        for name, before in first["per_class_accuracy"].items()
    }
    changes = {key: _less(later.get(key), first.get(key)) for key in gate_keys().values()}
    return changes | {"per_class_accuracy": per_class}


class Losses:
    """What one model lost against another, each fall with the chance of it.

    Args:
        first: the one that falls are counted from.
        later: the other.
        untested: any fall counts.
        level: p-values up to which a fall counts.
    """

    def __init__(self, first: Outcome, later: Outcome, untested: bool, level: float) -> None:
        self._first, self._later, self._level = first, later, level
        self._names, self._pair = compared(first, later)
        self.test = "none" if untested else "paired" if isinstance(self._pair, Paired) else "unpaired"
        change = differences(first.summary, later.summary)
        self._change = change
        self._falls = {nfc(name): -of for name, of in change["per_class_accuracy"].items() if of and of < 0}

    def check(self, name: str, allowed: float) -> Check:
        """The line of a gate that lets `name` fall by `allowed`.

        Raises:
            InputError: a class that the first model does not know, or a score that cannot be tested.
        """
        if name == EVERY_CLASS:
            return self._any_class(allowed)
        if name.startswith(ONE_CLASS):
            known = class_of(name, self._first.summary["per_class_accuracy"], "--gate")
            change, what = self._change["per_class_accuracy"][known], f"the accuracy of {quoted(known)}"
        else:
            key = gate_keys()[name]
            change, what = self._change[key], key.replace("_", " ")
        if change is None:
            return self._said(name, None, allowed, None, True, f"{what} is not defined on both sides")
        fall = 0.0 - change  # no -0
        p_value = None if fall <= 0 or self.test == "none" else self._p_value(name, fall)
        if fall <= allowed + ROUNDING:
            how = f"fell by {fall:.4f}, no more than {allowed:g}" if fall > 0 else f"did not fall ({change:+.4f})"
            return self._said(name, fall, allowed, p_value, True, f"{what} {how}")
        return self._broken(name, what, fall, allowed, p_value, self._falls)

    def _any_class(self, allowed: float) -> Check:
        what = "the accuracy of a class"
        beyond = {name: fall for name, fall in self._falls.items() if fall > allowed + ROUNDING}
        if not beyond:
            largest = max(self._falls.values(), default=0.0)
            said = f"no class fell by more than {allowed:g}; the most is {largest:.4f}"
            return self._said(EVERY_CLASS, largest, allowed, None, True, said)
        if self.test == "none":
            return self._broken(EVERY_CLASS, what, max(beyond.values()), allowed, None, beyond)
        adjusted = dict(zip(self._names, holm(self._pair.p_values()), strict=True))
        real = {name: fall for name, fall in beyond.items() if adjusted[name] <= self._level} or beyond
        smallest = float(min(adjusted[name] for name in beyond))
        return self._broken(EVERY_CLASS, what, max(real.values()), allowed, smallest, real)

    def _p_value(self, name: str, fall: float) -> float:
        if name.startswith(ONE_CLASS):
            return float(self._pair.p_values()[self._names.index(name.removeprefix(ONE_CLASS))])
        if gate_keys()[name] == "overall_accuracy":
            return self._pair.p_value()
        (score,) = (score for score in scores() if score.gate == name)
        try:
            return p_of_fall(score, self._pair, [self._side(side) for side in (self._first, self._later)], fall)
        except AttributeError as error:
            raise InputError(
                f"--gate {name}: this score is no function of the classes' accuracies, which is all that the test of "
                "a fall can draw; give --gate-test none."
            ) from error

    def _side(self, outcome: Outcome) -> Side:
        return Side(places(outcome.class_names, self._names), outcome.class_counts)

    def _broken(
        self, name: str, what: str, fall: float, allowed: float, p_value: float | None, falls: Mapping[str, float]
    ) -> Check:
        said = f"{what} fell by {fall:.4f}, more than {allowed:g}"
        how = "" if self.test == "paired" else f", {self.test}"
        if p_value is not None and p_value > self._level:
            said += f", but so it may by chance (p = {p_value:.2g}{how}, above {self._level:g})"
            return self._said(name, fall, allowed, p_value, True, said)
        said += "" if p_value is None else f" (p = {p_value:.2g}{how})"
        return self._said(name, fall, allowed, p_value, False, f"{said}; classes that fell: {self._listed(falls)}")

    def _listed(self, falls: Mapping[str, float]) -> str:
        trained = dict(zip(self._later.class_names, self._later.class_counts.tolist(), strict=True))
        names, counts = list(falls), [trained.get(name, 0) for name in falls]
        return most(names, [-falls[name] for name in names], counts, lambda fall: f"by {-fall:.4f}")

    def _said(
        self, name: str, fall: float | None, allowed: float, p_value: float | None, passed: bool, sentence: str
    ) -> Check:
        return Check(f"fall of {name} <= {allowed:g}", fall, allowed, p_value, passed, sentence)


def _less(later: float | None, first: float | None) -> float | None:
    return None if later is None or first is None else later - first
