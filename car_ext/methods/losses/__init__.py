"""Losses of the long-tailed field, by name: `build_loss("ldam:scale=30+drw", class_counts)`."""

import re
from typing import Any

from car_ext.errors import InputError
from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import build
from car_ext.priors import PerClass

__all__ = ["Loss", "build_loss"]


def build_loss(
    spec: str,
    class_counts: PerClass,
    *,
    reduction: str = "mean",
    drw_epoch: int | None = None,
    **options: Any,
) -> Loss:
    """A loss from `NAME[:key=value,...][+drw[:key=value,...]]`, such as `focal:gamma=1`, `ldam:scale=30+drw`.

    `+drw` wraps it in `DeferredReweighting`, with the options behind it. `car_ext.methods.registry.methods("loss")`
    lists the names.

    Args:
        spec: the word.
        class_counts: (K,) training images of each class.
        reduction: "mean" or "none".
        drw_epoch: of `+drw`: the first epoch with weights, from 1; None: after 80 % of the epochs.
        options: as in the word, and over it.

    Raises:
        InputError: an unknown name or option, a value out of range, drw_epoch without `+drw`.
    """
    name, *weightings = re.split(r"\+(?=[a-z])", spec)  # the plus of 1e+3 is none
    if not weightings and drw_epoch is not None:
        raise InputError(f"drw_epoch is {drw_epoch}, but loss {spec!r} has no +drw; write {spec}+drw")
    loss = build("loss", name, class_counts, reduction, **options)
    for word in weightings:
        loss = build("weighting", word, loss, drw_epoch)
    return loss
