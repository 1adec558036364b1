"""The sizes of the published benchmarks, by which a wrong or incomplete copy is told."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from car_ext.datasets.split import LongTailedData
from car_ext.errors import InputError


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark's splits hold; every test set is balanced.

    Attributes:
        classes: K.
        train: training images.
        largest: training images of the largest class.
        smallest: training images of the smallest class.
        test: test images.
        source: where the numbers and the files are from.
    """

    classes: int
    train: int
    largest: int
    smallest: int
    test: int
    source: str


BENCHMARKS = {
    "cifar10": Benchmark(10, 50_000, 5000, 5000, 10_000, "Krizhevsky, technical report, 2009"),
    "cifar100": Benchmark(100, 50_000, 500, 500, 10_000, "Krizhevsky, technical report, 2009"),
    "tiny_imagenet": Benchmark(200, 100_000, 500, 500, 10_000, "Le and Yang, CS 231N, 2015"),
    "imagenet_lt": Benchmark(1000, 115_846, 1280, 5, 50_000, "Liu et al. (OLTR), CVPR 2019"),
    "places_lt": Benchmark(365, 62_500, 4980, 5, 36_500, "Liu et al. (OLTR), CVPR 2019"),
    "inaturalist2018": Benchmark(8142, 437_513, 1000, 2, 24_426, "Van Horn et al., CVPR 2018"),
}


def check_size(name: str, data: LongTailedData, splits: Collection[str]) -> None:
    """Refuses data that is not the benchmark it is called.

    Raises:
        InputError: its classes or the images of one of the splits are not as many as published.
    """
    published = BENCHMARKS[name]
    each = published.test // published.classes
    compared = [("classes", data.num_classes, published.classes)]
    for part, expected in (
        ("train", (published.train, published.largest, published.smallest)),
        ("test", (published.test, each, each)),
    ):
        if part in splits:
            counts = np.bincount(getattr(data, part).targets, minlength=data.num_classes)
            what = (f"{part} images", f"{part} images of the largest class", f"{part} images of the smallest class")
            compared += zip(what, (counts.sum(), counts.max(), counts.min()), expected, strict=True)
    if wrong := [f"{found} {what}, not {expected}" for what, found, expected in compared if found != expected]:
        raise InputError(
            f"these files are not {name} as published ({published.source}), but have {'; '.join(wrong)}: "
            "fetch them again, or give data of your own by its path"
        )
