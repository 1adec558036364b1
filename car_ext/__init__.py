"""car-ext: image classifiers that are good on their worst class."""
