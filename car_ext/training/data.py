"""The data of a job: loaded, cut and held out as its options say."""

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.methods.augment.images import LARGEST_CROP

Loaded = tuple[datasets.LongTailedData, int, str]  # the data, the side the network sees, and the augmentation


def load_data(config: Config) -> Loaded:
    """The data, the side the network sees, and the augmentation."""
    size, augment = config.img_size, config.augment
    if augment == "auto" and config.data == "digits":
        augment = "none"
    if augment == "auto" and size:
        augment = "rrc" if size > LARGEST_CROP else "crop-flip"
    # Random resized crops need something to crop from; the original images give it where a size is asked for.
    crops = augment.startswith("rrc") or (augment.startswith("randaugment") and (size or 0) > LARGEST_CROP)
    stored = config.resize or (round(1.1 * size) if size and crops else size)
    cache = None if config.cache_gb is None else int(config.cache_gb * 1e9)
    splits = ("train",) if config.holdout else ("train", "test")  # what is held out takes the place of test images
    data = datasets.load(config.data, stored, config.imbalance_ratio, cache, splits, config.data_options)
    if augment == "auto":
        augment = "rrc" if data.image_size > LARGEST_CROP else "crop-flip"
    if config.holdout:
        data = datasets.hold_out(data, config.holdout, config.data_options)
    if not (data.whole or config.val_share or config.holdout) and (config.groups or config.split_seed):
        raise InputError(
            f"--groups and --split-seed say how images are set aside, but data {config.data!r} have splits of their "
            "own: leave them out, or add --val-share 0.1"
        )
    return data, size or data.image_size, augment
