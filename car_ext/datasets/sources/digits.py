"""The handwritten digits that come with scikit-learn: a long-tailed data set that needs no download."""

import numpy as np
from PIL import Image

from car_ext.datasets.decode import square
from car_ext.datasets.source import Source
from car_ext.datasets.split import LongTailedData, Split

TEST_PER_CLASS = 70
MAX_TRAIN_PER_CLASS = 100
IMBALANCE_RATIO = 50  # by default: 100 images down to 2


def load(image_size: int | None) -> LongTailedData:
    """1797 grey 8 x 8 digits: 70 a class to test, and up to 100 a class to train on.

    The file runs writer by writer, so its first samples are the hand of a few people. Each class is therefore
    put in a fixed random order, the same on every machine: its first 70 are the test set, the next 100 the
    training set, whose head a long-tailed profile keeps.

    Args:
        image_size: stored height and width in pixels; None is 8, the original.
    """
    from sklearn.datasets import load_digits  # a second to import, for no other data

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    if image_size not in (None, 8):
        pictures = [square(Image.fromarray(image[..., 0]), image_size) for image in images]
        images = np.stack([np.array(picture) for picture in pictures])[..., None]
    # NumPy promises that the stream of RandomState, unlike that of a Generator, never changes.
    random = np.random.RandomState(0)
    orders = [random.permutation(np.flatnonzero(digits.target == label)) for label in range(10)]
    test = np.concatenate([order[:TEST_PER_CLASS] for order in orders])
    train = np.concatenate([order[TEST_PER_CLASS:][:MAX_TRAIN_PER_CLASS] for order in orders])
    targets = digits.target.astype(np.int64)
    return LongTailedData(
        "digits",
        tuple(map(str, digits.target_names)),
        Split(images[train], targets[train]),
        Split(images[test], targets[test]),
        images.shape[1],
        channels=1,
    )


SOURCE = Source(
    "digits",
    matches="digits".__eq__,
    load=lambda request: load(request.image_size),
    names=("digits",),
    side=8,
    imbalance_ratio=IMBALANCE_RATIO,
)
