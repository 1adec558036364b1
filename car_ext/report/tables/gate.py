"""Whether each run passes the checks that were asked for."""

from typing import NamedTuple

from car_ext.report.cells import Cell, Table
from car_ext.report.runs import Run
from car_ext.text import printable


class Verdict(NamedTuple):
    """What the gate says of one run."""

    name: str
    passed: bool
    table: Table
    sentences: list[str]


def verdict(run: Run) -> Verdict | None:
    """None where the run was put to no gate."""
    checks = run.summary.get("gate")
    if not checks:
        return None
    rows: list[list[str | Cell]] = [
        [
            printable(str(check["check"])),
            Cell("passed" if check["passed"] else "failed", best=not check["passed"]),
            *(_number(check.get(key)) for key in ("value", "limit", "p_value")),
        ]
        for check in checks
    ]
    return Verdict(
        run.name,
        all(check["passed"] for check in checks),
        Table(
            f"{run.name}: checks of the gate", ["check", "verdict", "value", "limit", "p-value"], rows, frozenset([1])
        ),
        [printable(str(check["sentence"])) for check in checks if check.get("sentence")],
    )


def _number(value: object) -> str:
    return f"{value + 0.0:.4g}" if isinstance(value, int | float) else "-"  # -0.0 + 0.0 is 0.0
