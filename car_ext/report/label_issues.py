"""The page of labels that are likely wrong, with their pictures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from car_ext.metrics.findings import thumbnail
from car_ext.metrics.label_issues import LabelIssue, LabelIssues
from car_ext.report.cells import LONGEST, Cell, Table, cut, percent
from car_ext.report.frame import page
from car_ext.report.pictures import Picture, png
from car_ext.text import nfc, printable

PICTURES = 240  # of the most doubtful labels


def render(issues: LabelIssues, images: Mapping[str, np.ndarray], source: str) -> str:
    """The page as one text.

    Args:
        issues: what was found.
        images: name to pixels, uint8 (H, W, C), of those whose pictures are known.
        source: what the labels were judged by.
    """
    known = [issue for issue in issues.found if issue.file in images][:PICTURES]
    return page(
        "label_issues.html",
        f"Labels that are likely wrong: {printable(source)}",
        f"{len(issues.found):,} of {issues.images:,} labels, the most doubtful first",
        ["labels"],
        pictures=[_picture(issue, images[issue.file]) for issue in known],
        missing=min(len(issues.found), PICTURES) - len(known),
        table=_table(issues) if issues.found else None,
    )


def _picture(issue: LabelIssue, pixels: np.ndarray) -> Picture:
    small = thumbnail(pixels)
    given, suggested = _shown(issue.given), _shown(issue.suggested)
    return Picture(
        png(small),
        f"{_shown(issue.file)}: labelled {given}, rather {suggested}",
        f"{given} \N{RIGHTWARDS ARROW} {suggested}?",
        Path(_shown(issue.file)).name,
        small.shape[1],
        small.shape[0],
    )


def _table(issues: LabelIssues) -> Table:
    rows: list[list[str | Cell]] = [
        [
            _shown(issue.file),
            issue.split,
            _shown(issue.given),
            _shown(issue.suggested),
            percent(issue.given_probability),
            percent(issue.suggested_probability),
        ]
        for issue in issues.found[:LONGEST]
    ]
    columns = ["file", "split", "label", "rather", "probability of the label, %", "of the other, %"]
    caption = f"Labels that are likely wrong{cut(len(issues.found))}"
    return Table(caption, columns, rows, frozenset([1, 2, 3]))


def _shown(name: str) -> str:
    return printable(nfc(name))
