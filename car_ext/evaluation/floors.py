"""Whether a model reaches what is required of it."""

from collections.abc import Mapping
from typing import Any

from car_ext.evaluation.rules import EVERY_CLASS, ONE_CLASS, class_of, required, sign
from car_ext.evaluation.verdict import ROUNDING, Check, most, quoted


def floor(name: str, limit: float, summary: Mapping[str, Any]) -> Check:
    """The line of `--require` that wants `name` to reach `limit`.

    Raises:
        InputError: a class that the model does not know.
    """
    side = sign(name)
    check = f"{name} {side} {limit:g}"
    if name == EVERY_CLASS:
        return _every_class(check, limit, summary)
    if name.startswith(ONE_CLASS):
        known = class_of(name, summary["per_class_accuracy"], "--require")
        value, what = summary["per_class_accuracy"][known], f"the accuracy of {quoted(known)}"
    else:
        score = required()[name]
        value, what = score.of(summary), score.key.rpartition(".")[2].replace("_", " ")
    if value is None:
        return Check(check, None, limit, None, False, f"{what} is not defined on these images, so it reaches nothing")
    passed = value >= limit - ROUNDING if side == ">=" else value <= limit + ROUNDING
    words = {(">=", True): "at least", (">=", False): "less than", ("<=", True): "at most", ("<=", False): "more than"}
    return Check(check, value, limit, None, passed, f"{what} is {value:.4f}, {words[side, passed]} {limit:g}")


def _every_class(check: str, limit: float, summary: Mapping[str, Any]) -> Check:
    accuracies = summary["per_class_accuracy"]
    measured = {name: value for name, value in accuracies.items() if value is not None}
    below = {name: value for name, value in measured.items() if value < limit - ROUNDING}
    lowest, said = min(measured.values(), default=None), []
    if below:
        counts = [summary["class_counts"][name] for name in below]
        listed = most(list(below), list(below.values()), counts, lambda value: f"{value:.4f}")
        said.append(f"the accuracy of a class is less than {limit:g}: {listed}")
    if unmeasured := len(accuracies) - len(measured):
        said.append(f"{unmeasured} of {len(accuracies)} classes have no test image, so they reach nothing")
    return Check(check, lowest, limit, None, not said, "; ".join(said) or f"every class is at least {limit:g}")
