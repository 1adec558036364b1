"""What a model must reach, and what it may lose."""

import numpy as np
import pytest
from outcomes import outcome

from car_ext.errors import InputError
from car_ext.evaluation.gate import Gate
from car_ext.evaluation.losses import differences
from car_ext.evaluation.outcome import Outcome
from car_ext.metrics.summary import summarize
from car_ext.metrics.vocabulary import Score, register, scores


def fallen(falls, first, later, **options):
    """The sentences of what broke."""
    verdict = Gate(falls=falls, **options).judge(later, first)
    return [check.sentence for check in verdict.checks if not check.passed]


def points(falls, first, later):
    return fallen(falls, first, later, test="none")


def test_differences():
    found = differences(outcome(90, 80, 40).summary, outcome(91, 78, 35).summary)
    assert found["per_class_accuracy"] == pytest.approx({"cat": 0.01, "dog": -0.02, "eel": -0.05})
    assert found["worst_class_accuracy"] == pytest.approx(-0.05)
    assert found["overall_accuracy"] == pytest.approx(-0.02)
    assert (found["many"], found["few"]) == (pytest.approx(0.01), pytest.approx(-0.05))


def test_a_class_without_images_has_no_difference():
    without = outcome(90, 80, [])
    verdict = Gate(falls={"few": 0.0, "class": 0.0, "class:eel": 0.0}).judge(without, without)
    assert verdict.passed
    few, _, eel = verdict.checks
    assert (few.value, few.sentence) == (None, "few is not defined on both sides")
    assert eel.sentence == "the accuracy of 'eel' is not defined on both sides"


def test_a_gate_names_what_fell_and_by_how_much():
    first, later = outcome(90, 80, 40), outcome(91, 78, 35)
    (sentence,) = points({"worst": 0.02, "overall": 0.02}, first, later)
    assert sentence == (
        "worst class accuracy fell by 0.0500, more than 0.02; classes that fell: 'eel' by 0.0500, 'dog' by 0.0200"
    )
    assert points({"worst": 0.05, "overall": 0.02, "class": 0.05}, first, later) == []  # as much as allowed
    assert "accuracy of a class fell by 0.0500" in points({"class": 0.049}, first, later)[0]
    assert "accuracy of 'dog' fell by 0.0200" in points({"class:dog": 0.01, "class:cat": 0.0}, first, later)[0]


def test_another_class_may_become_the_worst():
    (sentence,) = points({"worst": 0.02}, outcome(90, 45, 40), outcome(90, 30, 60))
    assert "fell by 0.1000" in sentence
    assert sentence.endswith("'dog' by 0.1500")


@pytest.mark.parametrize("falls", [{"worst": 0.0}, {"class": 0.0}, {"class:eel": 0.0}, {"few": 0.0}, {"overall": 0.0}])
def test_one_image_of_fifty_breaks_no_gate_but_ten_do(falls):
    first = outcome(45, 45, 40, images=50)
    verdict = Gate(falls=falls).judge(outcome(45, 45, 39, images=50), first)
    (check,) = verdict.checks
    assert (check.passed, verdict.test) == (True, "paired")
    assert check.p_value == pytest.approx(1.0 if "class" in falls else 0.5, abs=0.05)  # Holm's is of three classes
    assert "but so it may by chance (p = " in check.sentence
    assert points(falls, first, outcome(45, 45, 39, images=50))  # what a comparison of numbers would do
    (sentence,) = fallen(falls, first, outcome(45, 45, 30, images=50))
    assert "(p = 0.00" in sentence
    assert sentence.endswith("'eel' by 0.2000")


def test_what_is_allowed_is_allowed_however_certain():
    first, later = outcome(90, 90, 90), outcome(90, 90, 70)
    assert fallen({"worst": 0.2, "class": 0.2}, first, later) == []
    assert fallen({"worst": 0.19}, first, later)


def test_the_level_decides():
    first, later = outcome(90, 90, 90), outcome(90, 90, 86)  # p = 1 / 16
    assert fallen({"class:eel": 0.0}, first, later) == []
    assert fallen({"class:eel": 0.0}, first, later, level=0.07)


def test_images_that_changed_both_ways_are_less_certain():
    first, images = outcome(90, 90, 50), np.arange(100)
    (clear,) = Gate(falls={"worst": 0.0}).judge(outcome(90, 90, 40), first).checks
    shuffled = (images >= 40) & (images < 80)  # 40 lost, 30 won: as large a fall
    (unclear,) = Gate(falls={"worst": 0.0}).judge(outcome(90, 90, shuffled), first).checks
    assert clear.value == unclear.value == pytest.approx(0.1)
    assert clear.p_value < 0.01 < 0.1 < unclear.p_value
    assert (clear.passed, unclear.passed) == (False, True)


