"""The best worst class of a folder, chosen on its training images: representations raced, heads tried, one exported."""

from car_ext.automatic.auto import auto

__all__ = ["auto"]
