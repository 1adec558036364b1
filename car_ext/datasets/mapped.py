"""Decoded images in a file that is mapped into memory: read once by the system, shared by every process."""

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.datasets.split import Positions
from car_ext.errors import InputError
from car_ext.files import write_json


class Damaged(Exception):
    """Not what was written: the message says why, as the end of "is damaged: ..."."""


class MappedImages:
    """Images in a .npy file, uint8 (M, H, W, C), of which some are taken; works in workers, forked or spawned.

    What the system has read of the file is memory that all processes share and that it takes back when others need it.
    An image is copied when it is asked for: what is mapped cannot be written.

    Args:
        path: of the file.
        positions: (N,) int64 of the images there; None takes all.

    Raises:
        InputError: the file is gone or is no such array.
    """

    def __init__(self, path: Path, positions: np.ndarray | None = None) -> None:
        self.path, self.positions = path, positions
        try:
            self.pixels = mapped(path)
        except Damaged as error:
            raise InputError(
                f"decoded images {str(path)!r} cannot be read ({error}): start again, which decodes anew"
            ) from None

    def __reduce__(self):
        return MappedImages, (self.path, self.positions)

    def __len__(self) -> int:
        return len(self.pixels) if self.positions is None else len(self.positions)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, C) uint8."""
        return np.array(self.pixels[index if self.positions is None else self.positions[index]])

    def rows(self, positions: Positions) -> np.ndarray:
        """The images at some positions as one array, (P, H, W, C)."""
        return self.pixels[self._there(positions)]

    def take(self, positions: Positions) -> "MappedImages":
        """The images at some positions, in that order; nothing is read."""
        return MappedImages(self.path, self._there(positions))

    @property
    def nbytes(self) -> int:
        """Bytes of the file's images."""
        return self.pixels.nbytes

    def _there(self, positions: Positions) -> np.ndarray:
        chosen = np.asarray(positions, np.int64)
        return chosen if self.positions is None else self.positions[chosen]


def mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, read-only; never unpickled.

    Raises:
        Damaged: it is gone, cut short or no (N, H, W, C) uint8.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Damaged(" ".join(str(error).split())) from None
    if not isinstance(array, np.memmap) or array.dtype != np.uint8 or array.ndim != 4:
        raise Damaged("it holds no images")
    return np.asarray(array)


def described(path: Path) -> Path:
    """The file beside a .npy file that says what is in it, and without which it does not count."""
    return path.with_suffix(".json")


def write(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray], facts: Mapping[str, Any]) -> None:
    """Writes images as they come, with their checksums: aside, to the disk, renamed, then what is said of them.

    Args:
        path: the .npy file.
        shape: (N, H, W, C).
        blocks: of uint8 (step, H, W, C), the last may be shorter.
        facts: what else to say, ready for JSON.

    Raises:
        OSError: it cannot be written; nothing is left.
        InputError: of the blocks.
    """
    draft, checksums = path.with_name(f"{path.stem}.{os.getpid()}.tmp"), []
    step = 0
    try:
        with draft.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                step = step or len(block)
                checksums.append(zlib.crc32(block.data))
                file.write(block.data)
            file.flush()
            os.fsync(file.fileno())
        described(path).unlink(missing_ok=True)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    write_json(described(path), {**facts, "shape": shape, "step": step, "crc32": checksums})


def verified(path: Path, threads: int) -> tuple[MappedImages, dict[str, Any]]:
    """The images of a file whose every byte is what was written, and what is said of them.

    Each block is read and its CRC-32 compared: damage passes with a chance of 1 in 4 billion.

    Args:
        path: the .npy file.
        threads: that read.

    Raises:
        FileNotFoundError: there is none, or none that was finished.
        Damaged: it is not what was written.
    """
    facts = json_facts(described(path))
    pixels = mapped(path)
    try:
        step, checksums, shape = int(facts["step"]), list(facts["crc32"]), tuple(facts["shape"])
    except (KeyError, TypeError, ValueError):
        raise Damaged(f"{described(path).name} does not say what is in it") from None
    starts = range(0, len(pixels), max(1, step))
    if pixels.shape != shape or len(starts) != len(checksums):
        raise Damaged(f"it holds images of {pixels.shape}, and {shape} were written")
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda start: zlib.crc32(pixels[start : start + step].data), starts))
    if wrong := [start for start, *both in zip(starts, found, checksums, strict=True) if both[0] != both[1]]:
        raise Damaged(f"the checksum of the images from {wrong[0]:,} on is wrong")
    return MappedImages(path), facts


def json_facts(path: Path) -> dict[str, Any]:
    """What a JSON file says.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no JSON object.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name} cannot be read ({error})") from None
    if not isinstance(facts, dict):
        raise Damaged(f"{path.name} is no JSON object")
    return facts
