"""Contrastive methods of the long-tailed field, by name: `build_contrast("bcl:beta=0.35", class_counts, model)`."""

from car_ext.methods.contrast.base import Contrast, Network
from car_ext.methods.heads.base import weight_of
from car_ext.methods.registry import build
from car_ext.priors import PerClass

__all__ = ["Contrast", "build_contrast"]


def build_contrast(spec: str, class_counts: PerClass, model: Network) -> Contrast:
    """A contrastive method from `NAME[:option=value,...]`, such as `bcl:beta=0.35,temperature=0.07`.

    Args:
        spec: the word; `car_ext.methods.registry.methods("contrast")` lists the names.
        class_counts: (K,) training images of each class.
        model: the classifier it is to train with, as `car_ext.models.Classifier`: `features` gives (N, D), `head`
            has a `weight` (K, D), `backbone` the other parameters.

    Raises:
        InputError: an unknown name or option, an option out of range.
    """
    return build("contrast", spec, class_counts, weight_of(model.head).shape[1], model)
