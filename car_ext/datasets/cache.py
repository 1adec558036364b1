"""Where the images of a split are held once they are decoded: in a file, in memory, or nowhere."""

import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from car_ext.datasets.cache_folder import OURS, alone, make_room, touch
from car_ext.datasets.decoding import block_length, blocks, decode_all
from car_ext.datasets.identity import decoder, identity, settled
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.mapped import Damaged, MappedImages, verified, write
from car_ext.datasets.notes import say
from car_ext.datasets.picture import is_flat
from car_ext.datasets.sample import spread
from car_ext.datasets.split import Images
from car_ext.errors import InputError
from car_ext.text import gigabytes, printable

WORTH = 2.0  # seconds of decoding, from which on a file is made
TRIED = 8  # images that are decoded to tell how long all take, and compared with those of a file


class Held(NamedTuple):
    """The images of a split, and what was seen while they were decoded.

    Attributes:
        images: in memory or in a file.
        bytes: of memory that they take for good; 0 of a file, whose memory the system takes back.
        flat: positions of the images that hold nearly one value; None where that was not looked at.
    """

    images: np.ndarray | MappedImages
    bytes: int
    flat: list[int] | None = None


def hold(images: Images, shape: tuple[int, ...], budget: int, folder: Path | None, data: str, part: str) -> Held | None:
    """Decodes the images of a split once, where they can be held.

    That is in a file of `folder`, where decoding them takes longer than 2 seconds, else in memory, else nowhere.
    Where they are held changes none of their bits.

    Args:
        images: N of them.
        shape: (N, H, W, C).
        budget: bytes of memory that they may take.
        folder: of decoded images; None for none.
        data, part: name of the data and of the split, in messages.

    Returns:
        None where they fit nowhere.

    Raises:
        InputError: an image cannot be read or decoded.
    """
    if folder is not None and isinstance(images, LazyImages) and (found := _in_file(images, shape, folder, data, part)):
        return found
    if math.prod(shape) > budget:
        return None
    return Held(decode_all(images, shape, f"decoding {part}"), math.prod(shape))


def _in_file(images: LazyImages, shape: tuple[int, ...], folder: Path, data: str, part: str) -> Held | None:
    """The images in a file that is there or is made now; None where it is not worth it or cannot be."""
    threads = os.cpu_count() or 1
    start = time.perf_counter()
    try:
        tried = {position: images[position] for position in spread(len(images), TRIED)}
    except InputError:  # named where all are decoded
        return None
    if not tried or (time.perf_counter() - start) / len(tried) * len(images) / threads < WORTH:
        return None
    if (key := identity(images)) is None:
        return None
    what = f"the {len(images):,} {part} images of {printable(data)}"
    path = folder / f"{OURS}-{key[:40]}.npy"
    found = _opened(path, shape, tried, what, threads)
    if isinstance(found, Held):
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(path, f"another process decodes {what}; waiting for it"):
            return _made(path, images, shape, tried, what, data, part)
    except OSError as error:
        say(f"{what} are not kept on disk: {str(folder)!r} cannot be written ({error}); --cache-dir names another")
        return None


def _made(
    path: Path,
    images: LazyImages,
    shape: tuple[int, ...],
    tried: dict[int, np.ndarray],
    what: str,
    data: str,
    part: str,
) -> Held | None:
    """Makes the file, unless another process has while we waited, and opens it.

    Raises:
        OSError: it cannot be written.
        InputError: an image cannot be read or decoded.
    """
    threads = os.cpu_count() or 1
    found = _opened(path, shape, tried, what, threads)
    if isinstance(found, Held):
        return found
    if found:
        say(f"{what}: {path} is damaged ({found}); they are decoded anew")
    for draft in path.parent.glob(f"{path.stem}.*.tmp"):  # of a process that was killed: we alone are here
        draft.unlink(missing_ok=True)
    if reason := make_room(path.parent, math.prod(shape)):
        say(f"{what} are not kept on disk: {reason}")
        return None
    if path.stem != f"{OURS}-{(settled(images) or '')[:40]}":
        say(f"{what} are not kept on disk: their files are being changed")
        return None
    flat: list[int] = []
    facts = {"data": data, "part": part, "where": source_path(images), "flat": flat, **decoder()}
    start = time.perf_counter()
    seen = _noting_flat(blocks(images, shape, f"decoding {part}", block_length(len(images), threads)), flat)
    write(path, shape, seen, facts)
    seconds = time.perf_counter() - start
    if path.stem != f"{OURS}-{(identity(images) or '')[:40]}":
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        say(f"{what} are not kept on disk: their files were changed while they were decoded")
        return None
    say(
        f"{what} are decoded ({len(images) / seconds:,.0f} images/s) and kept in {path} "
        f"({gigabytes(math.prod(shape))}), from where they are read from now on"
    )
    return Held(MappedImages(path), 0, flat)


def _noting_flat(decoded: Iterable[np.ndarray], flat: list[int]) -> Iterator[np.ndarray]:
    """The same blocks; positions of images that hold nearly one value are noted on the way."""
    start = 0
    for block in decoded:
        flat += [start + row for row in range(len(block)) if is_flat(block[row])]
        start += len(block)
        yield block


def _opened(path: Path, shape: tuple[int, ...], tried: dict[int, np.ndarray], what: str, threads: int) -> Held | str:
    """The images of a file, or why they cannot be had; "" where there is no file."""
    start = time.perf_counter()
    try:
        images, facts = verified(path, threads)
        if images.pixels.shape != shape:
            raise Damaged(f"it holds images of {images.pixels.shape}")
        flat = [int(position) for position in facts["flat"]]
        if any((images[position] != pixels).any() for position, pixels in tried.items()):
            raise Damaged("it does not hold what its files decode to")
    except FileNotFoundError:
        return ""
    except (Damaged, InputError, KeyError, TypeError, ValueError) as error:
        return str(error)
    touch(path)
    seconds = time.perf_counter() - start
    say(f"{what} are read from {path} ({gigabytes(images.nbytes)}, checksum verified in {seconds:.1f} s)")
    return Held(images, 0, flat)


def source_path(images: Images | np.ndarray) -> str:
    """Where the files of images are; "" where they have none, or their source does not say."""
    if not isinstance(images, LazyImages):
        return ""
    source = images.source
    return str(getattr(source, "path", None) or getattr(getattr(source, "tree", None), "path", ""))
