"""The report: what it says, that nothing in it came from elsewhere or runs by itself, and a browser that opens it."""

import dataclasses
import itertools
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import HOSTILE, Parsed, assert_self_contained

from car_ext import InputError, __main__
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.findings import Findings
from car_ext.metrics.intervals import wilson_interval
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.metrics.summary import summarize
from car_ext.report import Run, write
from car_ext.report.order import clustered
from car_ext.report.runs import arranged


def made(classes=4, images=400, name="ce", names=None, seed=0, skill=2.0, history=8, **more) -> dict:
    """What a run of made-up logits gives the report."""
    random = np.random.default_rng(seed)
    names = names or [f"kind {label}" for label in range(classes)]
    counts = np.maximum((300 * 100 ** -(np.arange(classes) / (classes - 1))).astype(int), 1)
    targets = np.arange(images) % classes
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), targets] += skill * (counts[targets] / counts.max()) ** 0.2
    logits[np.arange(images), (targets + 1) % classes] += 1
    statistics, mistakes = ScoreStatistics(classes), Mistakes()
    statistics.update(logits, targets)
    mistakes.update(logits, targets)
    confusion = confusion_counts(logits.argmax(axis=1), targets, classes)
    pixels = random.integers(0, 256, (images, 6, 5, 1), dtype=np.uint8)
    summary = summarize(confusion, counts, names) | {"scores": statistics.summary(names), "data": "made up"}
    rows = [
        {"epoch": e, "loss": 2 / e, "base_loss": 1 / e, "sigma": 0.5 / e, "test_overall": 0.5, "test_worst": 0.1}
        for e in range(1, history + 1)
    ]
    findings = Findings.collect(confusion, statistics.reliability(), mistakes, pixels)
    return {"name": name, "summary": summary | more, "findings": findings, "history": rows}


def report(runs, tmp_path) -> tuple[str, Parsed]:
    write(runs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Parsed(text)


def test_numbers_tables_and_figures_are_there(tmp_path):
    run = made()
    text, page = report([run], tmp_path)
    assert_self_contained(page)
    assert len(text) < 1_500_000
    held, summary = run["findings"], run["summary"]
    worst = summary["worst_class"]
    label = list(summary["class_counts"]).index(worst)
    low, high = wilson_interval(held.confusion[label, label], 100)
    for words in (
        f"{100 * summary['worst_class_accuracy']:.1f}",
        f"class {worst}, {summary['class_counts'][worst]} training images",
        f"{100 * low:.1f} to {100 * high:.1f}",
        "of 400 test images",
        f"{summary['weighted_confusion_norm']:.3f}",
        f"{100 * summary['scores']['ece']:.1f}",
    ):
        assert words.replace(" %", "\N{NO-BREAK SPACE}%") in page.text, words
    plots = [attributes for attributes, _ in page.scripts if "data-plot" in attributes]
    assert len(plots) == 8  # classes, groups, matrix, three curves, reliability, spectrum
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(attributes["alt"].startswith("test image ") for attributes in images)


def test_everything_can_be_read_without_seeing_it(tmp_path):
    _, page = report([made(), made(name="car", seed=1)], tmp_path)
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [tag for tag, _ in page.tags]
    assert names.count("caption") == names.count("table") > 8
    assert {attributes["scope"] for tag, attributes in page.tags if tag == "th"} == {"col", "row"}
    pictures = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in pictures)
    plots = [attributes for attributes in pictures if "plot" in attributes.get("class", "")]
    assert len(plots) == names.count("figure")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for key in ("aria-labelledby", "href"):
            if key in attributes:
                assert attributes[key].removeprefix("#") in ids


