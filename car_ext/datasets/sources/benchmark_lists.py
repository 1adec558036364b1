"""ImageNet-LT, Places-LT and iNaturalist 2018: images named by the list files of the benchmarks' authors."""

from car_ext.datasets.source import Request, Source
from car_ext.datasets.sources import list_file
from car_ext.datasets.split import LongTailedData

# The training and test lists, under the names their authors gave them.
NAMED = {
    "imagenet_lt": ("ImageNet_LT_train.txt", "ImageNet_LT_test.txt"),
    "places_lt": ("Places_LT_train.txt", "Places_LT_test.txt"),
    "inaturalist2018": ("iNaturalist18_train.txt", "iNaturalist18_val.txt"),
}


def load(request: Request) -> LongTailedData:
    """Lists the images of a benchmark without decoding them, see `list_file.load`.

    Raises:
        InputError: as `list_file.read` and `list_file.load`.
    """
    needed = {"train": request.needs_train, "test": request.needs_test}
    lists = zip(needed, NAMED[request.data], strict=True)
    return list_file.load(
        request,
        request.data,
        {split: list_file.read(request, request.root / file) for split, file in lists if needed[split]},
    )


SOURCE = Source(
    "benchmark lists",
    matches=NAMED.__contains__,
    load=load,
    options=("data_root",),
    names=tuple(NAMED),
    selection="seeded",
)
