#!/usr/bin/env python
"""Writes the rooms of `car_ext` by floor, from the import contract in `pyproject.toml`: a picture, and a table."""

import re
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "floors.svg"
PAGE = ROOT / "docs" / "architecture.md"
TABLE = re.compile(r"(?<=<!-- rooms -->\n).*(?=<!-- /rooms -->)", re.DOTALL)
ROOMS = {  # a few words for the picture, and what stands behind the door for the table
    "__main__": (
        "python -m car_ext",
        "`python -m car_ext`, the same as `car-ext`",
    ),
    "commands": (
        "one file a command",
        "a file each: auto, data, train, compare, sweep, export, evaluate, labels, report, monitor, methods, info. "
        "Each adds its options, calls the library and prints",
    ),
    "automatic": (
        "the classifier of a folder, chosen",
        "`auto`: representations raced, heads tried on folds, one chosen, written as a run",
    ),
    "studies": (
        "many runs: comparison, sweep",
        "many runs: a comparison of methods over seeds, a sweep, shared by many workers; their tables and pictures",
    ),
    "evaluation": (
        "scored where it runs, gate",
        "models scored one after another on the same images; the gate between them",
    ),
    "export": (
        "a run as a file",
        "a finished run as ONNX, TorchScript or torch.export, each format a file; quantization; `predict.py`",
    ),
    "report": (
        "one HTML file",
        "one HTML file of runs and evaluations, whose figures are data that `plot.js` draws; `report/monitoring` for a "
        "deployed model over time",
    ),
    "runtimes": (
        "opens and runs a model file",
        "what classifies: an exported file in its runtime, or a finished run; both are a `Described`",
    ),
    "training": (
        "epochs, steps, resuming",
        "`train`; a `Job` (epoch, snapshot, restore), its `Batches` and its `Learner`; objective, optimiser, plan",
    ),
    "cli": (
        "flags, tables, exit codes",
        "flags, tables on the terminal, exit codes",
    ),
    "run": (
        "a run on disk",
        "a run on disk: its folder, its checkpoints, the classifier out of it",
    ),
    "config": (
        "one job as one value",
        "a job as one checked value, `Config`; recipes in YAML",
    ),
    "metrics": (
        "scores, worst class first",
        "scores: their vocabulary, a summary, intervals, bounds, `Confusions`, and `Scoring`, which counts a pass over "
        "a test set",
    ),
    "models": (
        "timm and small networks",
        "a backbone and a head as one `Classifier`: timm's and a few small ones",
    ),
    "datasets": (
        "from disk to images",
        "`load`: from a name or a path to a training and a test split, whose images are decoded once; the long tail's "
        "profiles",
    ),
    "methods": (
        "losses, CAR, heads, samplers",
        "what has a name: losses, regularizers (CAR is one), heads, samplers, "
        "augmentation, contrasts, second stages; their registry",
    ),
    "machine": (
        "device, memory, processes",
        "device and precision, the processes of a job, memory, threads, deterministic and compiled kernels",
    ),
    "plugins": (
        "what other packages add",
        "data formats and export formats: each a file here, or another package's",
    ),
    "option": (
        "a field with help and limits",
        "one option: a field of a dataclass that knows its help and its limits",
    ),
    "priors": (
        "class counts",
        "what follows from class counts: frequencies, CAR's weights, many/medium/few",
    ),
    "values": (
        "text to numbers",
        "text to numbers, with a sentence where it cannot be",
    ),
    "errors": (
        "InputError",
        "`InputError`, and the closest known word",
    ),
    "files": (
        "safe writes",
        "written, synced and renamed: a whole file or none",
    ),
    "ops": (
        "the operators",
        "CAR's operators: `library.py` loads the kernels, `operators.py` tells PyTorch of them, "
        "`functional.py` is what users call, `reference.py` the slow and obvious twin",
    ),
    "recipes": (
        "YAML files",
        "YAML files that commands find by name; no code",
    ),
    "seeds": (
        "by purpose",
        "a seed for each purpose",
    ),
    "text": (
        "names, per cent",
        "names, per cent",
    ),
}
WIDTH, LEFT, FLOOR, ROOM, GAP = 960, 64, 62, 46, 10
STYLE = """\
.page{fill:#fff}.floor{fill:#f3f5f8}.room{fill:#fff;stroke:#5b7591}
.outside{fill:none;stroke:#8a97a5;stroke-dasharray:5 4}
.name{fill:#14304d;font-weight:600}.what,.number{fill:#475a6e;font-size:12px}.arrow{stroke:#b5542c;fill:none}
.head,.down{fill:#b5542c}
@media (prefers-color-scheme:dark){.page{fill:#171b21}.floor{fill:#20262e}.room{fill:#2b333d;stroke:#7f9bb8}
.outside{stroke:#6d7a88}.name{fill:#e6eef7}.what,.number{fill:#b3c0cd}.arrow{stroke:#f0936a}.head,.down{fill:#f0936a}}
"""


