"""What decoding large JPEG files at a fraction of their size is worth: time, and how far the pixels move.

python benchmarks/decode.py --images 60     # detailed 12-megapixel photographs, drawn here

Both ways take turns on every file, so that a busy machine slows both; medians are printed. The cache is what a training
decodes at its start, in a thread a core.
"""

import argparse
import io
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from car_ext.datasets import picture

WAYS = {"full size": 10**6, "draft": picture.DRAFT}  # pixels asked for of each that is kept: more than there are


def photograph(seed: int, width: int, height: int) -> bytes:
    """A JPEG file with detail at every scale, as of a natural scene, and the noise of a sensor."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (1, 1), (128, 128, 128))
    for halvings in range(8, -1, -1):
        side = (max(1, width >> halvings), max(1, height >> halvings))
        detail = random.normal(scale=5 + halvings * 2, size=(side[1], side[0], 1)).astype(np.float32)
        pixels = np.asarray(image.resize(side, Image.Resampling.BILINEAR)) + detail
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def decoded(data: bytes, side: int, way: str) -> np.ndarray:
    picture.DRAFT = WAYS[way]
    return picture.decode(data, side, "photograph")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--side", type=int, default=224)
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        seeds = range(arguments.images)
        files = list(pool.map(lambda seed: photograph(seed, arguments.width, arguments.height), seeds))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    moved = []
    for data in files:
        found = {}
        for way in WAYS:
            start = time.perf_counter()
            found[way] = decoded(data, arguments.side, way).astype(int)
            seconds[way].append(time.perf_counter() - start)
        moved.append(np.abs(found["draft"] - found["full size"]))
    size = statistics.median(map(len, files)) / 1e6
    print(f"{len(files)} files of {arguments.width} x {arguments.height}, {size:.1f} MB, to {arguments.side} pixels")
    for way, times in seconds.items():
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda data, way=way: decoded(data, arguments.side, way), files))
        whole = time.perf_counter() - start
        print(f"{way:<10} {1000 * statistics.median(times):7.1f} ms a file; all in {threads} threads: {whole:.2f} s")
    print(f"pixels differ by {np.mean(moved):.2f} of 255 on average, by at most {np.max(moved)}")


if __name__ == "__main__":
    main()
