"""Checks of the origin, the size and the time of every request, and security headers for every answer."""

import asyncio
import secrets
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spn4cir.serving.uploads import MAX_BYTES, too_large

# The framework of the page compiles its components in the browser, and styles their elements. Its inline scripts are
# known by a nonce (spn4cir.serving.framework).
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
NONCE = "spn4cir.nonce"
_POLICY_VIOLATED = 1008
_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses requests from pages of other sites, and adds a content security policy and `_HEADERS` to every answer.

    A browser sends the site of a page in the header Origin. Searches and the web socket of the page must come from
    this site, or from one of the names by which a proxy serves it. The scope of a request contains the nonce of its
    answer's inline scripts under `NONCE`. A request that the stop of the server interrupts is answered with 503.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, one web socket, or the start and stop of the server."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        app = _refuse if _foreign(headers, self._names) else self._app
        scope[NONCE] = nonce = secrets.token_urlsafe(16)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(
                    {"Content-Security-Policy": _POLICY.format(nonce=nonce), **_HEADERS}
                )
            await send(message)

        try:
            await app(scope, receive, send_guarded)
        except asyncio.CancelledError:
            if started or scope["type"] == "websocket":
                raise
            sentence = "the server stops; try again when it runs"
            await JSONResponse({"detail": sentence}, 503, {"Retry-After": "30"})(scope, receive, send_guarded)


def _foreign(headers: Headers, names: Collection[str]) -> bool:
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        site = urlsplit(origin)
    except ValueError:
        return True
    known = site.scheme in ("http", "https") and site.netloc.lower() in names
    return not site.netloc or (site.netloc != headers.get("host") and not known)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATED})
        return
    sentence = "requests from pages of other sites are refused; open this server's own page"
    await JSONResponse({"detail": sentence}, 403)(scope, receive, send)


class BodyLimit:
    """Refuses requests with too many bytes, whatever their declared length, or that take too long to arrive."""

    def __init__(self, app: ASGIApp, most: Callable[[str], int], seconds: float) -> None:
        """Creates the guard.

        Args:
            app: the application.
            most: function from a path to the most bytes of a request.
            seconds: the time in which a request arrives.
        """
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, one web socket, or the start and stop of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = most = self._most(scope["path"])
        ends, complete = asyncio.get_running_loop().time() + self._seconds, False

        async def receive_counted() -> Message:
            nonlocal left, complete
            try:
                async with asyncio.timeout_at(None if complete else ends):
                    message = await receive()
            except TimeoutError:
                sentence = f"the request did not arrive within {self._seconds:.0f} seconds; send it again"
                raise HTTPException(408, sentence, {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                smaller = f"the request is larger than {most / 1e6:.0f} MB; send less"
                raise HTTPException(413, str(too_large()) if most > MAX_BYTES else smaller)
            return message

        await self._app(scope, receive_counted, send)
