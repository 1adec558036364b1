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
from car_ext.metrics.confusions import Confusions
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.findings import Findings
from car_ext.metrics.intervals import wilson_interval
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import EXAMPLE, Mistakes
from car_ext.metrics.summary import summarize
from car_ext.report import Run, write
from car_ext.report.order import clustered
from car_ext.report.runs import arranged
from car_ext.text import printable


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


def reweighed(findings: Findings, true: int, factor: int) -> Findings:
    """With so many times the images of a class."""
    confusion = findings.confusion.dense()
    confusion[:, true] *= factor
    return dataclasses.replace(findings, confusion=confusion)


def report(runs, tmp_path) -> tuple[str, Parsed]:
    write(runs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Parsed(text)


def test_numbers_tables_and_figures_are_there(tmp_path):
    run = made()
    text, page = report([run], tmp_path)
    assert_self_contained(page)
    assert len(text) < 200_000
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
    assert "kind 1/a name that is far too long for its place 20.png" in page.text  # start, middle, end


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
    untested["findings"] = reweighed(untested["findings"], 2, 0)
    untested["summary"]["per_class_accuracy"]["kind 2"] = None
    untested["summary"]["few"] = None
    assert_self_contained(report([untested], tmp_path)[1])
    perfect = made(skill=99.0)
    assert "Every test image is right." in report([perfect, whole], tmp_path)[1].text


def test_a_thousand_classes_stay_small(tmp_path):
    text, page = report([made(1000, 4000, skill=4.0)], tmp_path)
    assert_self_contained(page)
    assert len(text) < 1_000_000


def test_twenty_thousand_classes_stay_small(tmp_path):
    """Some of what each part of the page shows is left out, and said."""
    classes, images = 20_000, 60_000
    random = np.random.default_rng(0)
    targets = np.arange(images) % classes
    predicted = np.where(random.random(images) < 0.6, targets, np.minimum(random.zipf(1.2, images), classes) - 1)
    names, counts = [f"kind {label}" for label in range(classes)], np.maximum(1, 3000 // np.arange(1, classes + 1))
    found = Confusions.count(predicted, targets, classes)
    nothing, bins = np.empty(0, EXAMPLE), ScoreStatistics(2).reliability()
    findings = Findings(found, bins, nothing, np.empty((0, 1, 1, 1), np.uint8))
    run = {"name": "many", "summary": summarize(found, counts, names), "findings": findings}
    text, page = report([run], tmp_path)
    assert_self_contained(page)
    assert len(text) < 5_000_000
    assert "The 2,000 of 20,000 classes with the lowest accuracy" in page.text
    assert "Of 20,000 classes the 5,000 between which images are confused most are shown" in page.text
    assert "or several that fall together" in page.text


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
    correct = run.findings.confusion.right
    assert run.mean_interval(np.ones(4, bool)) == pytest.approx(wilson_interval(correct.sum(), 400))
    one = np.arange(4) == 2
    assert run.mean_interval(one) == pytest.approx(wilson_interval(correct[2], 100))
    # 1 / n is the mean of 1 / n_c over G classes, divided by G.
    both = np.arange(4) < 2
    images = 4 / (1 / 900 + 1 / 100)
    mean = (correct[0] / 100 + correct[1] / 100) / 2
    again = Run("a", run.summary, reweighed(run.findings, 0, 9))
    assert again.mean_interval(both) == pytest.approx(wilson_interval(mean * images, images))
    assert Run("a", run.summary).mean_interval(both) is None


def test_classes_that_are_confused_stand_together():
    # Three groups of four, interleaved: confused within, hardly between.
    classes = 12
    group = np.arange(classes) % 3
    confusion = np.where(group[:, None] == group, 20, 1)
    np.fill_diagonal(confusion, 100)
    order = clustered([Confusions.of(confusion)])
    assert sorted(order) == list(range(classes))
    assert (np.diff(group[order]) != 0).sum() == 2
    assert clustered([Confusions.of(np.ones((2, 2), int))]).tolist() == [0, 1]
    assert sorted(clustered([Confusions.of(of) for of in (np.zeros((5, 5), int), np.eye(5, dtype=int))])) == list(
        range(5)
    )


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


def texts(page, figure, where=".ticks text") -> list[str]:
    return page.locator(f"#{figure} {where}").all_text_contents()


def test_zoom_by_button_and_key(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    assert page.locator(".plot > svg").count() == page.locator("figure").count() == 9
    controls = page.locator("[data-controls='figure-1']")
    into, out, whole = (controls.locator("button").nth(number) for number in range(3))
    first, up = texts(page, "figure-1"), ".ticks [text-anchor=end]"
    assert {"0", "100", "5", "200", "test accuracy, %"} <= {*first}
    assert out.is_disabled()
    into.click()
    assert texts(page, "figure-1", up) == ["30", "40", "50", "60", "70"]
    assert not {"5", "200"} & {*texts(page, "figure-1")}
    into.press("ArrowUp")
    assert texts(page, "figure-1", up)[-1] == "90"
    for _ in range(9):
        into.press("ArrowUp")
    assert texts(page, "figure-1", up)[-1] == "100"
    out.press("-")
    assert texts(page, "figure-1") == first
    assert out.is_disabled()
    assert page.evaluate("document.activeElement.dataset.does") == "in"  # focus is not lost with the button
    into.click()
    whole.click()
    assert texts(page, "figure-1") == first


def test_hover_names_the_class_and_a_drag_enlarges(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    plot = page.locator("#figure-3")
    plot.scroll_into_view_if_needed()
    box = plot.locator(".frame").bounding_box()
    said = set()
    for step in range(8):  # down the diagonal
        page.mouse.move(box["x"] + box["width"] * (step + 0.5) / 8, box["y"] + box["height"] * (step + 0.5) / 8)
        said.add(page.locator("#tip").text_content())
    for name in HOSTILE:
        shown = printable(name)
        assert any(text.startswith(f"true {shown}predicted {shown}images ") for text in said), name
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    page.mouse.up()
    page.locator("[data-controls='figure-3'] [data-does=reset]:enabled").wait_for()
    assert 10 < page.locator("#figure-3 .labels text").count() < 64
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_rows_are_true_classes_or_columns(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    assert texts(page, "figure-3", ".label") == ["predicted class", "true class"]
    rows = texts(page, "figure-3", ".ticks text:not(.label)")
    cell = page.locator("#figure-3 .labels text").evaluate_all(
        "es => es.map(e => [e.textContent, +e.getAttribute('x')])"
    )
    turn = page.locator("[data-controls='figure-3'] [data-does=turn]")
    turn.click()
    assert turn.get_attribute("aria-pressed") == "true"
    assert texts(page, "figure-3", ".label") == ["true class", "predicted class"]
    assert texts(page, "figure-3", ".ticks text:not(.label)") == rows  # the same order both ways
    turned = page.locator("#figure-3 .labels text").evaluate_all(
        "es => es.map(e => [e.textContent, +e.getAttribute('x')])"
    )
    assert [number for number, _ in cell] == [number for number, _ in turned]
    assert cell != turned
    page.locator("[data-controls='figure-3'] [data-does=in]").click()
    turn.press("Enter")
    assert texts(page, "figure-3", ".label") == ["predicted class", "true class"]


def test_a_class_is_found_with_its_confusions(opened, hostile_report):
    page = opened(viewport={"width": 1280, "height": 900})
    field, answer = page.locator("#class"), page.locator(".search output")
    field.fill("NAME")
    assert page.locator(".marked").count() == 4  # row and column in both matrices
    assert answer.locator("h4").text_content() == "@{name}"
    words = answer.text_content()
    assert f"{HOSTILE[0]}: taken for " in words
    assert re.search(r"car: for it are taken .* \(\d+ of 50\)", words)
    field.fill("a")
    assert "classes:" in answer.text_content()
    answer.locator("button", has_text="alert(1)>").first.click()
    assert "alert(1)>" in answer.locator("h4").text_content()
    field.fill("nowhere")
    assert answer.text_content() == "No class is called so."
    field.fill("")
    assert answer.text_content() == ""
    assert page.locator(".marked").count() == 0


def test_terms_say_what_they_mean(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    term = page.locator("a.term", has_text="worst class").first
    term.hover()
    assert "lowest accuracy" in page.locator("#tip").text_content()
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()
    term.focus()
    assert page.locator("#tip").is_visible()
    term.press("Enter")
    assert page.evaluate("location.hash") == "#term-worst-class"


def test_tables_open_by_keyboard(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    summary = page.locator("#classes summary").first
    table = page.locator("#classes details table").first
    assert not table.is_visible()
    summary.focus()
    summary.press("Enter")
    assert table.is_visible()
    assert HOSTILE[0] in table.inner_text()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def test_a_phone_scrolls_over_figures_and_not_sideways(opened):
    page = opened(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    touch = "document.querySelector('#figure-1 svg').style.touchAction"
    assert page.evaluate(touch) == "auto"
    page.locator("[data-controls='figure-1'] [data-does=in]").tap()
    assert page.evaluate(touch) == "none"
    page.locator("[data-controls='figure-1'] [data-does=reset]").tap()
    assert page.evaluate(touch) == "auto"
    page.locator("a.term", has_text="worst class").first.tap()
    assert "lowest accuracy" in page.locator("#tip").text_content()
    assert page.evaluate("location.hash") == ""


def test_a_phone_says_which_columns_are_out_of_sight_and_shows_them(opened):
    page = opened(**PHONE)
    page.locator("#classes summary").first.tap()
    note = page.locator("#classes details .beyond").first
    assert re.match(r"\d columns are out of sight", note.text_content())
    note.locator("button").tap()
    table = page.locator("#classes details table").first
    assert table.bounding_box()["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cell = table.locator("td").first
    assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"training images: "'
    note.locator("button").tap()
    assert re.match(r"\d columns are out of sight", note.text_content())


def overlaps(page, where) -> list[list[str]]:
    """Pairs of texts of a figure whose boxes share more than a pixel."""
    return page.locator(where).evaluate_all("""(texts) => {
      const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
      const meet = ([, a], [, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a, b)).map((b) => [a[0], b[0]])) }""")


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 1280, "height": 900}}], ids=["phone", "desk"])
def test_names_do_not_overlap(visit, tmp_path, options):
    names = [f"a class with a long name, {label}" for label in range(12)]
    write([made(12, 600, names=names, name=f"run {seed}", seed=seed) for seed in range(3)], tmp_path / "report.html")
    page = visit(tmp_path / "report.html", **options)
    assert page.locator("#figure-1 .labels text").count() >= 6
    for number in range(1, 6):
        for kind in (".ticks text", ".labels text"):
            assert overlaps(page, f"#figure-{number} {kind}") == [], (number, kind)


def test_dark_and_paper(opened):
    page = opened(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    ink = "getComputedStyle(document.querySelector('.plot text')).fill"
    assert page.evaluate(ink) == "rgb(232, 234, 237)"
    page.emulate_media(color_scheme="light")  # while the page is open
    assert page.evaluate(ink) == "rgb(27, 31, 36)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ink) == "rgb(0, 0, 0)"
    options = page.locator("details[data-paper]")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert options.get_attribute("open") is not None
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert options.get_attribute("open") is None


def test_thousands_of_classes_are_named_when_pointed_at_and_found(visit, tmp_path):
    write([made(1000, 4000, skill=4.0)], tmp_path / "report.html")
    page = visit(tmp_path / "report.html", viewport={"width": 1280, "height": 900})
    plot = page.locator("#figure-3")
    plot.scroll_into_view_if_needed()
    assert texts(page, "figure-3") == ["predicted class", "true class"]  # no room for names
    box = plot.locator(".frame").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert re.match(r"true kind \d+predicted kind", page.locator("#tip").text_content())
    page.locator("#class").fill("kind 77")  # not kind 770
    assert page.locator(".search h4").text_content() == "kind 77"
    assert page.locator(".marked").count() == 2
    for _ in range(5):
        page.locator("[data-controls='figure-3'] [data-does=in]").click()
    assert len(texts(page, "figure-3")) > 30
