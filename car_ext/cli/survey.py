"""What the command `data` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from car_ext.text import gigabytes, printable

CLASSES = 10  # of the largest, and of the smallest
GROUPS = 10  # of copies, and of images that look alike
IMAGES = 4  # of a group
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def print_survey(facts: Mapping[str, Any]) -> None:
    """Prints what `datasets.survey.survey` found; every unreadable image, and the first of what is there twice."""
    console = Console(soft_wrap=True, highlight=False)

    def say(text: str = "", style: str = "") -> None:
        console.print(Text(printable(text), style))

    for line in facts["overview"]:
        say(line)
    console.print(_classes(facts))
    if facts["width"]:
        say("pixels (smallest, median, largest): " + _spread("width", facts) + "; " + _spread("height", facts))
    for what in ("formats", "modes"):
        if facts[what]:
            say(f"{what}: " + ", ".join(f"{number:,} {name}" for name, number in facts[what].items()))
    for note in facts["notes"]:
        say(f"note: {note}")
    _print_unreadable(facts["unreadable"], say)
    _print_groups("of one content", facts["copies"], say)
    _print_groups(f"that look alike (up to {facts['near_bits']} of 64 bits differ)", facts["near"], say)
    if "cache" in facts:
        say()
        say(_kept(facts["cache"]))
    say()
    say("what follows", "bold")
    for sentence in facts["follows"]:
        say(f"- {sentence}")


def _kept(cache: Mapping[str, Any]) -> str:
    """A line on the images that are kept decoded."""
    if not cache["folder"]:
        return "decoded images are not kept on disk"
    of_these = [f"{file['split']} at {file['shape'][1]} pixels" for file in cache["of_these"]]
    size = gigabytes(sum(file["bytes"] for file in cache["of_these"]))
    these = f"{size} of these data ({', '.join(of_these)})" if of_these else "none of these data"
    return f"decoded images kept on disk: {these}; of all data {gigabytes(cache['bytes'])} in {cache['folder']}" + (
        "; --clear-cache removes them" if cache["files"] else ""
    )


def _classes(facts: Mapping[str, Any]) -> Table:
    """The largest and the smallest classes, by falling number of training images."""
    splits = [split for split in SPLITS if split in facts["splits"]]
    table = Table(box=SIMPLE)
    table.add_column("class", overflow="fold")
    for split in splits:
        table.add_column(SPLITS[split], justify="right")
    table.add_column("group")
    falling = sorted(facts["classes"], key=lambda found: -found["train"])
    shown = falling if len(falling) <= 2 * CLASSES else [*falling[:CLASSES], None, *falling[-CLASSES:]]
    for found in shown:
        if found is None:
            table.add_row(f"... {len(falling) - 2 * CLASSES:,} more", *["" for _ in splits], "")
        else:
            table.add_row(Text(printable(found["name"])), *[f"{found[split]:,}" for split in splits], found["group"])
    return table


def _spread(side: str, facts: Mapping[str, Any]) -> str:
    return f"{side} " + ", ".join(f"{pixels:,}" for pixels in facts[side])


def _print_unreadable(unreadable: Sequence[Mapping[str, Any]], say: Any) -> None:
    if unreadable:
        say()
        say(f"{len(unreadable):,} unreadable", "bold")
    for image in unreadable:
        say(f"- {image['file']}: {image['reason']}")


def _print_groups(what: str, groups: Sequence[Mapping[str, Any]], say: Any) -> None:
    if groups:
        say()
        say(f"{len(groups):,} {'group' if len(groups) == 1 else 'groups'} of images {what}", "bold")
    for group in groups[:GROUPS]:
        images = [f"{image['file']} ({image['split']}, {image['class']})" for image in group["images"]]
        more = [f"{len(images) - IMAGES:,} more"] if len(images) > IMAGES else []
        say("- " + ", ".join([*images[:IMAGES], *more]))
    if len(groups) > GROUPS:
        say(f"  and {len(groups) - GROUPS:,} more groups: --json FILE and --html FILE have them")
