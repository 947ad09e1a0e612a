"""Connections of clients: their number, and the time in which a client sends the head of a request."""

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
_SECONDS_FOR_HEAD = 10.0
_SECONDS_UNREAD = 30


class Connection(H11Protocol):
    """A connection that is closed if the head of its next request does not arrive in time.

    uvicorn limits only the time between two requests, so without this class clients that send nothing, or one byte
    after the other, could occupy all connections.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Reads bytes; waits for the rest if they are a part of a head."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops to wait."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are no HTTP; after the answer to their request has begun, no second one is possible."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        """Whether a request opens a web socket; beyond the limit it does not, and is answered as other requests are."""
        full = self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency
        return not full and super()._should_upgrade()

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(_SECONDS_FOR_HEAD, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def limit_unread(claimed: socket.socket) -> None:
    """Lets the system close connections of a socket whose clients do not read their answers; Linux only."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        claimed.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SECONDS_UNREAD * 1000)
