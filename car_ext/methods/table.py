"""Every method that has a name here, and the table of them that the documentation shows."""

from car_ext.methods import contrast, heads, losses, registry, samplers
from car_ext.methods import second_stages as stage2
from car_ext.methods.augment import mix
from car_ext.methods.left_out import LEFT_OUT
from car_ext.methods.regularizers import balancing as weight_regularizers
from car_ext.methods.regularizers import car as regularizer

REGISTERING = (losses, regularizer, weight_regularizers, heads, samplers, mix, contrast, stage2)  # by being imported
FLAGS = {
    "loss": "--loss",
    "regularizer": "--regularizer",
    "head": "--head",
    "sampler": "--sampler",
    "mix": "--mix",
    "contrast": "--contrast",
    "stage2": "--stage2 RUN --retrain",
}
TESTS = {
    "loss": "test_losses.py",
    "regularizer": "test_weight_regularizers.py",
    "head": "test_heads.py",
    "sampler": "test_samplers.py",
    "mix": "test_mix.py",
    "contrast": "test_contrast.py",
    "stage2": "test_field.py",
}
CAR_TESTS = "test_ops.py, test_regularizer.py"
COLUMNS = ("name: options", "method", "formula", "test", "published", "remarks")


def names(kind: str) -> str:
    """The names of one kind, for a line of help."""
    return ", ".join(registry.methods(kind))


def markdown() -> str:
    """Every method: flag with its options and their defaults, source, formula, a published number, remarks.

    At the end those that are not here, and why.
    """
    lines = []
    for kind, flag in FLAGS.items():
        lines += [f"## `{flag}`", "", f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
        for method in registry.methods(kind).values():
            options = ",".join(f"{key}={_plain(value)}" for key, value in registry.options(method).items())
            word = f"`{method.name}{':' if options and kind != 'stage2' else ''}{options}`"
            test = CAR_TESTS if method.name == "car" else TESTS[kind]
            method_cell, formula = f"{method.title}. {method.source}", f"`{method.formula}`"
            cells = (word, method_cell, formula, test, method.published, method.notes)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += ["## Left out", "", *(f"- {name}: {reason}" for name, reason in LEFT_OUT.items()), ""]
    return "\n".join(lines)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
