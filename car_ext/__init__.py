"""car-ext: image classifiers that are good on their worst class.

from car_ext import CAR

car = CAR(class_counts)
loss = F.cross_entropy(logits, targets) + car(logits, targets)
"""

from .errors import InputError
from .regularizer import CAR, VARIANTS, Variant

__all__ = ["CAR", "VARIANTS", "InputError", "Variant"]
__version__ = "0.1.0"
