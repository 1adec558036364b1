"""What a gate says of one model, for people and for the machines of a pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from car_ext.files import write_bytes
from car_ext.metrics.counts import worst_first
from car_ext.text import markdown as escaped
from car_ext.text import printable

NAMED = 10  # classes in a sentence
ROUNDING = 1e-9  # of differences of fractions


@dataclass(frozen=True)
class Check:
    """One line of a gate.

    Attributes:
        check: what is asked, such as `worst >= 0.6` or `fall of worst <= 0.02`.
        value: what was found; None where it is not defined.
        limit: what it is held against.
        p_value: of a fall, where it was tested.
        passed: whether it holds.
        sentence: all of that in words.
    """

    check: str
    value: float | None
    limit: float
    p_value: float | None
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What a gate says of one model.

    Attributes:
        checks: in the order in which they were asked for.
        test: how falls were tested: "paired", "unpaired" or "none"; None where none was asked about.
        level: of those tests.
    """

    checks: tuple[Check, ...]
    test: str | None
    level: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def facts(self) -> dict[str, Any]:
        """What a summary holds of it, ready for JSON: under "verdict" the whole, under "gate" the checks."""
        return {
            "verdict": {"passed": self.passed, "test": self.test, "level": self.level},
            "gate": [asdict(check) for check in self.checks],
        }


def markdown(verdicts: Mapping[str, Verdict]) -> str:
    """Model to verdict as Markdown, such as `$GITHUB_STEP_SUMMARY` takes: a table a model."""
    lines = []
    for model, verdict in verdicts.items():
        lines += [f"### Gate {_word(verdict.passed)}: {escaped(model)}", ""]
        lines += ["| | check | value | limit | p | |", "| --- | --- | ---: | ---: | ---: | --- |"]
        for check in verdict.checks:
            numbers = (check.value, check.limit, check.p_value)
            cells = [_word(check.passed), escaped(check.check), *map(_number, numbers), escaped(check.sentence)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def write_junit(path: Path, verdicts: Mapping[str, Verdict]) -> None:
    """Model to verdict as JUnit's XML, which most pipelines show: a suite a model, a test case a check."""
    root = ElementTree.Element("testsuites", name="car-ext gate")
    for model, verdict in verdicts.items():
        failures = sum(not check.passed for check in verdict.checks)
        counts = {"tests": len(verdict.checks), "failures": failures, "errors": 0, "skipped": 0}
        named = {"name": printable(model)} | {key: str(count) for key, count in counts.items()}
        suite = ElementTree.SubElement(root, "testsuite", named)
        for check in verdict.checks:
            case = ElementTree.SubElement(suite, "testcase", classname=printable(model), name=printable(check.check))
            if check.passed:
                ElementTree.SubElement(case, "system-out").text = printable(check.sentence)
            else:
                ElementTree.SubElement(case, "failure", message=printable(check.sentence), type="gate")
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def most(names: list[str], values: list[float], class_counts: list[int], say: Callable[[float], str]) -> str:
    """The classes of the lowest values, as `worst_first` has them, and how many more there are."""
    order = worst_first(values, class_counts, names)
    listed = ", ".join(f"{quoted(names[label])} {say(values[label])}" for label in order[:NAMED])
    return listed + (f" and {len(order) - NAMED} more" if len(order) > NAMED else "")


def quoted(name: str) -> str:
    return repr(printable(name))


def _word(passed: bool) -> str:
    return "passed" if passed else "**failed**"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
