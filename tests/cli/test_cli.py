import os
import re
import subprocess
import sys

import numpy as np
import pytest

from car_ext import text
from car_ext.cli import exits
from car_ext.cli import tables as cli
from car_ext.errors import InputError
from car_ext.metrics.scoring import Scoring
from car_ext.metrics.summary import summarize, worst_confusions
from car_ext.metrics.vocabulary import scores

HOSTILE = "[red]cat[/red]\x1b[2J\\"


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("main", "code", "stderr"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (
            lambda: fail(InputError("data 'x' is missing:\n check the path")),
            2,
            "error: data 'x' is missing: check the path\n",
        ),
        (lambda: fail(KeyboardInterrupt()), 130, "interrupted\n"),
    ],
)
def test_exit_codes(main, code, stderr, capsys):
    assert exits.run(main) == code
    assert capsys.readouterr() == ("", stderr)


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exits.run(lambda: 1 // 0)


def test_a_closed_pipe_ends_quietly():
    script = "import sys; from car_ext.cli import run; sys.exit(run(lambda: print(input())))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen([sys.executable, "-c", script], env=buffered, **pipes) as process:
        process.stdout.close()
        process.stdin.write(b"one line\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.fixture
def confusion():
    return np.array([[90, 60], [10, 40]])


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def rows(text):
    """First cell to the other cells of each printed row."""
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return {first: rest for first, *rest in cells if rest}


def test_summary_table(confusion, capsys):
    names = [HOSTILE, "dog"]
    cli.print_summary(
        {
            "CE": summarize(confusion, [500, 5], names),
            "CAR": summarize(confusion.T, [500, 5], names, 0.9),
        },
        "CIFAR [IR 100]",
    )
    out = capsys.readouterr().out
    table = rows(out)
    assert "CIFAR [IR 100]" in out
    assert table["accuracy in %"] == ["CE", "CAR"]
    assert table["classes at 0 %"] == ["0 of 2", "0 of 2"]
    assert table["overall"] == ["65.0", "65.0"]
    assert table["balanced"] == ["65.0", "70.0"]
    assert table["worst class"] == ["40.0", "60.0"]
    assert table["which one"] == ["dog", "[red]cat[/red]\N{REPLACEMENT CHARACTER}[2J\\"]
    assert table["images right"] == ["40 of 100", "90 of 150"]
    assert "95 % interval" not in table
    assert table["rarest three"] == ["65.0", "70.0"]
    assert table["many"] == ["90.0", "60.0"]
    assert table["medium"] == ["-", "-"]
    assert table["few"] == ["40.0", "80.0"]
    assert table["worst-class ratio"] == ["-", "66.7"]


def test_the_worst_comes_first(capsys):
    """How many classes are not recognised at all, the worst tenth and the worst class, with how sure that is."""
    right = np.arange(20)
    confusion = np.diag(right)
    confusion[19] += np.array([*20 - right[:19], 0])
    names = [f"class {number}" for number in range(20)]
    scoring = Scoring(20)
    predicted, true = (np.repeat(labels.ravel(), confusion.ravel()) for labels in np.indices((20, 20)))
    scoring.update(np.eye(20)[predicted], true)
    summary = scoring.summary(range(20, 0, -1), names)
    other = summary | {"classes_at_zero": 5, "worst_class": "class 3", "worst_class_images": 12}
    cli.print_summary({"one": summary, "two seeds": [summary, other]})
    out = capsys.readouterr().out
    lines = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert "too low" in out, "the bias of the interval is told"
    assert [line for line in lines if line != [""]][2:8] == [
        ["classes at 0 %", "1 of 20", "3.0 ± 2.8 of 20"],
        ["worst 10 %", "2.5", "2.5 ± 0.0"],
        ["worst class", "0.0", "0.0 ± 0.0"],
        ["which one", "class 0", "class 0, class 3"],
        ["images right", "0 of 20", "0 of 20, 0 of 12"],
        ["95 % interval", "0.0 to 6.9", "-"],
    ]
    cli.print_summary({str(number): summary for number in range(5)})
    out = capsys.readouterr().out
    assert out.index("at 0 % of 20") < out.index("worst 10 %") < out.index("worst class") < out.index("overall")
    assert max(map(len, out.splitlines())) <= 80


def test_worst_table(confusion, capsys):
    cli.print_worst(worst_confusions(confusion, [HOSTILE, "dog"], [500, 5]))
    out = capsys.readouterr().out
    table = rows(out)
    assert "\x1b" not in out
    assert table["class"] == ["train/test", "accuracy", "precision", "F1", "confused with"]
    assert table["dog"][:4] == ["5/100", "40.0%", "80.0", "53.3"]
    (other,) = [cells for first, cells in table.items() if first.startswith("[red]cat")]
    assert other == ["500/100", "90.0%", "60.0", "72.0", "dog 10%"]


def evaluated(number):
    keys = [score.key for score in scores() if score.short and score.fraction]
    values = dict.fromkeys(keys, 0.9 - 0.1 * number) | {"worst_class": "a class of some words"}
    spent = {"p50": 0.01234, "p95": 1234.5}
    return values | {
        "classes_at_zero": 7,
        "per_class_accuracy": dict.fromkeys("abcdefghij", 0.5),
        "worst_class_right": 1,
        "worst_class_images": 12,
        "difference": {key: -0.1 * number for key in values if key != "worst_class"} if number else {},
        "intervals": {"overall_accuracy": [0.5, 0.65], "worst_class_accuracy": [0.1, 0.25]},
        "provider": "CUDAExecutionProvider",
        "images_per_second": 12345.6,
        "latency_ms": {"batch": spent, "single": spent},
    }


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("name", ["model.{}.onnx", "runs/a-very-long-name-of-a-run-seed-0/a-long-name.{}.int8.onnx"])
def test_any_number_of_evaluations_is_readable(count, name, capsys):
    names = [name.format(number) for number in range(count)]
    cli.print_evaluations({name: evaluated(number) for number, name in enumerate(names)}, "CIFAR [IR 100]")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for number in range(count):
        cell = f"{90 - 10 * number}.0" + (f" (-{10 * number}.0)" if number else "")
        assert cell in out  # in one piece
    assert out.count("7 of 10") == out.count("10.0 to 25.0") == out.count("12346") == count
    assert out.count("0.0123, 1234") == 2 * count
    assert out.count("CUDA") == count
    if count > cli.EVALUATIONS_SIDE_BY_SIDE:
        folded = "".join(line.strip().split("  ")[0] for line in out.splitlines())  # of each line the first column
        assert all(cell in folded for cell in names)


def test_names_are_as_short_as_they_can_be():
    assert text.short_names(["runs/a/model.onnx", "runs/a/model.pt"]) == ["model.onnx", "model.pt"]
    assert text.short_names(["x/a/model.onnx", "x/b/model.onnx", "c.pt"])[:2] == ["a/model.onnx", "b/model.onnx"]
    assert text.short_names(["runs/a/"]) == ["a"]
    assert text.short_names(["a.onnx", "./a.onnx"]) == ["a.onnx", "./a.onnx"]  # one file, twice


def test_tables_stay_within_the_terminal(confusion, capsys):
    names = ["a" * 120, "b" * 120]
    cli.print_summary({name: summarize(confusion, [500, 5], names) for name in ("CE", "CAR")})
    cli.print_worst(worst_confusions(confusion, names, [500, 5]))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("b") >= 120  # folded, not cut off
