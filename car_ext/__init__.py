"""car-ext: image classifiers that are good on their worst class.

from car_ext import CAR, build_loss

car, balanced = CAR(class_counts), build_loss("balanced_softmax", class_counts)
loss = balanced(logits, targets) + car(logits, targets)
"""

from . import weight_regularizers  # noqa: F401  (registers its methods)
from .confusion_matrix import confusion, spectral_norm
from .errors import InputError
from .losses import build_loss
from .regularizer import CAR, VARIANTS, Variant

__all__ = ["CAR", "VARIANTS", "InputError", "Variant", "build_loss", "confusion", "spectral_norm"]
__version__ = "0.1.0"