def test_runs_side_by_side_with_their_differences(tmp_path):
    runs = [made(name=name, seed=seed, skill=1.5 + seed) for seed, name in enumerate(("ce", "ce+car", "ldam"))]
    _, page = report(runs, tmp_path)
    first, second, third = (run["summary"]["overall_accuracy"] for run in runs)
    for other in (second, third):
        assert f"{100 * (other - first):+.1f}".replace("-", "\N{MINUS SIGN}") + " points against ce" in page.text
    accuracies = [np.array([*run["summary"]["per_class_accuracy"].values()]) for run in runs]
    better, worse = (accuracies[1] > accuracies[0]).sum(), (accuracies[1] < accuracies[0]).sum()
    assert f"{better} classes better than ce, {worse} worse" in page.text
    assert "Classes that ldam changes most against ce" in page.text
    assert len([a for a, _ in page.scripts if "data-plot" in a]) == 10  # a confusion matrix each


def test_what_comes_from_outside_is_escaped(tmp_path):
    runs = [made(8, names=HOSTILE, name=name, seed=seed) for seed, name in enumerate((HOSTILE[0], HOSTILE[2]))]
    runs[0]["config"] = {"out": HOSTILE[0], "data": HOSTILE[5], HOSTILE[2]: 1}
    text, page = report(runs, tmp_path)
    assert_self_contained(page)
    assert "<script>alert" not in text
    assert "onerror=alert(1)>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&#34;&amp;&#39;" in text
    assert "{{ 7 * 7 }}" in page.text
    assert not re.search("[\u202e\x00\ud800-\udfff]", text)
    assert "back\N{REPLACEMENT CHARACTER}wards" in page.text


def test_what_other_commands_add_is_shown(tmp_path):
    run = made(data_notes=["2 images are there twice <img onerror=alert(1)>"], temperature=1.5)
    checks = [{"check": "worst", "value": 0.3, "limit": 0.02, "p_value": 0.01, "passed": False, "sentence": "It fell."}]
    sets = {"alpha": 0.1, "coverage": 0.9, "mean_size": 2, "per_class": {"kind 0": {"coverage": 0.8, "size": 1}}}
    files = [*HOSTILE, *(f"kind 1/a name that is far too long for its place {n}.png" for n in range(200))]
    run["findings"] = dataclasses.replace(run["findings"], files=tuple(files[: len(run["findings"].examples)]))
    text, page = report([run | {"summary": run["summary"] | {"gate": checks, "conformal": sets}}], tmp_path)
    assert_self_contained(page)
    assert "<img onerror" not in text
    for words in (
        "2 images are there twice <img onerror=alert(1)>",
        "ce: the gate is not passed It fell.",
        "What next Look at the notes on the data first",
        "divided by a temperature of 1.5",
        "Conformal sets",
        "Terms classes at 0",
    ):
        assert words in page.text, words
    titles = [attributes["title"] for _, attributes in page.tags if attributes.get("class") == "file"]
    assert {"<script>alert(1)</script>", "kind 1/a name that is far too long for its place 0.png"} <= {*titles}
    assert "kind 1/a n ame that is far too long for its p lace 20.png" in page.text  # start, middle, end


def test_what_is_missing_is_left_out(tmp_path):
    whole = made()
    bare = {"name": "bare", "summary": {key: whole["summary"][key] for key in ("class_counts", "per_class_accuracy")}}
    _, page = report([bare], tmp_path)
    assert "Of bare only the scores are known" in page.text
    assert "Calibration" not in page.text
    assert "interval" not in page.text.replace("intervals, confusions", "")
    for runs in ([whole, bare], [bare, whole], [whole | {"history": []}], [made(history=1)]):
        assert_self_contained(report(runs, tmp_path)[1])
    untested = made(classes=3)
    untested["findings"].confusion[:, 2] = 0
    untested["summary"]["per_class_accuracy"]["kind 2"] = None
    untested["summary"]["few"] = None
    assert_self_contained(report([untested], tmp_path)[1])
    perfect = made(skill=99.0)
    assert "Every test image is right." in report([perfect, whole], tmp_path)[1].text


def test_a_thousand_classes_stay_small(tmp_path):
    text, page = report([made(1000, 4000, skill=4.0)], tmp_path)
    assert_self_contained(page)
    assert len(text) < 3_000_000


