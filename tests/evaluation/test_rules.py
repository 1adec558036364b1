"""What `--gate` and `--require` may say."""

import pytest

from car_ext.errors import InputError
from car_ext.evaluation.rules import parse_gate, parse_require


def test_names_and_limits():
    assert parse_gate("worst=0.02, overall=0.005") == {"worst": 0.02, "overall": 0.005}
    assert parse_gate(["class=0", "class:a=b=0.1"]) == {"class": 0.0, "class:a=b": 0.1}
    assert parse_require(["worst>=.6,ece<=0.1", "class>=0.5"]) == {"worst": 0.6, "ece": 0.1, "class": 0.5}
    assert parse_require("class:dog, big>=0.8,class:2>=1>=0.5") == {"class:dog, big": 0.8, "class:2>=1": 0.5}
    assert parse_require("class:e\N{COMBINING ACUTE ACCENT}>=1") == {"class:é": 1.0}


@pytest.mark.parametrize(
    "text", ["", "worse=0.1", "worst", "worst=much", "worst=-0.1", "worst=2", "worst=nan", "few=0,few=0", "class:=0.1"]
)
def test_bad_gates(text):
    with pytest.raises(InputError, match="--gate"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "says no limit"),
        ("worst=0.5", "says no limit"),
        ("worst>=0.5,overall", "'overall' says no limit"),
        ("worst>=much", "must be a number"),
        ("worst>=inf", "finite"),
        ("worst<=0.5", "more of worst is better; write worst>=0.5"),
        ("ece>= 0.1", "more of ece is worse; write ece<=0.1"),
        ("worse>=0.1", "must be one of"),
        ("few>=0,few>=1", "each once"),
    ],
)
def test_bad_requirements(text, message):
    with pytest.raises(InputError, match=f"--require.*{message}"):
        parse_require(text)
