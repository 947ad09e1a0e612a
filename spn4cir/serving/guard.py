"""Checks of the origin and the size of every request, and security headers for every answer."""

from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spn4cir.serving.uploads import too_large

# The framework of the page builds its components in the browser, with inline scripts and their evaluation.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_POLICY_VIOLATED = 1008
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses requests from pages of other sites, and adds `_HEADERS` to every answer.

    A browser sends the site of a page in the header Origin. Searches and the web socket of the page must come from
    this site.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, one web socket, or the start and stop of the server."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        app = self._app if origin is None or urlsplit(origin).netloc == headers.get("host") else _refuse

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, send_guarded)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATED})
        return
    sentence = "requests from pages of other sites are refused; open this server's own page"
    await JSONResponse({"detail": sentence}, 403)(scope, receive, send)


class BodyLimit:
    """Refuses requests with too many bytes while they are read, whatever their declared length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, one web socket, or the start and stop of the server."""
        left = self._most

        async def receive_counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                refusal = too_large()
                raise HTTPException(refusal.status, str(refusal))
            return message

        await self._app(scope, receive_counted if scope["type"] == "http" else receive, send)
