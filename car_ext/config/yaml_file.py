"""YAML files of `key: value` lines, by path or by name."""

from pathlib import Path
from typing import Any

import yaml

from car_ext.errors import InputError, suggest


def find(name: str, folder: Path | None, flag: str) -> Path:
    """The YAML file that `flag` names: its path, or the name of one in `folder`.

    Raises:
        InputError: a name that is not there.
    """
    file = Path(name)
    if folder is None or file.suffix or len(file.parts) > 1:
        return file
    known = sorted(other.stem for other in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"{flag} {name} is neither a YAML file nor one of {folder.name}{suggest(name, known)}")
    return folder / f"{name}.yaml"


def read(path: Path) -> dict[str, Any]:
    """What a YAML file holds, unchecked.

    Raises:
        InputError: it cannot be read, or does not hold `key: value` lines.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration {path} cannot be read ({error}); check the path.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, but must hold 'key: value' lines.")
    return content or {}
