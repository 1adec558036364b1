"""What a data set's name leaves open."""

import dataclasses
from pathlib import Path

from car_ext.errors import InputError

PLACES = ("data_root", "test_list", "label_column", "download")  # the options that say where and what the files are


def expanded(path: str | Path) -> Path:
    """A path with its ~ replaced by a home folder.

    Raises:
        InputError: it begins with the ~ of a user that there is none of.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0]
        raise InputError(
            f"path {str(path)!r} begins with {user!r}, the home folder of a user who is not known here: "
            f"write the path out, or ./{user} for a folder called so"
        ) from error


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where a data set's files are and how its training split is cut.

    Attributes:
        data_root: folder with the files of a benchmark, or to which the paths in a list file are relative.
        test_list: the test images of a list file.
        label_column: which column of a parquet folder or a .csv file is the label, where several could be.
        download: fetch CIFAR into data_root if it is not there.
        profile, selection, selection_seed: see `longtail.imbalance`; a selection of None is "seeded" for the named
            benchmarks and "first" for everything else.
        test_share: share of each class that is set aside as the test split of data that come in one part; None is
            `holdout.TEST_SHARE`, 0 none.
        val_share: share of each class's training images that is set aside as the validation split.
        split_seed: of these choices, and of that of `holdout.hold_out`.
        groups: what says which images stay together, see `draw.group_numbers`.
        cache_dir: folder of decoded images, see `cache_folder.find_folder`.
    """

    data_root: str | Path | None = None
    test_list: str | Path | None = None
    label_column: str | None = None
    download: bool = False
    profile: str = "exp"
    selection: str | None = None
    selection_seed: int = 0
    test_share: float | None = None
    val_share: float = 0.0
    split_seed: int = 0
    groups: str | None = None
    cache_dir: str | Path = "auto"

    def check_used(self, data: str, *used: str) -> None:
        """Refuses what says where files are, but is not among the names of the options that data uses.

        Raises:
            InputError: one is given.
        """
        for name in PLACES:
            if getattr(self, name) and name not in used:
                raise InputError(
                    f"--{name.replace('_', '-')} is given, but data {data!r} has no use for it: leave it out"
                )

    def root(self, data: str) -> Path:
        """data_root as a path.

        Raises:
            InputError: there is none.
        """
        if self.data_root is None:
            raise InputError(f"data {data!r} needs --data-root, the folder with its files")
        return expanded(self.data_root)
