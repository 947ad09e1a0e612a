"""Headless Chromium, for tests of pages. An error that a page logs, or a request to another host, fails its test."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_HERE = ("127.0.0.1", "localhost", None)
_MILLISECONDS = 30_000


class SlowAnswers:
    """What a server sends through the web socket of a page is kept back from `hold` to `release`.

    What a person does meanwhile reaches the server, as with a slow connection, but without a time.
    """

    def __init__(self) -> None:
        self._held: list[str | bytes] | None = None
        self._page: Any = None

    def attach(self, page: Any) -> None:
        """Begins with the next web socket that a page opens."""
        self._page = page
        page.route_web_socket(re.compile("_nicegui_ws"), self._connect)

    def hold(self) -> None:
        """Keeps messages back."""
        self._held = []

    def wait_for(self, text: str) -> None:
        """Waits until a message that contains this is kept back."""
        ends = time.monotonic() + _MILLISECONDS / 1000
        while not any(text in str(message) for message in self._held or ()):
            assert time.monotonic() < ends, f"no message of the server contains {text!r}"
            self._page.wait_for_timeout(10)

    def release(self) -> None:
        """Delivers what was kept back, and what comes from now on."""
        held, self._held = self._held or [], None
        for message in held:
            self._socket.send(message)

    def _connect(self, socket: Any) -> None:
        self._socket = socket
        server = socket.connect_to_server()
        server.on_message(self._take)
        socket.on_message(server.send)

    def _take(self, message: str | bytes) -> None:
        if self._held is None:
            self._socket.send(message)
        else:
            self._held.append(message)


def compose(page: Any, text: str) -> None:
    """Types a text by an input method, whose composition Enter ends."""
    keyboard = page.context.new_cdp_session(page)
    keyboard.send("Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)})
    keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter"})
    keyboard.send("Input.insertText", {"text": text})


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
    """Function from an address, and options of a context (`color_scheme`, `viewport`), to the open page.

    `answers` keeps back what the server sends to the page.
    """
    complaints: list[str] = []
    contexts = []

    def notice(address: str) -> None:
        if urlsplit(address).hostname not in _HERE:
            complaints.append(f"asked another host: {address}")

    def open_one(address: str, answers: SlowAnswers | None = None, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_MILLISECONDS)
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: notice(request.url))
        page.on("websocket", lambda opened: notice(opened.url))
        if answers:
            answers.attach(page)
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not complaints, complaints
