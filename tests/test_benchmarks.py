"""The benchmarks run, and what they write can be read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(script, *arguments):
    command = [sys.executable, BENCHMARKS / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def tables(markdown):
    """Every table as a list of rows of cells, without the line below its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.M)
    rows = [[[cell.strip() for cell in line.strip("| ").split(" | ")] for line in b.splitlines()] for b in blocks]
    return [[head, *body] for head, _, *body in rows]


def number(cell):
    return float(re.match(r"[+-]?[\d,]+(?:\.\d+)?", cell)[0].replace(",", ""))


def test_cpu(tmp_path):
    done = run("cpu.py", "--seconds", 0.1, "--shapes", "6x10", "9x20", "--no-compile", "--write", tmp_path / "t.md")
    assert done.returncode == 0, done.stderr
    ((head, *rows),) = tables((tmp_path / "t.md").read_text())
    assert [row[0] for row in rows] == ["6, 10", "9, 20"]
    assert head[1:4] == ["operator, ms", "module, ms", "floor, ms"]
    for row in rows:
        assert len(row) == len(head)
        assert all(number(cell) > 0 for cell in row[1:-1])
        assert row[-1] == "-"


def test_cache():
    done = run("cache.py", "--images", 12, "--width", 40, "--height", 30, "--side", 16, "--turns", 1)
    assert done.returncode == 0, done.stderr
    decoding, epochs, checksums, starts = tables(done.stdout)
    assert [row[0] for row in decoding[1:]] == [f"to {to}, {n} threads" for n in (1, 2) for to in ("memory", "a file")]
    assert [row[0] for row in epochs[1:]] == ["memory", "the file", "decoding, 1 thread"]
    assert len(checksums) == 3
    assert len(starts) == 4
    assert all(number(row[1]) >= 0 for table in (decoding, epochs, checksums, starts) for row in table[1:])


