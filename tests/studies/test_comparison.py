"""The main job: with and without CAR, over seeds."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from car_ext import InputError
from car_ext.commands import compare as compare_command
from car_ext.commands import program
from car_ext.config.config import CAROptions, Config
from car_ext.config.recipe import read_recipe
from car_ext.recipes import METHODS
from car_ext.run.folder import RunFolder
from car_ext.studies import comparison
from car_ext.studies.comparison import compare, methods_of, read_methods, share, with_and_without
from car_ext.studies.picture import draw
from car_ext.studies.table import markdown, table, worst_first


def test_car_lifts_the_worst_class_of_the_digits(tmp_path):
    # Larger batches than the default leave plain cross-entropy at zero: a gap that no rounding can close.
    job = Config(batch_size=128, lr=5e-3)
    methods = with_and_without(job)
    results = compare(job, methods, [0, 1], tmp_path, exported=["ce+car"], progress=False)
    assert list(results) == ["ce", "ce+car", "ce+car, onnxruntime"]
    plain, with_car, deployed = table(results)
    assert plain["worst_class_accuracy"] < 0.05
    assert with_car["worst_class_accuracy"] > plain["worst_class_accuracy"] + 0.1
    assert with_car["overall_accuracy"] > plain["overall_accuracy"] + 0.03
    assert with_car["rarest_three_accuracy"] > plain["rarest_three_accuracy"] + 0.1
    assert deployed["worst_class_accuracy"] == with_car["worst_class_accuracy"]
    assert deployed["best_overall_accuracy"] is None
    assert with_car["best_overall_accuracy"] >= with_car["overall_accuracy"]
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000

    before = (tmp_path / "ce-seed0" / "summary.json").stat().st_mtime_ns
    again = compare(job, methods, [0, 1], tmp_path, progress=False)
    assert (tmp_path / "ce-seed0" / "summary.json").stat().st_mtime_ns == before, "a finished run is not repeated"
    assert again["ce"] == results["ce"]

    with pytest.raises(InputError, match="epochs"):
        compare(replace(job, epochs=41), methods, [0], tmp_path, progress=False)


def test_methods_that_are_compared_unless_others_are_named():
    assert list(methods_of(Config(), None)) == ["ce", "ce+car", "prior", "prior+car"]
    assert [*methods_of(Config(loss="balanced_softmax"), None)] == ["ce", "ce+car", "prior", "prior+car"]  # of finetune
    assert [*methods_of(Config(regularizer="car"), None)] == ["ce", "ce+car"]
    assert [*methods_of(Config(loss="focal"), None)] == ["focal", "focal+car"]
    assert "ldam-drw" in methods_of(Config(), "field")


def test_table_by_hand():
    scores = dict.fromkeys(
        ("overall_accuracy", "balanced_accuracy", "rarest_three_accuracy", "many", "medium", "worst_class_ratio"), 0.5
    )
    scores |= {"classes_at_zero": 3, "few": None}
    results = {"ce": [{**scores, "worst_class_accuracy": w, "worst_10pct": w} for w in (0.1, 0.3)]}
    (row,) = table(results)
    assert row["worst_class_accuracy"] == pytest.approx(0.2)
    assert row["worst_class_accuracy_std"] == pytest.approx(0.02**0.5)
    assert row["few"] is None
    assert markdown([row]).startswith("| method | n | classes at 0 % | worst class | overall |")
    assert "| ce | 2 | 3.0 ± 0.0 | 20.0 ± 14.1 | 50.0 ± 0.0 |" in markdown([row])
    assert "best epoch" not in markdown([row])
    assert "worst 10 %" not in markdown([row]), "of ten classes the worst tenth is the worst class"
    more = {"worst_10pct": 0.35, "best_overall_accuracy": 0.6}
    (row,) = table({"ce": [summary | more for summary in results["ce"]]})
    assert "| 35.0 ± 0.0 | 20.0 ± 14.1 |" in markdown([row])
    assert markdown([row]).splitlines()[0].endswith("best epoch |")
    assert markdown([row]).endswith("| - | 60.0 ± 0.0 |\n")


def test_seeds_must_differ(tmp_path):
    with pytest.raises(InputError, match="each once"):
        compare(Config(), {"ce": {}}, [1, 1], tmp_path)


def test_methods_of_a_file_build_on_one_another(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("held: {regularizer: car, car: {absent: hold}}\ncrt: {stage2: held, retrain: crt, epochs: 2}\n")
    job = Config(epochs=3, car=CAROptions(alpha=0.7))
    results = compare(job, read_methods(str(file), tmp_path), [5], tmp_path / "runs", progress=False)
    assert list(results) == ["held", "crt"]
    held, crt = (read_recipe(tmp_path / "runs" / f"{name}-seed5" / "config.yaml") for name in results)
    assert (held.car.absent, held.car.alpha, held.seed) == ("hold", 0.7, 5)
    assert (crt.sampler, crt.epochs, crt.seed) == ("class_balanced", 2, 5)
    assert crt.stage2 == str(held.run_dir)
    scores = [row["worst_class_accuracy"] for row in worst_first(table(results))]
    assert scores == sorted(scores, reverse=True)
    draw(results, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("crt: {stage2: ce, retrain: crt}\nce: {}\n", "no method before it"),
        ("ce: {lose: focal}\n", "lose in method 'ce' is not an option; did you mean loss"),
        ("ce: focal\n", "must hold lines"),
        ("../ce: {}\n", "must hold lines"),
    ],
)
def test_bad_files_of_methods_are_refused(tmp_path, content, words):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=words):
        compare(Config(epochs=1), read_methods(str(file), tmp_path), [0], tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_the_file_of_the_field_names_what_there_is(tmp_path):
    methods = read_methods("field", METHODS)
    for name, options in methods.items():
        if "stage2" not in options:
            Config().with_options(options, name)


def test_script_says_what_is_wrong(tmp_path):
    script = Path(__file__).parents[2] / "train" / "compare.py"
    command = [sys.executable, str(script), "--seeds", "0", "--epoch", "3", "--compare-out", str(tmp_path / "x")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--epochs" in result.stderr
    assert not (tmp_path / "x").exists()


SHARED = "held: {regularizer: car}\ncrt: {stage2: held, retrain: crt, epochs: 2}\nce: {}\n"
OTHER = """
import sys, time
from pathlib import Path

