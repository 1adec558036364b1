"""YAML files that come with the package, each found by its name: recipes, files of methods, and what sweeps vary."""

from pathlib import Path

RECIPES = Path(__file__).parent  # of --config
METHODS = RECIPES / "methods"  # of --methods
SWEEPS = RECIPES / "sweeps"  # of --space
