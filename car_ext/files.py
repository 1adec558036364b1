"""Small text files, replaced whole: a reader, or a kill, never meets half of one."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write beside ``path``, reach the disk, rename."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_text`. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