from car_ext.config.config import Config
from car_ext.studies import comparison
from car_ext.training.callbacks import Callback

class Stops(Callback):
    def after_epoch(self, row):
        print("in the midst", flush=True)
        time.sleep(600)

train, folder = comparison.train, Path(sys.argv[1])
comparison.train = lambda job, progress: train(job, progress=progress, callbacks=[Stops()])
methods = comparison.read_methods(str(folder / "mine.yaml"), folder)
comparison.share(Config(epochs=3), methods, [0], folder / "shared", progress=False)
"""


def test_two_processes_share_the_runs_and_a_killed_one_s_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "WAIT", 0.2)
    (tmp_path / "mine.yaml").write_text(SHARED)
    methods, job = read_methods(str(tmp_path / "mine.yaml"), tmp_path), Config(epochs=3)
    shared, lines = tmp_path / "shared", tmp_path / "shared" / "held-seed0" / "metrics.jsonl"
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in the midst\n"
        begun = lines.read_text()
        left = share(job, methods, [0], shared, progress=False)
        assert left == ["held-seed0, 1 epochs done", "crt-seed0, 0 epochs done"], "one has it, and one builds upon it"
        assert RunFolder(shared / "ce-seed0").read_summary()
        killer = threading.Timer(1, other.kill)
        killer.start()
        results = compare(job, methods, [0], shared, progress=False)  # and so sees it die
        assert not killer.is_alive()
    assert lines.read_text().startswith(begun), "the epoch was not trained again"
    assert len(lines.read_text().splitlines()) == 3
    alone = compare(job, methods, [0], tmp_path / "alone", progress=False)
    assert table(results) == table(alone)
    assert list(results) == ["held", "crt", "ce"]


def test_who_finds_nothing_left_says_what_the_others_are_at(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", f"compare --epochs 1 --loss focal --seeds 4 --compare-out {out}".split())
    taken = [FileLock(out / f".{name}-seed4.lock") for name in ("focal", "focal+car")]
    out.mkdir()
    for lock in taken:
        lock.acquire()
    assert program.alone(compare_command, "compare") == 0
    text = capsys.readouterr().out
    assert text.startswith("nothing left to do here; others are at work, and whoever ends last")
    assert text.endswith("- focal-seed4, 0 epochs done\n- focal+car-seed4, 0 epochs done\n")
    for lock in taken:
        lock.release()
    assert program.alone(compare_command, "compare") == 0
    assert "| focal+car | 1 |" in (out / "comparison.md").read_text()
