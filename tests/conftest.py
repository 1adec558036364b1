"""How many processes run the tests, and a browser for those of HTML pages."""

import os
import shutil

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: processes that share cores leave one to each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """A process a core, but no more than have memory for torch."""
    return min(8, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def slow_in_bf16(monkeypatch):
    """As on a CPU that bfloat16 makes slower, whichever it is: --amp auto means the same in every place."""
    monkeypatch.setattr("car_ext.machine.device.cpu_gains_by_bf16", lambda: False)


@pytest.fixture(scope="module")
def browser():
    where = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if where is None:
        pytest.skip("THE REPORT WAS NOT OPENED IN A BROWSER: no chromium here; apt-get install chromium")
    api = pytest.importorskip(
        "playwright.sync_api", reason="THE REPORT WAS NOT OPENED IN A BROWSER: pip install playwright"
    )
    options = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=where, args=[f"--{option}" for option in (*options.split(), "disable-sync")]
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Opens a page in a context of its own; whatever the page complains about or asks for fails the test."""
    contexts, wrong = [], []

    def open_page(path, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: wrong.append(request.url) if request.url[:5] not in allowed else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-shown]", state="attached")
        return page

    allowed = ("file:", "data:", "blob:")
    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
