"""Connections that keep a server waiting, and too many connections: uvicorn with a small application."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvicorn

from spn4cir.serving import connections
from spn4cir.serving.connections import Connection, limit_unread

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nConnection: close\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MOST = 4
Talk = Callable[[int], Awaitable[None]]


async def application(scope, receive, send):
    """Reads the body of a request and answers, at /early without reading; accepts every web socket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    while scope["path"] != "/early" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def served(talk: Talk) -> None:
    """Runs `talk` with the port of a server."""

    errors: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        claimed = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            application,
            http=Connection,
            limit_concurrency=MOST,
            lifespan="off",
            log_config=None,
            ws="websockets-sansio",
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([claimed]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(20):
                await talk(claimed.getsockname()[1])
        finally:
            server.should_exit = True
            await running

    asyncio.run(run())
    assert not errors


async def opened(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What is left to read; nothing if the connection was reset."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_a_client_that_sends_no_head_in_time_is_dropped(monkeypatch):
    monkeypatch.setattr(connections, "_SECONDS_FOR_HEAD", 0.3)

    async def talk(port: int) -> None:
        silent, _ = await opened(port)
        assert await rest(silent) == b""
        slow, writer = await opened(port)
        for byte in HEAD:  # a byte now and then does not extend the time
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
            if slow.at_eof() or writer.is_closing():
                break
        assert await rest(slow) == b""

    served(talk)


def test_the_time_of_a_head_is_not_that_of_a_body_or_of_a_web_socket(monkeypatch):
    monkeypatch.setattr(connections, "_SECONDS_FOR_HEAD", 0.3)

    async def talk(port: int) -> None:
        reader, writer = await opened(port, HEAD + b"1234")
        socket_reader, socket_writer = await opened(port, UPGRADE)
        assert (await socket_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await asyncio.sleep(0.6)
        writer.write(b"5678")
        assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
        socket_writer.write(b"\x89\x80" + bytes(4))
        assert await socket_reader.readexactly(2) == b"\x8a\x00"
        socket_writer.close()

    served(talk)


def test_a_body_that_breaks_off_into_garbage_ends_the_connection():
    async def talk(port: int) -> None:
        for path in (b"/", b"/early"):
            head = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            reader, writer = await opened(port, head)
            if path == b"/early":
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"no chunk\r\n")
            assert (await rest(reader))[:13] == (b"HTTP/1.1 400 " if path == b"/" else b"")

    served(talk)


def test_more_connections_than_the_limit_get_503_also_for_web_sockets():
    async def talk(port: int) -> None:
        waiting = [await opened(port, HEAD) for _ in range(MOST - 1)]
        for data in (HEAD + b"12345678", UPGRADE):
            full, _ = await opened(port, data)
            assert (await rest(full)).startswith(b"HTTP/1.1 503 ")
        for reader, writer in waiting:
            writer.write(b"12345678")
            assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
        last, _ = await opened(port, HEAD + b"12345678")
        assert (await rest(last)).startswith(b"HTTP/1.1 200 ")

    served(talk)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
def test_connections_inherit_the_time_in_which_answers_are_read():
    with socket.create_server(("127.0.0.1", 0)) as claimed:
        limit_unread(claimed)
        with socket.create_connection(claimed.getsockname()), claimed.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
