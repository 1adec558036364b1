"""The table of every method with a name that the documentation shows."""

from car_ext.methods import registry
from car_ext.methods.left_out import LEFT_OUT

FLAGS = {
    "loss": "--loss",
    "weighting": "--loss LOSS+",
    "regularizer": "--regularizer",
    "head": "--head",
    "sampler": "--sampler",
    "mix": "--mix",
    "contrast": "--contrast",
    "stage2": "--stage2 RUN --retrain",
}
TESTS = {
    "loss": "tests/methods/losses/test_losses.py",
    "weighting": "tests/methods/losses/test_losses.py",
    "regularizer": "tests/methods/regularizers/test_on_weight.py",
    "head": "tests/methods/heads/test_heads.py",
    "sampler": "tests/methods/test_samplers.py",
    "mix": "tests/methods/augment/test_mix.py",
    "contrast": "tests/methods/contrast/test_contrast.py",
    "stage2": "tests/methods/test_table.py",
}
CAR_TESTS = "tests/ops/test_operators.py, tests/methods/regularizers/test_car.py"
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
        lines += [*map(_row, registry.methods(kind).values()), ""]
    lines += ["## Left out", "", *(f"- {name}: {reason}" for name, reason in LEFT_OUT.items()), ""]
    return "\n".join(lines)


def _row(method: registry.Method) -> str:
    options = ",".join(f"{key}={_plain(value)}" for key, value in registry.options(method).items())
    word = f"`{method.name}{':' if options and method.kind != 'stage2' else ''}{options}`"
    test = CAR_TESTS if method.name == "car" else TESTS[method.kind]
    cells = (
        word,
        f"{method.title}. {method.source}",
        f"`{method.formula}`",
        test,
        method.published,
        method.notes,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
