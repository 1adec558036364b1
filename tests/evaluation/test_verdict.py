"""A verdict in the forms that pipelines show."""

import html
from xml.etree import ElementTree

from car_ext.evaluation.verdict import Check, Verdict, markdown, write_junit

EVIL = "<b>|`$(x)`\n# _a_\x07\x00"


def verdict(*passed):
    checks = [Check(f"class:{EVIL} >= 0.5", 0.25, 0.5, None, ok, f"{EVIL} is low") for ok in passed]
    return Verdict(tuple(checks), "paired", 0.05)


def test_a_summary_holds_it():
    facts = verdict(True, False).facts()
    assert facts["verdict"] == {"passed": False, "test": "paired", "level": 0.05}
    assert [check["passed"] for check in facts["gate"]] == [True, False]
    assert facts["gate"][0].keys() == {"check", "value", "limit", "p_value", "passed", "sentence"}
    assert verdict(True).passed
    assert Verdict((), None, 0.05).passed


def test_markdown_takes_no_name_for_its_own():
    text = markdown({"a|b.onnx": verdict(True, False), "c": verdict(True)})
    assert text.startswith("### Gate **failed**: a&#124;b.onnx\n")
    assert "### Gate passed: c" in text
    assert not set("<`$\x07") & set(text)
    rows = [line for line in text.splitlines() if "| passed |" in line or "| **failed** |" in line]
    assert [row.count("|") for row in rows] == [7, 7, 7]
    assert "<b>|`$(x)`" in html.unescape(rows[0])


def test_junit_is_xml_whatever_the_names(tmp_path):
    write_junit(tmp_path / "gate.xml", {EVIL: verdict(True, False), "b": verdict(True)})
    first, second = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (first.get("tests"), first.get("failures"), second.get("failures")) == ("2", "1", "0")
    good, bad = first
    assert good.find("failure") is None
    assert bad.find("failure").get("message") == "<b>|`$(x)`\ufffd# _a_\ufffd\ufffd is low"
    assert "0.5" in bad.get("name")
