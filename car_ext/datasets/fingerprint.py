"""By what data are known again, wherever they lie."""

import hashlib
import json
from collections.abc import Collection

import numpy as np

from car_ext.datasets.content import content
from car_ext.datasets.split import LongTailedData

SAMPLE = 16  # images of a split whose content is read


def fingerprint(data: LongTailedData, splits: Collection[str]) -> str:
    """A hash of the class names, the labels and a fixed sample of the images of some splits; not of any path.

    Two data sets with the same one are taken for the same: a change of single files may go unseen.

    Raises:
        InputError: an image of the sample cannot be read.
    """
    digest = hashlib.sha256(json.dumps(data.class_names).encode())
    for part in sorted(splits):
        split = getattr(data, part)
        digest.update(part.encode() + split.targets.astype("<i8").tobytes())
        for index in np.unique(np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(int)):
            digest.update(hashlib.sha256(content(split.images, int(index))).digest())
    return digest.hexdigest()
