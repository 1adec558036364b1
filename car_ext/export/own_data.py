"""The data that a run was trained on, loaded again."""

from collections.abc import Collection
from dataclasses import replace

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.text import nfc


def own_data(
    run: FinishedRun, data: str | None, data_root: str | None, splits: Collection[str] = ("train",), hold: bool = True
) -> datasets.LongTailedData:
    """Cut as in training, and nothing decoded ahead: a few hundred images of perhaps a million are wanted.

    Args:
        run: the run.
        data, data_root: where its data lie now; as then where None.
        splits: as of `datasets.load`.
        hold: whether to set aside what the run held out.

    Raises:
        InputError: data that cannot be read or have other classes than the run.
    """
    config = Config.from_dict(run.config, "the run")
    where, options = data or config.data, config.data_options
    if data_root:
        options = replace(options, data_root=data_root)
    if not run.whole and "test" not in splits:
        options = replace(options, test_share=0)  # its test images may be gone by now
    try:
        loaded = datasets.load(where, run.stored_size, config.imbalance_ratio, 0, splits, options)
    except InputError as error:
        raise InputError(
            f"the run's data cannot be read: {error}; if they have moved, give --data (and --data-root)."
        ) from error
    if config.holdout and hold:
        loaded = datasets.hold_out(loaded, config.holdout, options)
    if [nfc(name) for name in loaded.class_names] != run.class_names or loaded.channels != run.channels:
        raise InputError(f"{where} does not have the classes of the run; give its training data with --data.")
    return loaded