def floors() -> list[list[str]]:
    """The rooms of each floor, the top floor first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.removeprefix("car_ext.") for room in re.split(r" [|:] ", layer)] for layer in layers]


def draw(house: list[list[str]]) -> str:
    """The picture of a house, as SVG."""
    parts, y = [], 16
    parts += boxes(["train/, export/", "examples/, benchmarks/"], y, ["scripts", "scripts"], outside=True)
    top = y = y + FLOOR
    for level, rooms in zip(range(len(house), 0, -1), house, strict=True):
        band = f'x="{LEFT - 8}" y="{y - 7}" width="{WIDTH - LEFT + 6}" height="{FLOOR - 2}"'
        parts.append(f'<rect class="floor" {band}/>')
        parts.append(f'<text class="number" x="{LEFT - 18}" y="{y + 28}" text-anchor="end">{level}</text>')
        parts += boxes(rooms, y, [ROOMS[room][0] for room in rooms])
        y += FLOOR
    parts += boxes(["csrc/"], y, ["C++ and CUDA kernels, which ops loads"], outside=True)
    parts.append(f'<path class="arrow" stroke-width="2.5" d="M18 {top}V{y - 22}"/>')
    parts.append(f'<path class="head" d="M11 {y - 24}h14l-7 14z"/>')
    middle = (top + y) // 2
    parts.append(
        f'<text class="down" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">imports go down</text>'
    )
    height = y + FLOOR
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 0 {WIDTH + 12} {height}" font-size="14" '
        'font-family="system-ui, sans-serif" role="img" aria-labelledby="t d">\n'
        '<title id="t">The rooms of car_ext by floor</title>\n'
        f'<desc id="d">{len(house)} floors; a room imports from floors below its own only.</desc>\n'
        f'<style>\n{STYLE}</style>\n<rect class="page" x="-12" width="{WIDTH + 12}" height="{height}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def boxes(names: list[str], y: int, what: list[str], outside: bool = False) -> list[str]:
    """Equal boxes side by side, each with a name and a few words."""
    width = (WIDTH - LEFT - GAP * len(names)) / len(names)
    parts = []
    for place, (name, words) in enumerate(zip(names, what, strict=True)):
        x = LEFT + place * (width + GAP)
        kind = "outside" if outside else "room"
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROOM}" rx="5"/>')
        parts.append(f'<text class="name" x="{x + 12:.1f}" y="{y + 20}">{escape(name)}</text>')
        parts.append(f'<text class="what" x="{x + 12:.1f}" y="{y + 37}">{escape(words)}</text>')
    return parts


def with_table(page: str, house: list[list[str]]) -> str:
    """The page with the table of a house between its marks, the top floor first."""
    rows = [
        f"| {level} | `{room}` | {ROOMS[room][1]} |"
        for level, rooms in zip(range(len(house), 0, -1), house, strict=True)
        for room in rooms
    ]
    table = ["", "| floor | room | what stands behind its door |", "| ---: | --- | --- |", *rows, "", ""]
    return TABLE.sub(lambda _: "\n".join(table), page)


if __name__ == "__main__":
    PICTURE.write_text(draw(floors()), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), floors()), encoding="utf-8")
