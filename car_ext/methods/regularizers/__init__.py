"""Regularizers: CAR, and those of the classifier's weight."""

from typing import Any

from car_ext.errors import InputError
from car_ext.methods.registry import parse


def split_words(words: str) -> tuple[dict[str, Any] | None, list[str]]:
    """`car:alpha=1+maxnorm` as the options that CAR's word gives, None without one, and the words of the others.

    Raises:
        InputError: CAR is named twice and not alike, or its word has an unknown option or a value of another type.
    """
    every = [] if words == "none" else words.split("+")
    of_car = [word for word in every if word.partition(":")[0] == "car"]
    if len(set(of_car)) > 1:
        raise InputError(f"regularizer {words!r} names car more than once; keep one.")
    return parse("regularizer", of_car[0])[1] if of_car else None, [word for word in every if word not in of_car]
