"""What an interrupted choice has found so far, each piece a file."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from car_ext.datasets.notes import tell
from car_ext.files import write_json

Piece = dict[str, np.ndarray]


class Store:
    """Named pieces in a folder, each made once.

    Args:
        folder: created where it is not there.
        identity: what everything in it depends on, ready for JSON; a piece of another identity is made anew.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(identity, sort_keys=True, default=str)
        self._identity = hashlib.sha256(text.encode()).hexdigest()[:12]

    def piece(self, name: str, make: Callable[[], Piece]) -> Piece:
        """The arrays of this name: as they were made before, or made now."""
        path = self._path(name, ".safetensors")
        if path.exists():
            try:
                return dict(load_file(path))
            except (SafetensorError, OSError) as error:
                tell(f"{path} cannot be read ({error}) and is made anew")
        found = make()
        draft = path.with_suffix(".tmp")
        save_file({key: np.ascontiguousarray(value) for key, value in found.items()}, draft)
        draft.replace(path)
        return found

    def note(self, name: str, make: Callable[[], Any]) -> Any:
        """The JSON value of this name, made once: a decision by measured time stays what it was."""
        path = self._path(name, ".json")
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        value = make()
        write_json(path, value)
        return value

    def folder(self, name: str) -> Path:
        """A folder of its own for checkpoints."""
        return self._path(name, "")

    def _path(self, name: str, ending: str) -> Path:
        safe = re.sub(r"[^\w.+=-]", "-", name)  # a network may be called hf-hub:OWNER/NAME
        return self._folder / f"{safe}-{self._identity}{ending}"
