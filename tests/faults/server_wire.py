"""Raw requests to a server over sockets of their own, and what no answer may be."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

SECONDS = 90
SEARCH = "/api/search"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4"
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
_LOCATION = re.compile(rb"^location: *([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_LARGEST = 4_000_000


class Place(NamedTuple):
    """A server and its files.

    Attributes:
        host: the address.
        port: the port.
        folder: the folder of the gallery and of what no client may see.
        planted: a text that only files outside of the gallery contain.
        patience: the most seconds that a slow client takes for one request.
    """

    host: str
    port: int
    folder: Path
    planted: bytes
    patience: float

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


class Wire(NamedTuple):
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Sends bytes; a server that has closed the connection already is no fault."""
        if self.reader.at_eof() or self.reader.exception():
            return
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (ConnectionError, OSError):
            return

    async def answer(self) -> bytes:
        """Everything until the server closes; raises TimeoutError if it neither answers nor closes."""
        found = bytearray()
        try:
            async with asyncio.timeout(SECONDS):
                while len(found) < _LARGEST and (part := await self.reader.read(65536)):
                    found += part
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
        return bytes(found)

    def end(self) -> None:
        """Says that no more is sent."""
        with suppress(OSError):
            self.writer.write_eof()

    def reset(self) -> None:
        """Lets closing reset the connection."""
        made = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[Wire]:
    """Opens a connection, and closes it."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def ask(place: Place, data: bytes) -> bytes:
    """Sends a request that closes its connection; returns the answer."""
    async with connected(place) as wire:
        await wire.send(data)
        return await wire.answer()


def head(place: Place, target: str = "/", method: str = "GET", **headers: str) -> bytes:
    """A request without a body; `_` in names is `-`."""
    lines = {"Host": place.name, "Connection": "close"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("utf-8", "surrogateescape")


def post(place: Place, target: str, kind: str, body: bytes, **headers: str) -> bytes:
    """A request with a body."""
    return head(place, target, "POST", Content_Type=kind, **{"Content_Length": str(len(body))} | headers) + body


def multipart(*parts: tuple[str, str | None, bytes]) -> tuple[str, bytes]:
    """The type and the body of a form of (name, file name, content)."""
    lines = []
    for name, file, content in parts:
        given = "" if file is None else f'; filename="{file}"\r\nContent-Type: image/png'
        lines.append(f'--edge\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'.encode() + content)
    return "multipart/form-data; boundary=edge", b"\r\n".join(lines) + b"\r\n--edge--\r\n"


def complaint(place: Place, answer: bytes, allowed: frozenset[int]) -> str | None:
    """What is wrong with an answer; None if nothing is.

    A closed connection is an answer too. A 503 states when to come again, or that the server is full. A redirection
    leads to the server itself.
    """
    for found in map(int, _STATUS.findall(answer)):
        if found == 503:
            if b"retry-after:" not in answer.lower() and b"Service Unavailable" not in answer:
                return "503 that does not say why"
        elif found not in allowed:
            return f"status {found}"
    for found in map(bytes.decode, _LOCATION.findall(answer)):
        if not found.startswith(f"http://{place.name}/"):
            return f"leads to {found}"
    if place.planted in answer:
        return "shows a file outside of the gallery"
    if b"text/html" in answer.partition(b"\r\n\r\n")[0].lower() and b"<svg onload=" in answer:
        return "repeats HTML of the request"
    return None


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers on a connection."""
    return [int(status) for status in _STATUS.findall(answer)]
