import os
import re
import subprocess
import sys

import numpy as np
import pytest

from car_ext import cli
from car_ext.errors import InputError
from car_ext.metrics import summarize, worst_confusions

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
    assert cli.run(main) == code
    assert capsys.readouterr() == ("", stderr)


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


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
    assert table["overall"] == ["65.0", "65.0"]
    assert table["balanced"] == ["65.0", "70.0"]
    assert table["worst class"] == ["40.0", "60.0"]
    assert table["which one"] == ["dog", "[red]cat[/red]\N{REPLACEMENT CHARACTER}[2J\\"]
    assert table["rarest three"] == ["65.0", "70.0"]
    assert table["many"] == ["90.0", "60.0"]
    assert table["medium"] == ["-", "-"]
    assert table["few"] == ["40.0", "80.0"]
    assert table["worst-class ratio"] == ["-", "66.7"]


def test_worst_table(confusion, capsys):
    cli.print_worst(worst_confusions(confusion, [HOSTILE, "dog"], [500, 5]))
    table = rows(capsys.readouterr().out)
    assert table["class"] == ["training images", "accuracy", "confused with"]
    assert table["dog"] == ["5", "40.0%", "[red]cat[/red]\N{REPLACEMENT CHARACTER}[2J\\ 60%"]
    assert table["[red]cat[/red]\N{REPLACEMENT CHARACTER}[2J\\"] == ["500", "90.0%", "dog 10%"]


def test_tables_stay_within_the_terminal(confusion, capsys):
    names = ["a" * 120, "b" * 120]
    cli.print_summary({name: summarize(confusion, [500, 5], names) for name in ("CE", "CAR")})
    cli.print_worst(worst_confusions(confusion, names, [500, 5]))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("b") >= 120  # folded, not cut off
