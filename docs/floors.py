#!/usr/bin/env python
"""Draws `docs/floors.svg`, the rooms of `car_ext` by floor, from the import contract in `pyproject.toml`."""

import re
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "floors.svg"
ROOMS = {
    "__main__": "python -m car_ext",
    "commands": "one file a command",
    "studies": "many runs: comparison, sweep",
    "evaluation": "scored where it runs, gate",
    "export": "a run as a file",
    "report": "one HTML file",
    "runtimes": "opens and runs a model file",
    "training": "epochs, steps, resuming",
    "cli": "flags, tables, exit codes",
    "run": "a run on disk",
    "config": "one job as one value",
    "metrics": "scores, worst class first",
    "models": "timm and small networks",
    "datasets": "from disk to images",
    "methods": "losses, CAR, heads, samplers",
    "machine": "device, memory, threads",
    "priors": "class counts",
    "values": "text to numbers",
    "errors": "InputError",
    "files": "safe writes",
    "ops": "the operators",
    "seeds": "by purpose",
    "text": "names, per cent",
}
WIDTH, LEFT, FLOOR, ROOM, GAP = 960, 64, 62, 46, 10
STYLE = """\
.page{fill:#fff}.floor{fill:#f3f5f8}.room{fill:#fff;stroke:#5b7591}.outside{fill:none;stroke:#8a97a5;stroke-dasharray:5 4}
.name{fill:#14304d;font-weight:600}.what,.number{fill:#475a6e;font-size:12px}.arrow{stroke:#b5542c;fill:none}
.head,.down{fill:#b5542c}
@media (prefers-color-scheme:dark){.page{fill:#171b21}.floor{fill:#20262e}.room{fill:#2b333d;stroke:#7f9bb8}
.outside{stroke:#6d7a88}.name{fill:#e6eef7}.what,.number{fill:#b3c0cd}.arrow{stroke:#f0936a}.head,.down{fill:#f0936a}}
"""


def floors() -> list[list[str]]:
    """The rooms of each floor, the top floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.removeprefix("car_ext.") for room in re.split(r" [|:] ", layer)] for layer in layers]


def draw(house: list[list[str]]) -> str:
    """The picture of a house, as SVG."""
    parts, y = [], 16
    parts += boxes(["train/, export/", "examples/, benchmarks/"], y, ["scripts", "scripts"], outside=True)
    top = y = y + FLOOR
    for level, rooms in zip(range(len(house), 0, -1), house, strict=True):
        parts.append(f'<rect class="floor" x="{LEFT - 8}" y="{y - 7}" width="{WIDTH - LEFT + 6}" height="{FLOOR - 2}"/>')
        parts.append(f'<text class="number" x="{LEFT - 18}" y="{y + 28}" text-anchor="end">{level}</text>')
        parts += boxes(rooms, y, [ROOMS[room] for room in rooms])
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


if __name__ == "__main__":
    PICTURE.write_text(draw(floors()), encoding="utf-8")
