"""Losses of the long-tailed field, by name: `build_loss("ldam:scale=30+drw", class_counts)`."""

from typing import Any

from car_ext.errors import InputError
from car_ext.methods.losses.base import Loss
from car_ext.methods.losses.class_balanced import DeferredReweighting
from car_ext.methods.registry import build
from car_ext.priors import PerClass

__all__ = ["DRW", "Loss", "build_loss"]

DRW = "+drw"


def build_loss(
    spec: str,
    class_counts: PerClass,
    *,
    reduction: str = "mean",
    drw_epoch: int | None = None,
    **options: Any,
) -> Loss:
    """A loss from `NAME[:key=value,...][+drw]`, such as `focal:gamma=1`, `ldam:scale=30+drw`.

    `+drw` wraps it in `DeferredReweighting`. `car_ext.methods.registry.methods("loss")` lists the names.

    Args:
        spec: the word.
        class_counts: (K,) training images of each class.
        reduction: "mean" or "none".
        drw_epoch: of `+drw`: the first epoch with weights, from 1; None: after 80 % of the epochs.
        options: as in the word, and over it.

    Raises:
        InputError: an unknown name or option, a value out of range, drw_epoch without `+drw`.
    """
    name = spec.removesuffix(DRW)
    if name == spec and drw_epoch is not None:
        raise InputError(f"drw_epoch is {drw_epoch}, but loss {spec!r} has no {DRW}; write {spec}{DRW}")
    loss = build("loss", name, class_counts, reduction, **options)
    return loss if name == spec else DeferredReweighting(loss, drw_epoch)
