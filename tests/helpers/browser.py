"""Headless Chromium, for tests of pages. An error that a page logs, or a request to another host, fails its test."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_HERE = ("127.0.0.1", "localhost", None)
_MILLISECONDS = 30_000


def find_chromium() -> str | None:
    """Returns the program: the environment variable CHROMIUM, otherwise the one on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser of a test module. While it is open, asyncio.run does not work in this thread."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on the path: install it, or name it by the environment variable CHROMIUM")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Function from an address, and options of a context (`color_scheme`, `viewport`), to the open page."""
    complaints: list[str] = []
    contexts = []

    def notice(address: str) -> None:
        if urlsplit(address).hostname not in _HERE:
            complaints.append(f"asked another host: {address}")

    def open_one(address: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_MILLISECONDS)
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: notice(request.url))
        page.on("websocket", lambda opened: notice(opened.url))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not complaints, complaints
