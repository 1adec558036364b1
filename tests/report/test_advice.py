"""Each rule of thumb where it applies, and where it does not."""

import numpy as np
import pytest

from car_ext.metrics.findings import Findings
from car_ext.metrics.mistakes import EXAMPLE
from car_ext.report.advice import RULES, Facts, advice
from car_ext.report.runs import Run

FINE = Facts(
    classes=10,
    behind=0.02,
    images=200,
    trained=0.7,
    worst=0.6,
    too_sure=0.01,
    loss="ce",
    prior=False,
    car=False,
    car_options={"absent": "decay", "gamma": 0.1, "prior": 0.0},
    notes=0,
)
CAR = {"car": True, "trained": 0.9}
PRIOR = {"loss": "balanced_softmax", "prior": True}


def said(**changes) -> list[str]:
    facts = FINE._replace(**changes)
    return [rule.text(facts).replace("{}", rule.number(facts)) for rule in RULES if rule.applies(facts)]


def test_a_run_without_fault_is_told_nothing():
    assert said() == []
    unknown = dict.fromkeys(("behind", "images", "trained", "worst", "too_sure", "loss"))
    assert said(**unknown, car_options={}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"notes": 2}, "notes on the data first"),
        ({"images": 12}, "The worst class has 12 test images, so its accuracy is noise: read its interval"),
        ({"images": 12, "classes": 100}, "watch the worst tenth"),
        ({"trained": 0.3}, "right 30.0 % of the time: training has not reached every class"),
        ({"trained": 1.0, "worst": 0.1, **PRIOR}, "stands at 10.0 %: the tail is over-fitted"),
        ({"behind": 0.33}, "lie 33 points below the overall accuracy. First the class prior"),
        ({"behind": 0.33, "car": True}, "CAR is in; a class prior did more"),
        ({**PRIOR, **CAR}, "CAR on plain logits beside a loss with the class prior took back"),
        ({**PRIOR, "trained": 0.9, "behind": 0.2}, "a larger tau"),
        ({**CAR, "classes": 100, "trained": 0.7}, "`--car-absent hold --car-alpha 1`"),
        (CAR, "its margin of 0.1: on digits `--car-gamma 2`"),
        ({"too_sure": 0.12}, "confidence lies 12 points above the accuracy"),
    ],
    ids=str,
)
def test_one_rule_applies(changes, words):
    (only,) = said(**changes)
    assert words in only


def test_what_was_done_is_not_advised_again():
    assert said(**PRIOR, **{**CAR, "car_options": {"prior": 1.0, "gamma": 2.0, "absent": "hold"}}) == []
    assert said(**CAR, car_options={"gamma": 2.0, "absent": "hold"}) == []


def made(name, right, sure=0.9, **config):
    names = [f"kind {label}" for label in range(4)]
    confusion = np.diag(right)
    confusion[0] += 100 - np.array(right)
    bins = {
        "edges": np.array([0.0, 0.5, 1.0]),
        "count": np.array([0, 400]),
        "confidence": np.array([np.nan, sure]),
        "accuracy": np.array([np.nan, sum(right) / 400]),
    }
    summary = {
        "class_counts": dict(zip(names, (500, 90, 15, 3), strict=True)),
        "per_class_accuracy": dict(zip(names, (np.array(right) / 100).tolist(), strict=True)),
        "train_worst_class_accuracy": 0.6,
    }
    findings = Findings(confusion, bins, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8))
    return Run(name, summary, findings, config=config)


def test_facts_are_those_of_the_run():
    facts = Facts.of(made("a", [100, 90, 50, 30], loss="balanced_softmax", regularizer="car", car={"prior": 1.0}))
    assert facts.behind == pytest.approx((100 + 90 + 50 + 30) / 400 - (90 + 50 + 30) / 300)
    assert (facts.images, facts.trained, facts.worst) == (100, 0.6, 0.3)
    assert facts.too_sure == pytest.approx(0.9 - 270 / 400)
    assert (facts.loss, facts.prior, facts.car, facts.car_options["prior"]) == ("balanced_softmax", True, True, 1.0)
    assert Facts.of(made("a", [100, 90, 50, 30], loss="logit_adjusted:tau=1.5+drw")).prior
    word = {"regularizer": "maxnorm+car:alpha=0.2,prior=1,absent=hold", "car": {"prior": 0.0, "gamma": 0.1}}
    facts = Facts.of(made("a", [100, 90, 50, 30], **word))
    assert (facts.car, facts.car_options) == (True, {"alpha": 0.2, "prior": 1, "absent": "hold", "gamma": 0.1})
    bare = Facts.of(Run("a", {"class_counts": {"x": 5, "y": 1}, "per_class_accuracy": {"x": 1.0, "y": None}}))
    assert (bare.images, bare.too_sure, bare.loss, bare.car) == (None, None, None, False)


def test_what_several_runs_share_is_said_once_with_the_number_of_each():
    runs = [made(name, [100, 90, 50, rare], 0.6, loss="ce") for name, rare in (("a", 10), ("b", 0))]
    said = [(sentence, names) for sentence, names in advice(runs) if "First the class prior" in sentence]
    ((sentence, names),) = said
    assert names == ["a", "b"]
    assert sentence.startswith("The three rarest classes lie 12 and 13 points below the overall accuracy")
    assert "lie 12 points below" in advice(runs[:1])[0][0]
    assert "lie 12 points below" in advice([runs[0], runs[0]])[0][0]
