"""CIFAR-10 and CIFAR-100 in their binary version: records of fixed size, which no pickle is needed for."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from car_ext.datasets.download import check_md5, download_file
from car_ext.datasets.lazy import ResizedImages
from car_ext.datasets.source import Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.errors import InputError

SIDE = 32


@dataclass(frozen=True)
class Version:
    """How one of the two is distributed.

    Attributes:
        url: the archive.
        md5: of the archive, as the authors give it.
        folder: what the archive unpacks to.
        train: files of the training split, in order.
        test: files of the test split.
        names: text file of the class names, one a line.
        label_bytes: label bytes before the pixels of a record; the last of them is the label.
    """

    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int

    @property
    def archive(self) -> str:
        return self.url.rpartition("/")[2]


VERSIONS = {
    "cifar10": Version(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        "batches.meta.txt",
        1,
    ),
    "cifar100": Version(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        "cifar-100-binary",
        ("train.bin",),
        ("test.bin",),
        "fine_label_names.txt",
        2,  # the first is that of the 20 coarse classes
    ),
}


def load(name: str, root: Path, image_size: int | None, download: bool) -> LongTailedData:
    """The whole, balanced data set; samples keep the order of the files, which is that of the Python version.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009.

    Args:
        name: "cifar10" or "cifar100".
        root: folder that holds the unpacked folder or the archive itself, which need not be unpacked and is only read
            if its md5 is the published one.
        image_size: stored height and width in pixels; None is 32. Others are made each time an image is asked for.
        download: fetch the archive into root if neither is there.

    Raises:
        InputError: neither is there or can be fetched, or it is damaged.
    """
    version = VERSIONS[name]
    read = _reader(version, root, download)
    class_names = tuple(read(version.names).decode("utf-8", "replace").split())

    def split(files: tuple[str, ...]) -> Split:
        pictures, targets = zip(*(_records(read(file), file, version.label_bytes) for file in files), strict=True)
        images, targets = np.concatenate(pictures), np.concatenate(targets)
        if targets.max(initial=0) >= len(class_names):
            raise InputError(f"{name} in {str(root)!r} has a label {targets.max()}, but {len(class_names)} class names")
        return Split(images if image_size in (None, SIDE) else ResizedImages(images, image_size), targets)

    return LongTailedData(name, class_names, split(version.train), split(version.test), image_size or SIDE, channels=3)


def _reader(version: Version, root: Path, download: bool) -> Callable[[str], bytes]:
    """From the name of a file to its bytes, out of the unpacked folder or the archive."""
    folder, archive = root / version.folder, root / version.archive
    if not folder.is_dir():
        if not archive.is_file():
            if not download:
                raise InputError(
                    f"{str(root)!r} holds neither {version.folder}/ nor {version.archive} (the binary version; pickled "
                    "ones are not read): put one there, or add --download"
                )
            download_file(version.url, archive, version.md5)
        return _members(archive, version).__getitem__

    def read(file: str) -> bytes:
        try:
            return (folder / file).read_bytes()
        except OSError as error:
            raise InputError(f"{str(folder / file)!r} cannot be read: {error.strerror}") from error

    return read


def _members(archive: Path, version: Version) -> dict[str, bytes]:
    """Every file that is needed, by its name; nothing is unpacked to disk."""
    check_md5(archive, version.md5)
    members = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            folder, _, file = member.name.rpartition("/")
            wanted = folder == version.folder and file in (*version.train, *version.test, version.names)
            if wanted and (opened := tar.extractfile(member)):
                members[file] = opened.read()
    return members


def _records(data: bytes, file: str, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 32, 32, 3) uint8 and labels (N,) int64; a record holds its pixels channel by channel."""
    size = label_bytes + 3 * SIDE * SIDE
    if not data or len(data) % size:
        raise InputError(f"{file} has {len(data)} bytes, which is no multiple of {size}: fetch it again")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    pictures = records[:, label_bytes:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures), records[:, label_bytes - 1].astype(np.int64)


SOURCE = Source(
    "CIFAR",
    matches=VERSIONS.__contains__,
    load=lambda request: load(request.data, request.root, request.image_size, request.options.download),
    options=("data_root", "download"),
    names=tuple(VERSIONS),
    side=SIDE,
    selection="seeded",
)
