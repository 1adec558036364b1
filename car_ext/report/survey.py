"""The page of a data set: what is in it, what cannot be read, and what is there twice."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from car_ext.report.cells import LONGEST, Table, cut
from car_ext.report.frame import page
from car_ext.report.pictures import png
from car_ext.text import printable

GROUPS = 60  # that a page shows
FILES = 20  # of a group
SPLITS = {"train": "training", "val": "validation", "test": "test"}


class Shown(NamedTuple):
    source: str  # data: URL
    describes: str
    note: str


class Group(NamedTuple):
    title: str
    pictures: Sequence[Shown]
    lines: Sequence[str]


def render(facts: Mapping[str, Any], pictures: Mapping[tuple[str, int], np.ndarray]) -> str:
    """The page as one text.

    Args:
        facts: as of `datasets.survey.survey`.
        pictures: some images by split and position, each (H, W, C) uint8.
    """
    copies, near = ([_group(group, pictures) for group in facts[which][:GROUPS]] for which in ("copies", "near"))
    present = {"unreadable": facts["unreadable"], "copies": copies, "alike": near}
    return page(
        "survey.html",
        f"Data: {printable(facts['data'])}",
        ", ".join(f"{number:,} {SPLITS[split]} images" for split, number in facts["splits"].items()),
        ["summary", "classes", "images", *(name for name, found in present.items() if found)],
        overview=[*map(printable, facts["overview"])],
        follows=[*map(printable, facts["follows"])],
        notes=[*map(printable, facts["notes"])],
        classes=_classes(facts),
        images=_images(facts),
        unreadable=_unreadable(facts["unreadable"]) if facts["unreadable"] else None,
        copies=copies,
        more_copies=_more(facts["copies"]),
        near=near,
        more_near=_more(facts["near"]),
        bits=facts["near_bits"],
    )


def _classes(facts: Mapping[str, Any]) -> Table:
    splits = [split for split in SPLITS if split in facts["splits"]]
    falling = sorted(facts["classes"], key=lambda found: -found["train"])
    rows = [
        [printable(found["name"]), *(f"{found[split]:,}" for split in splits), found["group"]]
        for found in falling[:LONGEST]
    ]
    columns = ["class", *(SPLITS[split] for split in splits), "group"]
    return Table("Images a class" + cut(len(falling)), columns, rows, frozenset({len(columns) - 1}))


def _images(facts: Mapping[str, Any]) -> Table:
    rows = []
    for side in ("width", "height"):
        if facts[side]:
            smallest, median, largest = facts[side]
            rows.append([f"{side}, pixels (median {median:,})", f"{smallest:,} to {largest:,}"])
    for what in ("formats", "modes"):
        rows += [[f"{what.removesuffix('s')} {printable(name)}", f"{number:,}"] for name, number in facts[what].items()]
    rows += [["of nearly one value", f"{facts['flat']:,}"], ["unreadable", f"{len(facts['unreadable']):,}"]]
    return Table("What the files hold", ["", "images"], rows)


def _unreadable(unreadable: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("file", "split", "class", "reason")
    rows = [[printable(str(image[key])) for key in keys] for image in unreadable]
    return Table("Every image that cannot be read", keys, rows, frozenset({1, 2, 3}))


def _group(group: Mapping[str, Any], pictures: Mapping[tuple[str, int], np.ndarray]) -> Group:
    images = group["images"]
    names = [f"{image['file']} ({image['split']}, {image['class']})" for image in images]
    shown = [
        Shown(png(pictures[image["split"], image["position"]]), printable(name), image["split"])
        for image, name in zip(images, names, strict=True)
        if (image["split"], image["position"]) in pictures
    ]
    several = [f"{len(group[what])} {what}" for what in ("splits", "classes") if len(group[what]) > 1]
    more = [f"and {len(names) - FILES:,} more"] if len(names) > FILES else []
    return Group(", ".join([f"{len(images):,} images", *several]), shown, [*map(printable, names[:FILES]), *more])


def _more(groups: Sequence[Any]) -> str:
    return f" (the first {GROUPS} of {len(groups):,} groups; --json has them all)" if len(groups) > GROUPS else ""