def test_without_the_images_a_fall_is_tested_as_one_of_others():
    first = outcome(90, 90, 50, known=False)
    verdict = Gate(falls={"worst": 0.0, "class": 0.0, "overall": 0.0}).judge(outcome(90, 90, 40), first)
    assert (verdict.test, verdict.passed) == ("unpaired", True)
    assert "unpaired" in verdict.checks[0].sentence
    assert fallen({"worst": 0.0, "class": 0.0, "overall": 0.0}, first, outcome(90, 90, 10)) != []


def test_images_are_paired_by_name_whatever_their_order():
    right = np.arange(100) % 3 == 0
    files = tuple(f"{name}/{index}" for name in ("cat", "dog", "eel") for index in range(100))
    first = outcome(right, right, right, files=files)
    turned = np.concatenate([np.arange(99, -1, -1) + start for start in (0, 100, 200)])
    later = outcome(right[::-1], right[::-1], right[::-1], files=tuple(files[i] for i in turned))
    assert Gate(falls={"class": 0.0}).judge(later, first).test == "paired"
    lost = outcome(right[::-1], right[::-1], [False] * 100, files=later.files)
    (check,) = Gate(falls={"class:eel": 0.0}).judge(lost, first).checks
    assert check.p_value == pytest.approx(0.5**34)
    twice = [outcome(right, right, right, files=("listed twice",) * 300) for _ in range(2)]
    assert Gate(falls={"class": 0.0}).judge(*twice).test == "paired"
    other = outcome(right, right, right, files=(*files[:-1], "another"))
    assert Gate(falls={"class": 0.0}).judge(other, first).test == "unpaired"


def test_many_classes_are_counted():
    names = [f"c{label}" for label in range(15)]
    before, after = (
        Outcome(summarize(np.diag([n] * 15) + (10 - n) * np.roll(np.eye(15, dtype=int), 1, 0), [9] * 15, names))
        for n in (9, 4)
    )
    (sentence,) = points({"class": 0.0}, before, after)
    assert sentence.count(" by 0.") == 11
    assert sentence.endswith("and 5 more")


def required(limits, *right, **options):
    return Gate(limits).judge(outcome(*right, **options)).checks


def test_what_is_required_is_reached_or_not():
    limits = {"worst": 0.4, "overall": 0.71, "class:dog": 0.8, "class": 0.5, "ece": 0.2}
    worst, overall, dog, every, ece = required(limits, 90, 80, 40)
    assert [check.passed for check in (worst, overall, dog, every, ece)] == [True, False, True, False, False]
    assert worst.sentence == "worst class accuracy is 0.4000, at least 0.4"
    assert overall.sentence == "overall accuracy is 0.7000, less than 0.71"
    assert (dog.check, dog.sentence) == ("class:dog >= 0.8", "the accuracy of 'dog' is 0.8000, at least 0.8")
    assert (every.value, every.sentence) == (0.4, "the accuracy of a class is less than 0.5: 'eel' 0.4000")
    assert (ece.check, ece.sentence) == ("ece <= 0.2", "ece is 0.2500, more than 0.2")


def test_what_nothing_measures_reaches_nothing():
    few, eel, every, worst = required({"few": 0.0, "class:eel": 0.0, "class": 0.0, "worst": 0.0}, 90, 80, [])
    assert [check.passed for check in (few, eel, every, worst)] == [False, False, False, True]
    assert eel.sentence == "the accuracy of 'eel' is not defined on these images, so it reaches nothing"
    assert every.sentence == "1 of 3 classes have no test image, so they reach nothing"


@pytest.mark.parametrize("gate", [Gate({"class:elk": 0.1}), Gate(falls={"class:elk": 0.1})])
def test_a_class_that_the_model_does_not_know_is_no_check(gate):
    with pytest.raises(InputError, match=r"class:elk: the model knows no class 'elk'; did you mean eel\?"):
        gate.judge(outcome(9, 9, 9), outcome(9, 9, 9))


def test_a_score_of_more_than_accuracies_is_not_tested(monkeypatch):
    monkeypatch.setattr("car_ext.metrics.vocabulary._scores", [*scores()])
    key = "zero_share"
    register(Score(key, "of no class", lambda counts: float(counts.confusion.counts.size), gate="zeros"))
    first, later = outcome(90, 90, 90), outcome(90, 90, 50)
    for of, value in ((first, 0.5), (later, 0.25)):
        of.summary[key] = value
    with pytest.raises(InputError, match=r"--gate zeros: .* --gate-test none"):
        fallen({"zeros": 0.0}, first, later)
    assert "fell by 0.2500" in points({"zeros": 0.0}, first, later)[0]


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 1.0}, {"test": "t"}])
def test_bad_tests(options):
    with pytest.raises(InputError, match="--gate-"):
        Gate(**options)
