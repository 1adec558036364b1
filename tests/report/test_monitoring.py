"""The page of a log over time: what it says, what it refuses, and a browser that opens it."""

import json
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from pages import HOSTILE, Parsed, assert_self_contained

from car_ext import InputError, __main__
from car_ext.metrics.intervals import wilson_interval
from car_ext.report import write_monitoring
from car_ext.report.monitoring.log import Log

NAMES = ["common", "usual", "rare", "rarest"]
COUNTS = [500, 90, 15, 3]
START = datetime(2026, 3, 1, 6, tzinfo=UTC)


def line(day, predicted, true=None, correct=None, names=NAMES, model="runs/a/model.onnx", **more) -> dict:
    """A batch as examples/monitor.py logs it."""
    labels = {}
    if true:
        labels = {"true": dict(zip(names, true, strict=True)), "correct": dict(zip(names, correct, strict=True))}
    return {
        "time": (START + timedelta(days=day)).isoformat(timespec="seconds"),
        "model": model,
        "images": sum(predicted),
        "class_counts": dict(zip(names, COUNTS * (len(names) // 4), strict=True)),
        "predicted": dict(zip(names, predicted, strict=True)),
        "mean_confidence": 0.9 - 0.01 * day,
        **labels,
        **more,
    }


def swallowed() -> list[dict]:
    """Eight batches over which the first class takes what belonged to the last."""
    true = [25, 25, 25, 25]
    lines = [
        line(day, [25 + 3 * day, 25, 25, 25 - 3 * day], true, [24, 22, 20, 20 - 3 * day], model=model)
        for day, model in enumerate(["runs/a/model.onnx"] * 4 + ["runs/b/model.onnx"] * 3)
    ]
    return [*lines, line(7, [70, 20, 10, 0], true, [25, 18, 9, 0], model="runs/b/model.onnx")]


def written(lines, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return log


def page_of(lines, tmp_path) -> Parsed:
    write_monitoring(written(lines, tmp_path), tmp_path / "monitor.html")
    return Parsed((tmp_path / "monitor.html").read_text(encoding="utf-8"))


def rows(page: Parsed, text: str) -> str:
    """The words of the page behind a caption."""
    return page.text.partition(text)[2].replace("\N{NO-BREAK SPACE}", " ")


def test_the_latest_batch_against_the_first_ones(tmp_path):
    page = page_of(swallowed(), tmp_path)
    assert_self_contained(page)
    words = page.text.replace("\N{NO-BREAK SPACE}", " ")
    low, high = wilson_interval(0, 25)
    assert f"worst class 0.0 % class rarest, 25 images 95 % interval {100 * low:.1f} to {100 * high:.1f} %" in words
    # The worst classes of days 0 to 4: 20, 17, 14, 11 and 8 of 25, on the mean 56 %.
    assert "\N{MINUS SIGN}56.0 points against the first 5 batches overall 52.0 % of 100 images" in words
    before = (5 * (24 + 22 + 20) + 70) / 500
    assert f"\N{MINUS SIGN}{100 * (before - 0.52):.1f} points against" in words
    assert "mean confidence 83.0 % of 100 images \N{MINUS SIGN}5.0 points" in words
    # Few: rare and rarest, 18 of 608 training images; 50 - 6 % of the first predictions, 10 % of the latest.
    assert (
        "taken for few-shot classes 10.0 % 2 classes, 3.0 % of the training images \N{MINUS SIGN}34.0 points" in words
    )
    assert "No picture was taken for rarest, though" in words
    assert "of a/model.onnx, b/model.onnx" in words
    assert "At dotted lines the model changes" in words


def test_tables_say_what_the_figures_show(tmp_path):
    page = page_of(swallowed(), tmp_path)
    classes = rows(page, "Shares of the predictions, every class")
    low, high = wilson_interval(70, 100)
    first = "class training images of them, % first 5 batches, % latest, % 95 % interval points labels, % accuracy, %"
    common = f"common 500 82.2 31.0 70.0 {100 * low:.1f} to {100 * high:.1f} +39.0 25.0 100.0"
    assert classes.startswith(f" {first} {common} usual 90")
    batches = rows(page, "Every batch, latest first")
    low, high = wilson_interval(20, 25)
    assert "8 Mar 2026 06:00 0.0" in batches
    assert (
        f"1 Mar 2026 06:00 80.0 {100 * low:.1f} to {100 * high:.1f} rarest 86.0 90.0 50.0 100 a/model.onnx" in batches
    )
    assert batches.index("8 Mar") < batches.index("1 Mar")


def test_what_is_not_known_is_left_out(tmp_path):
    bare = [line(day, [5, 5, 5, 5], class_counts={}) for day in range(3)]
    labelled = {**swallowed()[0], "class_counts": {}}
    for lines in (bare[:1], [labelled], [bare[0], labelled], [labelled, bare[0]]):
        assert_self_contained(page_of(lines, tmp_path))
    words = page_of(bare, tmp_path).text
    assert "worst class" not in words
    assert "shot" not in words
    assert "first 2 batches" in words


def test_lines_are_put_in_the_order_of_their_times(tmp_path):
    lines = swallowed()
    lines[1]["time"] = "2026-02-28T23:00:00-05:00"  # 04:00 UTC of 1 March, before the first
    lines[2]["time"] = "2026-03-01T05:00:00"  # UTC where nothing is said
    log = Log.read(written(lines, tmp_path))
    assert [batch.time.hour for batch in log.batches[:3]] == [4, 5, 6]
    assert log.predicted[0, 0] == lines[1]["predicted"]["common"]


def test_models_with_other_classes_share_a_page(tmp_path):
    other = line(9, [3, 3, 3, 3], names=["common", "usual", "new", "newer"])
    log = Log.read(written([*swallowed(), other], tmp_path))
    assert log.classes == ["common", "usual", "new", "newer", "rare", "rarest"]
    assert log.predicted[-1].tolist() == [3, 3, 3, 3, 0, 0]
    assert log.training.tolist() == [500, 90, 15, 3, 0, 0]
    assert_self_contained(page_of([*swallowed(), other], tmp_path))


def test_a_thousand_classes_stay_small(tmp_path):
    names = [f"kind {label}" for label in range(1000)]
    page_of([line(day, [1 + (label + day) % 3 for label in range(1000)], names=names) for day in range(40)], tmp_path)
    assert (tmp_path / "monitor.html").stat().st_size < 2_000_000


@pytest.mark.parametrize("kept", [1, 40, -1, -12])
def test_an_interrupted_last_line_loses_no_other(kept, tmp_path):
    log = written(swallowed(), tmp_path)
    *whole, last = log.read_bytes().rstrip(b"\n").split(b"\n")
    log.write_bytes(b"\n".join([*whole, last[:kept]]))
    read = Log.read(log)
    assert (len(read.batches), read.interrupted) == (7, True)
    write_monitoring(log, tmp_path / "monitor.html")
    assert "The last line of the log was interrupted" in (tmp_path / "monitor.html").read_text(encoding="utf-8")
    log.write_bytes(b"\n".join([*whole, last]))  # only its end is missing
    assert (len(Log.read(log).batches), Log.read(log).interrupted) == (8, False)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"{", "Expecting"),
        (b"[1]", "no JSON object"),
        (b"\xff", "can't decode"),
        (b"[" * 100_000, "recursion"),
        ({"time": "yesterday"}, "yesterday"),
        ({"time": 5}, "must be str"),
        ({"predicted": None}, "predicted is None"),
        ({"predicted": {}}, "predicted holds no image"),
        ({"predicted": {"common": -1}}, "predicted holds -1 for 'common'"),
        ({"predicted": {"common": 1e3}}, "predicted holds 1000.0"),
        ({"predicted": {"common": 10**400}}, "predicted holds 1000"),
        ({"mean_confidence": float("nan")}, "mean_confidence is nan"),
        ({"mean_confidence": True}, "mean_confidence is True"),
        ({"model": 3}, "model is 3"),
        ({"true": {"common": 7}}, "not of the same images"),
        ({"correct": {"common": 99}}, "more images are correct"),
        ({"class_counts": {"common": 7}}, "not of the same classes"),
        (None, "it has no 'mean_confidence'"),
    ],
    ids=str,
)
def test_a_line_that_is_none_is_named(bad, words, tmp_path):
    good = swallowed()
    if bad is None:
        bad = {key: value for key, value in good[2].items() if key != "mean_confidence"}
    elif isinstance(bad, dict):
        bad = good[2] | bad
    lines = [json.dumps(one).encode() for one in good]
    lines[2] = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(InputError, match=r"log\.jsonl, line 3, is not one that examples/monitor\.py writes") as error:
        Log.read(log)
    assert words in str(error.value)


def test_the_command(tmp_path, monkeypatch, capsys):
    log = written(swallowed(), tmp_path)
    monkeypatch.setattr(sys, "argv", ["car_ext", "monitor", str(log), "--out", str(tmp_path / "m.html")])
    assert __main__.main() == 0
    assert "m.html" in capsys.readouterr().out
    assert (tmp_path / "m.html").exists()
    (tmp_path / "empty").write_text("\n\n")
    for bad, words in (
        ([tmp_path / "none"], "there is no log"),
        ([tmp_path / "empty"], "holds no whole line"),
        ([log, "--out", tmp_path / "no" / "m.html"], "its folder does not exist"),
    ):
        monkeypatch.setattr(sys, "argv", ["car_ext", "monitor", *map(str, bad)])
        with pytest.raises(InputError, match=words):
            __main__.main()


def test_it_needs_neither_torch_nor_scipy(tmp_path):
    log = written(swallowed(), tmp_path)
    code = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys(("PIL", "scipy", "sklearn", "torch", "yaml"), None))
        from car_ext import report
        assert "jinja2" not in sys.modules
        report.write_monitoring({str(log)!r}, {str(tmp_path / "m.html")!r})
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    assert_self_contained(Parsed((tmp_path / "m.html").read_text(encoding="utf-8")))


