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
        InputError: as `list_file.load`.
    """
    train, test = (request.root / file for file in NAMED[request.data])
    return list_file.load(
        request, request.data, train if request.needs_train else None, test if request.needs_test else None
    )


SOURCE = Source(
    "benchmark lists",
    matches=NAMED.__contains__,
    load=load,
    options=("data_root",),
    names=tuple(NAMED),
    selection="seeded",
)
