"""car-ext: image classifiers that are good on their worst class.

from car_ext import CAR, build_loss

balanced, car = build_loss("balanced_softmax", class_counts), CAR(class_counts, alpha=0.2, prior=1)
loss = balanced(logits, targets) + car(logits, targets)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from car_ext.automatic.auto import auto
    from car_ext.errors import InputError
    from car_ext.methods.losses import build_loss
    from car_ext.methods.regularizers.car import CAR, VARIANTS, Variant
    from car_ext.ops.functional import confusion, spectral_norm

__all__ = ["CAR", "VARIANTS", "InputError", "Variant", "auto", "build_loss", "confusion", "spectral_norm"]
__version__ = "0.1.0"

_HOMES = {
    "CAR": "car_ext.methods.regularizers.car",
    "VARIANTS": "car_ext.methods.regularizers.car",
    "InputError": "car_ext.errors",
    "Variant": "car_ext.methods.regularizers.car",
    "auto": "car_ext.automatic.auto",
    "build_loss": "car_ext.methods.losses",
    "confusion": "car_ext.ops.functional",
    "spectral_norm": "car_ext.ops.functional",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for (PEP 562), so that scores and reports need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
