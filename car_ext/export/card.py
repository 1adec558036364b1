"""The model card of an export: a README.md that says what the model is, and where it is bad."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from car_ext.errors import InputError
from car_ext.metrics.counts import worst_first
from car_ext.metrics.vocabulary import shown
from car_ext.run.folder import RunFolder
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.text import markdown, percent

NAME = "README.md"
LIBRARY = "car-ext"
LISTED = 50  # classes in the table


def check_card(folder: Path) -> None:
    """Refuses to write over a README.md of somebody else.

    Raises:
        InputError: there is one.
    """
    path = folder / NAME
    if path.exists() and f"library_name: {LIBRARY}\n" not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{path} is not a card that an export wrote; move it, or give --out.")


def model_card(run: FinishedRun, run_dir: Path, files: Sequence[str]) -> str:
    """The card's text: what the model was trained on, its scores, its classes from the worst on, and how to use it.

    A head that was corrected after training has no scores there, as those of the run are not its own.

    Args:
        run: what was exported.
        run_dir: its folder.
        files: names of the files that the card lies beside.
    """
    from huggingface_hub import ModelCardData

    summary = (RunFolder(run_dir).read_summary() or {}) if run.scores_hold else {}
    data = str(summary.get("data", run.config["data"]))
    about = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="image-classification",
        tags=["image-classification", "long-tailed", LIBRARY],
        model_name=run_dir.resolve().name,
        eval_results=_results(summary, data) or None,
    )
    parts = [
        f"# {markdown(run_dir.resolve().name)}",
        f"{markdown(str(run.config['model']))}, trained on {markdown(data)}: {sum(run.class_counts):,} images of "
        f"{len(run.class_names):,} classes, from {min(run.class_counts):,} to {max(run.class_counts):,} a class.",
        "Input: " + markdown(run.facts["input"]) + ".",
        *_confidence(run.facts),
        *(_scores(summary) if summary else ["It has not been scored as it is here: `car-ext evaluate` does it."]),
        _classes(run, summary),
        _use(files),
        "Written by [car-ext](https://pypi.org/project/car-ext/) " + markdown(run.facts["car_ext_version"]) + ".",
    ]
    return f"---\n{about.to_yaml().strip()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _results(summary: Mapping[str, Any], data: str) -> list[Any]:
    from huggingface_hub import EvalResult

    keys = {"worst_class_accuracy": "worst-class accuracy", "balanced_accuracy": "balanced accuracy"}
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=data,
            dataset_name=data,
            metric_type="accuracy",
            metric_name=name,
            metric_value=summary[key],
        )
        for key, name in {**keys, "overall_accuracy": "accuracy"}.items()
        if summary.get(key) is not None
    ]


def _confidence(facts: Mapping[str, Any]) -> list[str]:
    said = []
    if facts["correction"]:
        said.append(f"Its head is corrected for the class frequencies: {markdown(facts['correction'])}.")
    if temperature := facts.get("temperature"):
        values = ", ".join(f"{value:.4g} ({group})" for group, value in temperature.items())
        said.append(f"Its logits are divided by a temperature: {values}.")
    if conformal := facts.get("conformal"):
        said.append(
            f"It has prediction sets, which miss the true class of an image at most {percent(conformal['alpha'])} % of "
            "the time, in every class that had enough held-out images."
        )
    return said


def _scores(summary: Mapping[str, Any]) -> list[str]:
    rows = [
        (markdown(score.name), score.text(score.of(summary)) + (" %" if score.fraction else ""))
        for score in shown([summary])
        if score.short and score.of(summary) is not None
    ]
    return ["## Scores on the test images", _table(("score", "value"), rows)]


def _classes(run: FinishedRun, summary: Mapping[str, Any]) -> str:
    accuracies = [summary.get("per_class_accuracy", {}).get(name) for name in run.class_names]
    tested = summary.get("test_counts", {})
    known = [float("nan") if accuracy is None else accuracy for accuracy in accuracies]
    order = worst_first(known, run.class_counts, run.class_names)
    ranked = {*order}
    order += [label for label in range(len(known)) if label not in ranked]
    rows = [
        (
            markdown(run.class_names[label]),
            f"{run.class_counts[label]:,}",
            str(tested.get(run.class_names[label], "-")),
            "-" if accuracies[label] is None else f"{percent(accuracies[label])} %",
        )
        for label in order[:LISTED]
    ]
    more = f"\n\nand {len(order) - LISTED:,} more" if len(order) > LISTED else ""
    table = _table(("class", "training images", "test images", "accuracy"), rows)
    return f"## Classes, the worst first\n\n{table}{more}"


def _use(files: Sequence[str]) -> str:
    onnx = [file for file in files if file.endswith(".onnx")]
    if not onnx:
        return "## Use\n\n```bash\npip install car-ext\n```\n\n" + _python(files[0])
    return (
        "## Use\n\n```bash\npip install onnxruntime numpy pillow\n"
        f"python predict.py {shlex.quote(onnx[0])} picture.jpg\n```\n\n"
        "`predict.py` needs nothing else; its functions are there to be imported."
    )


def _python(file: str) -> str:
    return f"```python\nfrom car_ext.export import open_file\n\nlogits = open_file({file!r})(images)\n```"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
