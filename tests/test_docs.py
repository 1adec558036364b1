"""The documentation: its links, what its pages name, the site as a whole, and the picture of the floors."""

import functools
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WRITTEN = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "examples/README.md"]
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)|src=\"([^\"]+)\"")
IDENTIFIER = re.compile(r"^::: (\S+)", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [*WRITTEN, *(f"docs/{page}" for page in PAGES)])
def test_every_relative_link_leads_to_a_file(name):
    page = ROOT / name
    links = {one or other for one, other in LINK.findall(FENCED.sub("", text(page)))}
    relative = {link for link in links if not re.match(r"[a-z]+:", link)}
    missing = [link for link in sorted(relative) if not (page.parent / link).exists()]
    assert not missing


def test_every_page_stands_in_the_navigation_once():
    def pages(entries):
        for entry in entries:
            for inner in entry.values():
                yield from pages(inner) if isinstance(inner, list) else [inner]

    assert sorted(pages(yaml.safe_load(text(ROOT / "mkdocs.yml"))["nav"])) == PAGES


def test_every_test_that_a_case_names_exists():
    named, file = re.findall(r"(tests/[\w/]+\.py)?(::test_\w+)?", text(DOCS / "reliability.md")), ""
    places = []
    for path, name in named:  # a name without a file is in the file before it
        file = path or file
        if path or name:
            places.append((file, name.removeprefix("::")))
    assert len(places) > 80
    missing = [(path, name) for path, name in places if f"def {name}(" not in text(ROOT / path) and name]
    assert not missing


NAMED = [name for page in PAGES for name in IDENTIFIER.findall(text(DOCS / page))]


@pytest.mark.parametrize("name", NAMED)
def test_every_name_on_a_page_exists_and_says_what_it_is(name):
    module, parts = "car_ext", name.split(".")[1:]
    while parts and importlib.util.find_spec(f"{module}.{parts[0]}"):
        module = f"{module}.{parts.pop(0)}"
        if not hasattr(importlib.import_module(module), "__path__"):
            break
    found = functools.reduce(getattr, parts, importlib.import_module(module))
    assert found.__doc__


def test_no_name_stands_on_two_pages():
    assert len(NAMED) == len(set(NAMED)) > 0


def test_links_out_of_the_documentation_lead_to_the_repository_or_are_text(monkeypatch):
    hooks = script("hooks")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="api/car.md"))
    markdown = "[a](../kernel.md) [b](../../README.md) ![c](../digits.png)"
    for address, expected in (
        ("https://host/owner/name/", "[b](https://host/owner/name/blob/HEAD/README.md)"),
        ("", "b"),
    ):
        monkeypatch.setenv("CAR_EXT_REPOSITORY", address)
        config = hooks.on_config(SimpleNamespace())
        written = hooks.on_page_markdown(markdown, page=page, config=config, files=None)
        assert written == f"[a](../kernel.md) {expected} ![c](../digits.png)"


def test_the_floors_are_those_of_the_import_contract():
    floors = script("floors")
    house, page = floors.floors(), text(floors.PAGE)
    assert text(floors.PICTURE) == floors.draw(house), "python docs/floors.py brings docs/floors.svg up to date"
    assert page == floors.with_table(page, house), "python docs/floors.py brings docs/architecture.md up to date"


def test_the_site_builds_without_a_warning(tmp_path):
    for name in ("mkdocs", "material", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason="THE DOCUMENTATION WAS NOT BUILT: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    page = text(tmp_path / "api" / "car" / "index.html")
    assert 'id="car_ext.CAR"' in page
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//', page), (
        "nothing comes from elsewhere"
    )
