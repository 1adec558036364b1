"""Imports go down only, and only as far as each room needs."""

import ast
from pathlib import Path

import pytest

import car_ext

PACKAGE = Path(car_ext.__file__).parent

# Top to bottom. A module may import from rows below its own, never from its own row or above.
FLOORS = [
    ["sweep"],
    ["__main__", "comparison", "space"],
    ["evaluate", "export", "plan"],
    ["finished"],
    ["engine", "report"],
    ["summary"],
    ["job"],
    ["runtime", "run_folder", "progress", "flags", "data", "network", "inference", "optimizer"],
    ["recipe"],
    ["config", "loader", "models", "objective", "cli", "scores", "findings"],
    ["field"],
    ["contrast"],
    ["losses", "weight_regularizers", "regularizer", "confusion_matrix", "heads", "samplers", "augment", "stage2"],
    ["datasets", "metrics", "intervals", "gate", "ops", "checkpoint", "registry", "option", "machine"],
    ["priors", "bounds", "functional", "schedule", "_library", "files", "values", "seeds", "left_out", "yaml_file"],
    ["errors", "_info"],
]
FLOOR = {name: height for height, names in enumerate(reversed(FLOORS)) for name in names}

# Mathematics must stay usable without the rest.
TORCH_FREE = [
    "metrics",
    "scores",
    "intervals",
    "gate",
    "bounds",
    "priors",
    "errors",
    "datasets",
    "registry",
    "values",
    "option",
    "yaml_file",
    "findings",
]


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path):
    """(package, room inside car_ext or None) of every import, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield parts[0], parts[1] if parts[0] == "car_ext" and len(parts) > 1 else None
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                anchor = path.parent.relative_to(PACKAGE).parts
                parts = ["car_ext", *anchor[: len(anchor) - node.level + 1], *parts]
            if not parts or parts[0] != "car_ext":
                yield parts[0], None
            elif len(parts) > 1:
                yield "car_ext", parts[1]
            else:
                yield from (("car_ext", alias.name if alias.name in FLOOR else None) for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    assert here in FLOOR, f"give {here} a floor"
    for package, there in imported(path):
        if package == "car_ext" and there not in (None, here):
            assert FLOOR[there] < FLOOR[here], f"{here} imports {there}, which is not below it"
        if here in TORCH_FREE:
            assert package not in ("torch", "torchvision", "timm"), f"{here} must not need {package}"
