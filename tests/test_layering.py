"""Imports go down only, through other modules as well: the contracts of pyproject.toml, held by import-linter."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("importlinter", reason="THE FLOORS WERE NOT CHECKED: pip install import-linter")


def test_every_contract_is_kept():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_every_room_has_a_floor():
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "car_ext").iterdir() if path.suffix in ("", ".py")}
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    missing = {room for room in rooms - {"__init__", "__pycache__"} if f"car_ext.{room}" not in contracts}
    assert not missing