def test_gpu_dry_run(tmp_path):
    done = run("gpu.py", "--dry-run", "--seconds", 0.1, "--write", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    by_kind = {path.suffix: path.read_text() for path in tmp_path.iterdir()}
    assert set(by_kind) == {".md", ".json", ".log"}
    assert by_kind[".md"] in done.stdout

    found = json.loads(by_kind[".json"])
    results = {step["name"]: step["result"] for step in found["steps"]}
    assert results.pop("build") == results.pop("tests") == "skipped: a dry run"
    assert results == {"bench": "ok", "vit": "ok", "sanitizer": "the grid alone: ok"}
    assert [(s["samples"], s["classes"]) for s in found["bench"]["shapes"]] == [(8, 10), (16, 40)]

    steps, device, python, phases, traffic, training = tables(by_kind[".md"])
    for head, *rows in (steps, device, python, phases, traffic, training):
        assert rows
        assert all(len(row) == len(head) for row in rows)
    for table in (device, python, phases):
        assert all(number(cell) >= 0 for row in table[1:] for cell in row if cell != "-")
    operator = found["bench"]["shapes"][0]["operator"]
    assert operator["low"] <= operator["median"] <= operator["high"]
    assert number(device[1][1]) == pytest.approx(1e6 * operator["median"], rel=0.01)


def test_gpu_without_a_gpu_says_so_in_a_line():
    done = run("gpu.py")
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_a_step_that_takes_too_long_is_ended_with_all_it_started(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    code, output = gpu.run(["sh", "-c", "echo begun; sleep 60 & wait"], 1, dict(os.environ))
    assert code is None
    assert output == "begun\n"
    assert gpu.run(["sh", "-c", "exit 3"], 20, dict(os.environ)) == (3, "")


def test_targets_are_shown_beside_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import report

    def spread(seconds):
        return {"median": seconds, "in_graph": True}

    shape = {
        "samples": 128,
        "classes": 100,
        "operator": spread(12e-6),
        "operator, cold cache": 14e-6,
        "module": spread(16e-6),
        "(a)": {"median": 6e-3, "in_graph": False},
        "(c)": spread(54e-6),
    }
    row = ["128, 100", "12.0 / 15", "14.0", "16.0", "6,000* (500.0x / 50x)", "-", "54.0 (4.5x / 5x)"]
    assert report.device_row(shape) == row


def test_decode():
    done = run("decode.py", "--images", 2, "--width", 600, "--height", 450, "--side", 48)
    assert done.returncode == 0, done.stderr
    assert "2 files of 600 x 450" in done.stdout
    assert float(re.search(r"differ by ([0-9.]+) of 255 on average", done.stdout)[1]) < 5


def test_classes_are_measured_and_drawn(tmp_path):
    found, picture = tmp_path / "classes.json", tmp_path / "scaling.png"
    done = run("classes.py", "8x20", "--dense", "8x20", "--turns", 1, "--steps", 1, "--json", found)
    assert done.returncode == 0, done.stderr
    ((_, *rows),) = tables(done.stdout)
    kept = json.loads(found.read_text())
    assert [row["batches"] for row in kept["rows"]] == [0, 24]
    assert [number(row[4]) for row in rows] == [float(f"{row['seconds']:.3g}") for row in kept["rows"]]
    kept["rows"] = [row | {"classes": size} for row in kept["rows"] for size in (20, 30)]  # lines of two points
    kept["rows"] += [kept["rows"][-1] | {"samples": 16}, kept["rows"][-1] | {"beta": 0.25, "batches": 12}]
    found.write_text(json.dumps(kept))
    command = [sys.executable, BENCHMARKS.parent / "docs" / "scaling_plot.py", found, picture]
    subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_plan_by_hand():
    done = run("plan.py", "--gpus", 16, "--batch", 1, "--classes", 1000)
    assert done.returncode == 0, done.stderr
    step, neck, kept, disk = tables(done.stdout)
    network, gradient = step[1], 25_557_032 * 4  # of ResNet-50 with 1000 classes
    assert network[1] == "25.6 M"
    assert network[3] == f"{2 * 15 / 16 * gradient / 1e6:.3g} MB"
    assert number(network[4]) == pytest.approx(2 * 1 / 2 * gradient / 50e9 / 0.8 * 1e3, rel=5e-3)
    assert network[6:8] == ["4 kB", "64 kB"]  # one class a GPU, 1000 numbers
    assert float(network[8]) == pytest.approx(8 * 4000 / 50e9 / 0.8 * 1e3, rel=5e-3)
    assert neck[0][1:] == ["8", "16", "64", "256", "1,000"]
    assert kept[1][:2] == ["1,000", "4 MB"]
    assert disk[1][5] == f"{2 * gradient / 1e6:.3g} MB"


def test_train(tmp_path):
    small = ("--networks", "cifar_resnet32", "--images", 20, "--batch", 10, "--turns", 2, "--workers", 1)
    done = run("train.py", *small, "--device", "cpu", "--ours", "", "ema=0.9", "--write", tmp_path)
    assert done.returncode == 0, done.stderr
    (markdown,) = tmp_path.glob("train-*.md")
    (numbers,) = tmp_path.glob("train-*.json")
    ((_, *rows),) = tables(markdown.read_text())
    assert [row[1] for row in rows] == ["car-ext", "car-ext ema=0.9", "plain loop", "timm", "pil loop"]
    found = {row["way"]: row for row in json.loads(numbers.read_text())["rows"]}
    best = found["car-ext"]["best of the others"]
    assert found[best]["ratio"] == 1
    assert found[best]["median"] == max(found[way]["median"] for way in ("plain loop", "timm", "pil loop"))
    assert all(number(row[2]) > 0 and row[0] == "cifar_resnet32, 32 pixels" for row in rows)


def test_precision(tmp_path):
    done = run("precision.py", "--model", "cifar_resnet8", "--epochs", 1, "--seeds", 2, "--write", tmp_path)
    without = "this CPU has no AVX512-BF16" in done.stderr
    assert without or done.returncode == 0, done.stderr
    if not without:
        (markdown,) = tmp_path.glob("precision-*.md")
        ((_, *rows),) = tables(markdown.read_text())
        assert [row[0] for row in rows] == ["overall", "balanced", "worst class", "images/s"]
