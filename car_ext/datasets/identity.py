"""By what decoded images are known to be those of their files, as the files are now and as we decode them now."""

import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL
from PIL import features

from car_ext.datasets import picture
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.stamp import Stamp

FORMAT = 1  # of the files of decoded images
CODECS = ("jpg", "libjpeg_turbo", "zlib", "webp", "libtiff")  # of Pillow, in its words
THREADS, TOGETHER = 8, 1024  # that ask for stamps, and keys of a turn: a network answers many at a time
TICK = 2.0  # seconds: two changes of a file within them may leave one time stamp, on FAT for one
TRIES = 3


def identity(images: LazyImages) -> str | None:
    """A hash of what decides the pixels of images: which files in which order, their stamps, the size, the decoder.

    Returns:
        Hexadecimal; None where the source of the images has no `stamps`, or is no `LazyImages` itself.
    """
    return found[0] if (found := _identity(images)) else None


def settled(images: LazyImages) -> str | None:
    """The identity of images, once every later change of their files will change it; None as of `identity`.

    A file that was changed within the last tick of its clock may change again without another stamp. Where one was, a
    tick is waited for in which none changes.

    Returns:
        As `identity`; None also where files change all the time.
    """
    found = _identity(images)
    for _ in range(TRIES):
        if found is None or found[1] < time.time() - TICK:
            return found and found[0]
        time.sleep(TICK)
        again = _identity(images)
        if again == found:  # whatever the clock of the files' server says
            return found[0]
        found = again
    return None


def _identity(images: LazyImages) -> tuple[str, float] | None:
    """The hash, and when the last of the files was changed, in seconds since 1970."""
    ask = getattr(images.source, "stamps", None)
    if ask is None or type(images) is not LazyImages:
        return None

    def stamped(start: int) -> tuple[bytes, int]:
        keys = list(images.keys[start : start + TOGETHER])
        stamps: Sequence[Stamp] = ask(keys)
        text = repr((keys, [tuple(stamp) for stamp in stamps]))
        newest = max((stamp.changed if os.name == "posix" else stamp.modified for stamp in stamps), default=0)
        return hashlib.sha256(text.encode(errors="backslashreplace")).digest(), newest

    decided = {"source": type(images.source).__name__, "size": images.image_size, **decoder()}
    digest, last = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()), 0
    with ThreadPoolExecutor(THREADS) as pool:
        for part, newest in pool.map(stamped, range(0, len(images), TOGETHER)):
            digest.update(part)
            last = max(last, newest)
    return digest.hexdigest(), last / 1e9


@functools.cache
def decoder() -> dict[str, Any]:
    """What decides the pixels besides the files: our text, Pillow and the libraries that it decodes with."""
    return {
        "format": FORMAT,
        "decoder": hashlib.sha256(Path(picture.__file__).read_bytes()).hexdigest(),
        "pillow": PIL.__version__,
        "codecs": {name: str(features.version(name)) for name in CODECS if features.check(name)},
        "machine": platform.machine(),
    }
