"""What the framework of the pages has no options for: a nonce for scripts, short errors, and a limit of pages."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import isawaitable
from typing import Any

import jinja2.ext
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from nicegui import app, core, ui
from nicegui.client import Client, templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spn4cir.serving.guard import NONCE

MAX_PAGES = 256
_SOCKET = "/_nicegui_ws/"
_INVALID = 1007
_SECONDS_TO_CONNECT = 10.0
_BROKEN = (ValueError, LookupError, TypeError, AttributeError)


class _ScriptNonce(jinja2.ext.Extension):
    """Adds a nonce to the scripts of a template, and so to none that a value of the template contains."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        return source.replace("<script", f"""<script nonce="{{{{ request.scope['{NONCE}'] }}}}" """)


def prepare_framework() -> None:
    """Lets the pages pass the content security policy, and answers unknown addresses with a sentence, not a page.

    Messages to the page's socket that are broken are refused and not logged, as each would be a traceback.
    """
    templates.env.add_extension(_ScriptNonce)
    app.add_exception_handler(404, _absent)
    app.add_middleware(BrokenMessages)
    _guard_events()
    for name in ("engineio.server", "socketio.server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class BrokenMessages:
    """Refuses what the packages behind the page's socket cannot parse, and would answer with a status 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, one web socket, or the start and stop of the server."""
        at_socket = scope.get("path", "").startswith(_SOCKET)  # the application can change the path in the scope
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except _BROKEN:
            if not at_socket:
                raise
            if scope["type"] == "websocket":
                with suppress(RuntimeError, OSError):  # a packet can be read after either side has closed the socket
                    await send({"type": "websocket.close", "code": _INVALID})
            elif not started:
                await JSONResponse({"detail": "the message is broken; reload the page"}, 400)(scope, receive, send)


def _guard_events() -> None:
    """Lets the framework refuse messages of the page's socket whose content its handlers do not expect."""
    handlers = core.sio.handlers["/"]
    for event in handlers.keys() - {"disconnect"}:  # no message, and called again with fewer arguments on a TypeError
        handlers[event] = _guarded(handlers[event])


def _guarded(handle: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def guarded(*arguments: Any) -> Any:
        try:
            answer = handle(*arguments)
            return await answer if isawaitable(answer) else answer
        except _BROKEN:
            return False

    return guarded


async def check_room() -> None:
    """Raises HTTPException (503) if too many pages are open. Asynchronous, as pages end in the event loop only.

    The server holds a page that its browser has left for half a minute, and one that no browser connected to for a
    minute. If there are many, the latter end earlier.
    """
    if len(Client.instances) < MAX_PAGES:
        return
    Client.prune_instances(client_age_threshold=_SECONDS_TO_CONNECT)
    if len(Client.instances) >= MAX_PAGES:
        sentence = f"{MAX_PAGES} pages are open already; try again in {_SECONDS_TO_CONNECT:.0f} seconds"
        raise HTTPException(503, sentence, {"Retry-After": f"{_SECONDS_TO_CONNECT:.0f}"})


def add_files(style: str, script: str | None = None) -> None:
    """Adds a style sheet, and a script with the nonce of the answer, to the page that is being built."""
    ui.add_head_html(f"<style>{style}</style>")
    if script is not None:
        nonce = ui.context.client.request.scope[NONCE]
        ui.add_body_html(f'<script nonce="{nonce}">{script}</script>')


async def _absent(_: Request, error: Exception) -> JSONResponse:
    sentence = "nothing is at this address; the search page is at /"
    detail = error.detail if isinstance(error, HTTPException) and error.detail != "Not Found" else sentence
    return JSONResponse({"detail": detail}, 404)
