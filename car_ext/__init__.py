"""car-ext: image classifiers that are good on their worst class.

from car_ext import CAR, build_loss

car, balanced = CAR(class_counts), build_loss("balanced_softmax", class_counts)
loss = balanced(logits, targets) + car(logits, targets)
"""

from car_ext.errors import InputError
from car_ext.methods.losses import build_loss
from car_ext.methods.regularizers import balancing as weight_regularizers  # noqa: F401  (registers its methods)
from car_ext.methods.regularizers.car import CAR, VARIANTS, Variant
from car_ext.ops.functional import confusion, spectral_norm

__all__ = ["CAR", "VARIANTS", "InputError", "Variant", "build_loss", "confusion", "spectral_norm"]
__version__ = "0.1.0"
