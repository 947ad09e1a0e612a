"""Faults at the socket of the page; each returns what the server answered."""

import asyncio
import json
from contextlib import suppress
from random import Random
from uuid import UUID

from tests.faults.server_wire import SOCKET, Place, ask, connected, head, post


async def polling(place: Place, random: Random) -> bytes:
    """The transport of the page's socket without a web socket."""
    sid = random.choice(["", "&sid=x", "&sid=" + "x" * 5_000, "&transport=polling", "&sid=../x"])
    body = random.choice(
        [b"40", b'42["event",1]', b"9", b"b" + b"A" * 5_000, b"\x1e" * 50_000, b"451-[]", b"4" + b"2" * 90_000]
    )
    target = random.choice(
        [f"{SOCKET}&transport=polling{sid}", f"{SOCKET}&transport=x{sid}", f"/_nicegui_ws/socket.io/?EIO=9{sid}"]
    )
    if random.random() < 0.5:
        return await ask(place, head(place, target))
    return await ask(place, post(place, target, "text/plain", body))


def messages(random: Random) -> list[str | bytes]:
    """Messages that the page never sends."""
    client = str(UUID(int=random.getrandbits(128), version=4))
    event = random.choice(["event", "handshake", "javascript_response", "ack", "log", "connect", "x", 1, None])
    value = random.choice(
        [
            None,
            1,
            [],
            {},
            "x",
            {"client_id": client},
            {"client_id": None},
            {"client_id": [1]},
            {"client_id": client, "id": "x", "args": 9},
            {"client_id": client, "tab_id": None, "document_id": 1},
            {"client_id": client, "next_message_id": "x"},
        ]
    )
    return random.choices(
        [
            f"42{json.dumps([event, value])}",
            f"421{json.dumps([event, value, value])}",
            "40",
            "40/other,",
            "41",
            "2",
            "3",
            "5",
            "6",
            "9",
            "",
            "42[",
            "42" + "[" * 100_000,
            "42" + '{"a":' * 50_000,
            "43[]",
            "451-" + '["event",{"_placeholder":true,"num":0}]',
            "4" + "9" * 10_000,
            random.randbytes(2_000),
            b"",
            "b" * 900_000,
            "x" * 1_100_000,
            '42["event"]',
            "42{}",
            "42null",
            "\ud7ff\ufffd",
        ],
        k=random.randrange(1, 12),
    )


async def socket_garbage(place: Place, random: Random) -> bytes:
    """Messages to the page's socket that the page never sends."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    query = random.choice(
        ["&client_id=x", f"&client_id={UUID(int=1)}&implicit_handshake=true", "&implicit_handshake=true", "", "&sid=x"]
    )
    address = f"ws://{place.name}{SOCKET}&transport=websocket{query}"
    origin = random.choice([None, f"http://{place.name}", "http://evil.example"])
    with suppress(WebSocketException, ConnectionError, TimeoutError, OSError):
        async with asyncio.timeout(30), connect(address, origin=origin, close_timeout=1, ping_interval=None) as socket:
            for message in messages(random):
                await socket.send(message)
            async with asyncio.timeout(random.random()):
                while True:
                    await socket.recv()
    return b""


async def socket_frames(place: Place, random: Random) -> bytes:
    """Frames that break the protocol of web sockets."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "A" * 22 + "==",
    }
    upgrade |= random.choice(
        [
            {},
            {},
            {"Sec-WebSocket-Version": "99"},
            {"Sec-WebSocket-Key": "x"},
            {"Sec-WebSocket-Extensions": "x;y=" + "z" * 9_000},
        ]
    )
    path = random.choice([f"{SOCKET}&transport=websocket", "/", "/api/search", "/nothing"])
    frames = random.choice(
        [
            b"\x81\x05hello",
            b"\xff\xff" + bytes(20),
            b"\x81\xff" + b"\x7f" + bytes(11),
            b"\x80\x80" + bytes(4),
            b"\x89\xfe\x10\0" + bytes(4_100),
            b"\x01\x80" + bytes(4),
            random.randbytes(500),
            b"\x88\x81" + bytes(5),
            b"\xc1\x84" + bytes(4) + random.randbytes(4),
        ]
    )
    async with connected(place) as wire:
        await wire.send(head(place, path, **upgrade))
        await asyncio.sleep(random.choice([0, 0.1]))
        await wire.send(frames)
        await asyncio.sleep(0.2)
        wire.end()
        return await wire.answer()