def test_a_browser_shows_it_and_asks_for_nothing(visit, tmp_path):
    names = HOSTILE[:4]
    hostile = [
        line(day, [7 + day, 5, 5, 8 - day], [9, 9, 4, 3], [7, 5, 4, 1], names, f"{HOSTILE[day % 3]}/model.onnx")
        for day in range(5)
    ]
    assert_self_contained(page_of(hostile, tmp_path))
    page = visit(tmp_path / "monitor.html", viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.locator("html[data-shown='6']").wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    table = page.locator("#predictions details table")
    assert not table.is_visible()
    page.locator("#predictions summary").first.press("Enter")
    assert HOSTILE[0] in table.inner_text()
    page.locator("[data-controls='figure-1'] [data-does=in]").press("Enter")
    assert page.locator("[data-controls='figure-1'] [data-does=reset]").is_enabled()
    assert page.locator(".plot > svg").count() == 6
    plot = page.locator("#figure-2")
    plot.scroll_into_view_if_needed()
    box = plot.locator(".frame").bounding_box()
    page.mouse.move(box["x"] + 0.12 * box["width"], box["y"] + 0.8 * box["height"])  # over a hostile name's bar
    assert page.locator("#tip").text_content().startswith(f"class {HOSTILE[0]}latest ")


def test_one_class_in_two_spellings_is_one(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    lines = [line(day, [5, 5, 5, 5], names=[*NAMES[:3], name]) for day, name in enumerate((decomposed, composed))]
    log = Log.read(written(lines, tmp_path))
    assert log.classes.count(composed) == 1
    assert len(log.classes) == 4