def test_runs_over_different_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match="'b' and 'a' have different classes"):
        write([made(name="a"), made(5, name="b")], tmp_path / "report.html")
    with pytest.raises(InputError, match="findings of 'a' are of 4 classes, its summary of 5"):
        write([made(5, name="a") | {"findings": made()["findings"]}], tmp_path / "report.html")
    with pytest.raises(InputError, match="no run to report"):
        write([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_runs_of_one_name_are_told_apart():
    runs = [made(name=name, seed=1) for name in ("ce", "ce", "car", "car", "car")]
    for run, seed, out in zip(runs, (0, 1, 0, 0, 0), ("x", "y", "here/u", "there/v", "there/v"), strict=True):
        run["summary"]["seed"], run["config"] = seed, {"out": out}
    names = [run.name for run in arranged([Run(**run) for run in runs])]
    assert names == ["ce, seed 0", "ce, seed 1", "car, seed 0, u", "car, seed 0, v, #4", "car, seed 0, v, #5"]


def test_the_interval_of_a_mean_is_wilsons_where_classes_have_equally_many_images():
    run = Run(**made())
    correct = np.diag(run.findings.confusion)
    assert run.mean_interval(np.ones(4, bool)) == pytest.approx(wilson_interval(correct.sum(), 400))
    one = np.arange(4) == 2
    assert run.mean_interval(one) == pytest.approx(wilson_interval(correct[2], 100))
    # 1 / n is the mean of 1 / n_c over G classes, divided by G.
    run.findings.confusion[:, 0] *= 9
    both = np.arange(4) < 2
    images = 4 / (1 / 900 + 1 / 100)
    mean = (correct[0] / 900 + correct[1] / 100) / 2
    again = Run("a", run.summary, run.findings)
    assert again.mean_interval(both) == pytest.approx(wilson_interval(mean * images, images))
    assert Run("a", run.summary).mean_interval(both) is None


def test_classes_that_are_confused_stand_together():
    # Three groups of four, interleaved: confused within, hardly between.
    classes = 12
    group = np.arange(classes) % 3
    confusion = np.where(group[:, None] == group, 20, 1)
    np.fill_diagonal(confusion, 100)
    order = clustered([confusion])
    assert sorted(order) == list(range(classes))
    assert (np.diff(group[order]) != 0).sum() == 2
    assert clustered([np.ones((2, 2), int)]).tolist() == [0, 1]
    assert sorted(clustered([np.zeros((5, 5), int), np.eye(5, dtype=int)])) == list(range(5))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs by the script, as a person makes them."""
    folder = tmp_path_factory.mktemp("runs")
    script = Path(__file__).parents[2] / "train" / "run.py"
    for regularizer in ("none", "car"):
        options = ["--epochs", "2", "--regularizer", regularizer, "--out", str(folder / regularizer)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(script), *options])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(script), run_name="__main__")
            assert ended.value.code == 0
    return folder


def test_every_training_writes_a_report(trained):
    for regularizer in ("none", "car"):
        page = Parsed((trained / regularizer / "report.html").read_text(encoding="utf-8"))
        assert_self_contained(page)
        assert ("sigma over all training images" in page.text) == (regularizer == "car")
        assert "imbalance" in page.text


def test_the_command(trained, tmp_path, monkeypatch, capsys):
    command = ["car_ext", "report", str(trained / "none"), str(trained / "car"), "--out", str(tmp_path / "r.html")]
    monkeypatch.setattr(sys, "argv", command)
    assert __main__.main() == 0
    assert "r.html" in capsys.readouterr().out
    first = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Report: ce against ce+car" in first
    for bad, words in (
        (["report", str(tmp_path)], "holds no summary.json"),
        (["report", str(trained / "none"), "--out", str(tmp_path / "no" / "r.html")], "its folder does not exist"),
    ):
        monkeypatch.setattr(sys, "argv", ["car_ext", *bad])
        with pytest.raises(InputError, match=words):
            __main__.main()


def test_a_damaged_run_says_which(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained / "none", copy)
    (copy / "metrics.jsonl").write_text('{"epoch": 1')
    with pytest.raises(InputError, match=r"a file of the run .*copy is damaged"):
        write([copy], tmp_path / "r.html")


# In a real browser


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write([made(8, names=HOSTILE, name=HOSTILE[0]), made(8, names=HOSTILE, name="car", seed=1, skill=3.0)], path)
    return path


@pytest.fixture
def opened(visit, hostile_report):
    return lambda **options: visit(hostile_report, **options)


def test_zoom_by_button_and_key(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    assert page.evaluate("document.querySelectorAll('.plot canvas, .plot > *').length") >= 9
    controls = page.locator("[data-controls='figure-1']")
    into, out, whole = (controls.locator("button").nth(number) for number in range(3))
    span = """() => { const plot = Object.values(Bokeh.documents)[0].roots()[0];
                      return [plot.x_range.start, plot.x_range.end, plot.y_range.start, plot.y_range.end] }"""
    first = page.evaluate(span)
    assert out.is_disabled()
    into.click()
    left, right, low, high = page.evaluate(span)
    assert np.log(right / left) == pytest.approx(np.log(first[1] / first[0]) / 2)  # a log axis
    assert high - low == pytest.approx((first[3] - first[2]) / 2)
    into.press("ArrowUp")
    assert page.evaluate(span)[2] == pytest.approx(low + (high - low) / 4)
    for _ in range(9):
        into.press("ArrowUp")
    assert page.evaluate(span)[3] == pytest.approx(first[3])
    whole.click()
    assert page.evaluate(span) == pytest.approx(first)
    assert whole.is_disabled()
    assert page.evaluate("document.activeElement.dataset.does") == "in"  # focus is not lost with the button


def shadows(where: str, what: str) -> str:
    """JavaScript: the list of `what` of every element e below `where`, through Bokeh's shadow roots."""
    return f"""() => {{ const found = [];
      const walk = (node) => {{ for (const e of node.querySelectorAll('*')) {{
        const one = {what}; if (one) found.push(one); if (e.shadowRoot) walk(e.shadowRoot); }} }};
      walk({where}); return found }}"""


def test_hover_names_the_class_and_a_drag_enlarges(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    plot = page.locator("#figure-3")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    names = set()
    for step in range(20):  # down the diagonal
        page.mouse.move(
            box["x"] + box["width"] * (0.28 + 0.036 * step), box["y"] + box["height"] * (0.05 + 0.036 * step)
        )
        page.wait_for_timeout(40)
        shown = page.evaluate(shadows("document", "e.classList.contains('bk-Tooltip') && e.shadowRoot.textContent"))
        names |= {name for name in HOSTILE for text in shown if name in text}
    assert len(names) > 3  # as text: a name that ran would have raised a dialog
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    page.locator("[data-controls='figure-3'] [data-does=reset]:enabled").wait_for()


def test_tables_open_by_keyboard(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    summary = page.locator("#classes summary").first
    table = page.locator("#classes details table").first
    assert not table.is_visible()
    summary.focus()
    summary.press("Enter")
    assert table.is_visible()
    assert HOSTILE[0] in table.inner_text()


def test_a_phone_scrolls_over_figures_and_not_sideways(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    events = "e.classList.contains('bk-events') && getComputedStyle(e).touchAction"
    touch = shadows("document.querySelector('#figure-1')", events)
    assert page.evaluate(touch) == ["auto"]
    page.locator("[data-controls='figure-1'] [data-does=in]").tap()
    assert page.evaluate(touch) in (["none"], ["pinch-zoom"])
    page.locator("[data-controls='figure-1'] [data-does=reset]").tap()
    assert page.evaluate(touch) == ["auto"]


def test_dark_and_paper(opened):
    page = opened(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    ink = "() => Object.values(Bokeh.documents)[2].roots()[0].renderers.find((r) => r.name === 'ink').glyph.text_color"
    assert page.evaluate(ink) == {"value": "#e8eaed"}
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('.plot > svg').length") == int(
        page.evaluate("document.documentElement.dataset.shown")
    )
    assert page.evaluate(ink) == {"value": "#000000"}
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('.plot > svg').length") == 0
    page.emulate_media(color_scheme="light")
    for _ in range(100):
        if page.evaluate(ink) == {"value": "#1b1f24"}:
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("a theme that changes while the page is open does not reach the figures")
