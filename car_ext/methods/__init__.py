"""Every method of the field, one word each; `register` adds one, from here or from another package."""

from car_ext.methods.registry import register

__all__ = ["register"]
