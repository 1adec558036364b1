"""Regularizers: CAR, and those of the classifier's weight."""

from car_ext.methods.regularizers import repulsion, balancing, car  # noqa: F401, I001  (registers them)
