"""Mean and standard deviation of pixels: of images at hand, and the constants that published code normalises by."""

import numpy as np

from car_ext.datasets.split import Images

SAMPLE = 2000  # images that statistics are taken of

# (3,) means and (3,) deviations of intensity / 255. CIFAR's deviations are not those of its pixels (0.25), but what all
# published code on CIFAR-LT divides by, for CIFAR-100 too.
CONSTANTS = {
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inaturalist": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
}


def statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (C,) of intensity / 255 over up to 2000 evenly spaced images."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)
    sums = np.zeros((2, np.asarray(images[0]).shape[-1]))
    for index in chosen:
        pixels = images[int(index)] / 255
        sums += pixels.mean(axis=(0, 1)), np.square(pixels).mean(axis=(0, 1))
    mean, square = sums / len(chosen)
    std = np.sqrt(np.maximum(square - mean**2, (1 / 255) ** 2))  # a channel may be constant
    return mean.tolist(), std.tolist()
