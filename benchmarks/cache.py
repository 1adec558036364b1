"""What decoding once is worth: the first start, the later ones, and an epoch from a file, from memory and by decoding.

python benchmarks/cache.py                       # 2,000 photographs of 500 x 375 pixels, drawn here, to 224 pixels
python benchmarks/cache.py --images 20000 --folder /mnt/disk    # the disk that is measured

Ways that are compared take turns, so that a busy machine slows all; of each the median is printed. The file has just
been written, so the system holds it in memory: for what a cold disk gives, take more images than the memory holds.
"""

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from decode import photograph

from car_ext.datasets import DataOptions, LazyImages, cache, identity, load
from car_ext.datasets.decoding import block_length, blocks, decode_all
from car_ext.datasets.mapped import MappedImages, verified, write
from car_ext.datasets.reading import stack

DRAWN = 64  # different photographs; the others are copies of them in files of their own
BATCH = 128


def draw(folder: Path, images: int, width: int, height: int) -> None:
    """Two classes of photographs."""
    different = [photograph(seed, width, height) for seed in range(min(DRAWN, images))]
    for number in range(images):
        path = folder / ("ant", "bee")[number % 2] / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(different[number % len(different)])


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def side_by_side(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            taken[name].append(seconds(way))
    return {name: statistics.median(times) for name, times in taken.items()}


def epoch(images: LazyImages | MappedImages | np.ndarray) -> None:
    """Every image once, in a random order, in batches, as a training takes them in one process."""
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order), BATCH):
        stack(images, order[start : start + BATCH]).sum()  # so that every byte is read


def list_shard(path: Path, files: list[Path]) -> float:
    """Seconds a thousand members to list a tar shard of images and labels."""
    with tarfile.open(path, "w") as archive:
        for number, file in enumerate(files):
            for name, content in ((f"{number}.jpg", file.read_bytes()), (f"{number}.cls", b"%d" % (number % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    from car_ext.datasets.tars import members
    from car_ext.datasets.tree import FolderTree

    return 1000 * seconds(lambda: members(FolderTree(path.parent), [path.name], 0)) / (2 * len(files))


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    draw(folder / "photos", arguments.images, arguments.width, arguments.height)
    data = load(folder / "photos", arguments.side, cache_bytes=0, splits=("train",), options=DataOptions(test_share=0))
    images = data.train.images
    shape = (len(images), arguments.side, arguments.side, 3)
    gigabytes = np.prod(shape) / 1e9
    mean = sum(path.stat().st_size for path in (folder / "photos").rglob("*.jpg")) / len(images) / 1e3
    print(f"{len(images):,} files of {arguments.width} x {arguments.height} pixels, {mean:.0f} KB, to {arguments.side}")
    print(f"decoded: {gigabytes:.3f} GB; {os.cpu_count()} cores\n")

    path = folder / "decoded.npy"

    def first_start(threads: int) -> None:
        step = block_length(len(images), threads)
        write(path, shape, blocks(images, shape, "decoding", step, threads), {})

    threads = sorted({*arguments.threads})
    ways: dict[str, Callable[[], object]] = {}
    for number in threads:
        ways[f"to memory, {number} threads"] = lambda number=number: decode_all(images, shape, "decoding", number)
        ways[f"to a file, {number} threads"] = lambda number=number: first_start(number)
    print("| decoding all | images/s |\n| --- | ---: |")
    for name, taken in side_by_side(ways, arguments.turns).items():
        print(f"| {name} | {len(images) / taken:,.0f} |")

    mapped, held = MappedImages(path), decode_all(images, shape, "decoding")
    assert (mapped.rows(range(len(images))) == held).all()
    taken = side_by_side(
        {
            "memory": lambda: epoch(held),
            "the file": lambda: epoch(mapped),
            "decoding, 1 thread": lambda: epoch(images),
        },
        arguments.turns,
    )
    print("\n| an epoch in random order from | images/s | GB/s |\n| --- | ---: | ---: |")
    for name, of_epoch in taken.items():
        print(f"| {name} | {len(images) / of_epoch:,.0f} | {gigabytes / of_epoch:.2f} |")

    ways = {f"checksum, {number} threads": lambda number=number: verified(path, number) for number in threads}
    print("\n| at each start | seconds a GB |\n| --- | ---: |")
    for name, of_all in side_by_side(ways, arguments.turns).items():
        print(f"| {name} | {of_all / gigabytes:.3f} |")

    def known() -> None:
        identity.identity(images)

    ways = {
        "stamps of the files": known,
        f"{cache.TRIED} images decoded": lambda: [images[i] for i in range(cache.TRIED)],
    }
    print("\n| at each start | seconds |\n| --- | ---: |")
    for name, once in side_by_side(ways, arguments.turns).items():
        note = f" ({1e6 * once / len(images):.1f} us a file)" if once and name.startswith("stamps") else ""
        print(f"| {name}{note} | {once:.4f} |")
    files = sorted((folder / "photos").rglob("*.jpg"))
    print(f"| listing a tar shard, a thousand members | {list_shard(folder / 'train-0.tar', files):.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's folder for temporary files")
    arguments = parser.parse_args()
    if arguments.images < 4:
        sys.exit("--images: give at least 4")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Path(folder), arguments)


if __name__ == "__main__":
    main()
