"""Faults of connections and of the lines of HTTP; each returns what the server answered."""

import asyncio
from contextlib import suppress
from random import Random

from tests.faults.server_wire import SEARCH, Place, connected, head, multipart, post

_FORM = "application/x-www-form-urlencoded"


async def half_request(place: Place, random: Random) -> bytes:
    kind, body = multipart(("text", None, b"is red"), ("image", "a.png", bytes(20_000)))
    whole = random.choice([head(place, "/api/health"), post(place, SEARCH, kind, body)])
    async with connected(place) as wire:
        await wire.send(whole[: random.randrange(1, len(whole))])
        if random.random() < 0.5:
            wire.end()
            return await wire.answer() if random.random() < 0.2 else b""
        await asyncio.sleep(random.random())
    return b""


async def slow_request(place: Place, random: Random) -> bytes:
    """Bytes that come one after the other, in some ways for longer than the server waits for a head."""
    kind, body = multipart(("text", None, b"is red"), ("reference", None, b"00.png"))
    whole = random.choice([head(place, "/api/health"), post(place, SEARCH, kind, body)])
    seconds = random.uniform(0.1, 1) * place.patience
    async with connected(place) as wire:
        start = random.choice([0, len(whole) - len(body), len(whole) - 20])
        await wire.send(whole[:start])
        for at in range(start, start + int(seconds * 2)):
            await wire.send(whole[at : at + 1])
            await asyncio.sleep(0.5)
            if wire.reader.at_eof():
                return await wire.answer()
    return b""


async def wrong_length(place: Place, random: Random) -> bytes:
    kind, body = multipart(("text", None, b"is red"), ("reference", None, b"00.png"))
    near = (str(len(body) - 7), str(len(body) + 7))
    length = random.choice(["-1", "x", "", "1e3", "0x10", "9" * 40, "0", "+9", *near])
    extra = random.choice([{}, {"Transfer_Encoding": "chunked"}, {"Transfer_Encoding": "gzip"}])
    async with connected(place) as wire:
        await wire.send(post(place, SEARCH, kind, body, **({"Content_Length": length} | extra)))
        await asyncio.sleep(0.2)
        wire.end()
        return await wire.answer()


async def chunks(place: Place, random: Random) -> bytes:
    """Chunked bodies with wrong sizes, endless trailers and what a proxy could take for a second request."""
    start = head(place, SEARCH, "POST", Content_Type=_FORM, Transfer_Encoding="chunked")
    rest = random.choice(
        [
            b"zz\r\n",
            b"-5\r\nabc",
            b"ffffffffffffffff\r\nab",
            b"5;" + b"x" * 70_000 + b"\r\n",
            b"3\r\nabcdef\r\n0\r\n",
            b"0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
            b"0\r\n\r\nGET /api/health HTTP/1.1\r\n\r\n",
            b"1\r\nk\r\n" * 300,
        ]
    )
    async with connected(place) as wire:
        await wire.send(start + rest)
        await asyncio.sleep(0.2)
        wire.end()
        return await wire.answer()


async def reset(place: Place, random: Random) -> bytes:
    """A connection that is reset before, while or after its answer is written."""
    path = random.choice(["/", "/annotate", "/api/thumbnail?name=00.png&large=true", "/api/images", "/openapi.json"])
    with suppress(ConnectionError):
        async with connected(place) as wire:
            await wire.send(head(place, path))
            await asyncio.sleep(random.choice([0, 0.002, 0.05, 0.3]))
            wire.reset()
    return b""


async def unread(place: Place, random: Random) -> bytes:
    """Many requests on one connection, whose answers are read late or never."""
    request = head(place, "/api/images?limit=1000", Connection="keep-alive")
    async with connected(place) as wire:
        wire.writer.transport.pause_reading()
        await wire.send(request * random.choice([2, 100]))
        await asyncio.sleep(random.uniform(0, 4))
    return b""


async def headers(place: Place, random: Random) -> bytes:
    flood = random.choice(
        [
            b"a: b\r\n" * 10_000,
            b"a: " + b"b" * 1_000_000 + b"\r\n",
            b"Cookie: " + b"a=b; " * 12_000 + b"\r\n",
            b"a: b\r\n c\r\n",
            b"a\0: b\r\n",
            b"a : b\r\n",
            b": b\r\n",
            b"a: \xff\xfe\0\r\n",
            b"a" * 70_000 + b": b\r\n",
            b"Accept: text/markdown\r\n",
            b"Expect: 100-continue\r\n",
            b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n",
            b"Range: bytes=0-1,0-1,0-1\r\n",
            b"If-Modified-Since: never\r\n",
            b"Accept-Encoding: gzip;q=x, *\r\n",
            b"X-HTTP-Method-Override: DELETE\r\n",
        ]
    )
    start, _, end = head(place, random.choice(["/", "/api/health", "/api/thumbnail?name=00.png"])).partition(b"\r\n")
    async with connected(place) as wire:
        await wire.send(start + b"\r\n" + flood + end)
        return await wire.answer()


async def lines(place: Place, random: Random) -> bytes:
    """Request lines that are none, and other protocols."""
    data = random.choice(
        [
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /\r\n\r\n",
            b"get / HTTP/1.1\r\n\r\n",
            b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"\0" * 5_000,
            b"\r\n" * 5_000,
            random.randbytes(3_000),
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET  /  HTTP/1.1\r\n\r\n",
            b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            head(place, SEARCH, random.choice(["TRACE", "PUT", "DELETE", "HEAD", "PROPFIND", "X" * 3_000])),
        ]
    )
    async with connected(place) as wire:
        await wire.send(data)
        await asyncio.sleep(0.1)
        wire.end()
        return await wire.answer()
