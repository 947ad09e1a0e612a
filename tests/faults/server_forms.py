"""Requests that are valid HTTP and not what the server expects; each returns what the server answered."""

from functools import cache
from importlib.metadata import version
from random import Random
from urllib.parse import quote
from uuid import UUID

from tests.faults.server_payloads import HTML, bombs, others, traversals
from tests.faults.server_wire import SEARCH, SOCKET, Place, ask, head, multipart, post

_FORM = "application/x-www-form-urlencoded"
_NAMES = ("static/", "libraries/", "components/", "esm/", "resources/", "dynamic_resources/")


@cache
def _files() -> tuple[list[bytes], list[bytes], list[str]]:
    return bombs(), others(), traversals()


async def bomb(place: Place, random: Random) -> bytes:
    return await _upload(place, random.choice(_files()[0]), random)


async def other_file(place: Place, random: Random) -> bytes:
    return await _upload(place, random.choice(_files()[1]), random)


async def _upload(place: Place, data: bytes, random: Random) -> bytes:
    file = random.choice(["a.png", "../../a.png", HTML, "a.svg", "", "a\\..\\b.png", "x" * 3_000])
    kind, body = multipart(("text", None, b"is red"), ("image", file, data))
    return await ask(place, post(place, SEARCH, kind, body))


async def too_large(place: Place, random: Random) -> bytes:
    size = random.choice([10_000_001, 12_000_000])
    kind, body = multipart(("text", None, b"is red"), ("image", "a.png", bytes(size)))
    return await ask(place, post(place, random.choice([SEARCH, f"{SOCKET}&transport=polling"]), kind, body))


async def many_fields(place: Place, random: Random) -> bytes:
    count = 10_000
    lone = multipart(("text", None, b"+2AA-"), ("reference", None, b"00.png"))  # a lone surrogate in UTF-7
    kind, body = random.choice(
        [
            (_FORM, b"&".join(b"f%d=1" % number for number in range(count))),
            (_FORM, b"text=x&" * count),
            (_FORM, b"text=" + b"%41" * 300_000),
            (_FORM, b"&" * 100_000 + b"=" * 100_000),
            multipart(*((f"f{number}", None, b"1") for number in range(count))),
            multipart(*((f"f{number}", "a.png", b"1") for number in range(count))),
            multipart(("text" * 30_000, None, b"1")),
            multipart(("text", None, bytes(2_000_000))),
            ("multipart/form-data; boundary=" + "e" * 10_000, b"--" + b"e" * 10_000),
            ("multipart/form-data", b"--edge"),
            ("multipart/form-data; boundary=edge", b"--edge\r\n" + b"a: b\r\n" * 20_000),
            (
                "multipart/form-data; boundary=edge",
                b"--edge\r\nContent-Disposition: form-data; name=\xff\r\n\r\n\r\n--edge--",
            ),
            ("multipart/mixed; boundary=edge", b"--edge--"),
            (f"{lone[0]}; charset=utf-7", lone[1]),
        ]
    )
    return await ask(place, post(place, SEARCH, kind, body))


async def deep_json(place: Place, random: Random) -> bytes:
    body = random.choice([b"[" * 200_000, b'{"a":' * 100_000, b"[" * 500 + b"]" * 500, b"9" * 100_000, b'"\\ud800"'])
    target = random.choice([SEARCH, f"{SOCKET}&transport=polling", f"{SOCKET}&transport=polling&sid=x", "/"])
    return await ask(place, post(place, target, random.choice(["application/json", "text/plain"]), body))


async def traversal(place: Place, random: Random) -> bytes:
    written = random.choice(_files()[2])
    target = random.choice(
        [
            f"/api/thumbnail?name={quote(written, safe='%/')}",
            f"/api/thumbnail?name={quote(written)}",
            f"/{quote(written, safe='%/')}",
            *(f"/_nicegui/{version('nicegui')}/{part}{quote(written, safe='%/;')}" for part in _NAMES),
        ]
    )
    if random.random() < 0.25:
        kind, body = multipart(("text", None, b"is red"), ("reference", None, written.encode()))
        return await ask(place, post(place, SEARCH, kind, body))
    return await ask(place, head(place, target))


async def hosts(place: Place, random: Random) -> bytes:
    name, evil = place.name, "evil.example"
    changes = random.choice(
        [
            {"Host": evil},
            {"Host": f"{evil}:{place.port}"},
            {"Host": f"{place.host}.{evil}"},
            {"Host": f"{name}@{evil}"},
            {"Host": ""},
            {"Host": f"[::1]{evil}"},
            {"Host": "[" * 500},
            {"Host": "127.1"},
            {"Host": "2130706433"},
            {"Host": "localhost\tx"},
            {"Host": f"{name}\r\nHost: {evil}"},
            {"Origin": f"http://{evil}"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Origin": f"http://{name}.{evil}"},
            {"Origin": f"http://{name}@{evil}"},
            {"Origin": "file://"},
            {"Origin": "http://" + "a" * 60_000},
            {"Origin": "\xff"},
            {"Host": evil, "Origin": f"http://{evil}", "X-Forwarded-Host": name},
        ]
    )
    kind, body = multipart(("text", None, b"is red"), ("reference", None, b"00.png"))
    target = random.choice([SEARCH, f"http://{evil}{SEARCH}"])
    return await ask(place, post(place, target, kind, body, **changes))


async def forwarded(place: Place, random: Random) -> bytes:
    """Headers of proxies, which anyone can send."""
    name = random.choice(
        ["X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded"]
    )
    value = random.choice(
        [HTML, '"><script src=//evil.example>', "//evil.example", "javascript:x", "a, b, c" * 500, "\xff"]
    )
    return await ask(place, head(place, random.choice(["/", "/api/health", "/nothing"]), **{name: value}))


async def pages(place: Place, random: Random) -> bytes:
    """Pages that no browser stays on, and addresses that are no pages."""
    query = quote(random.choice([HTML, "00.png", "../secret.txt", "x" * 20_000, "\0", "`${1}`", "</script>" + HTML]))
    path = random.choice(
        [
            "/",
            "/annotate",
            f"/?reference={query}",
            f"/?reference=00.png&text={query}&k=1",
            f"/?k={query}",
            f"/{query}",
            "/favicon.ico",
            "/openapi.json",
            f"/api/{query}",
            f"/_nicegui/{query}",
            "/docs",
            "/.git/config",
        ]
    )
    return await ask(place, head(place, path))


async def foreign_upload(place: Place, random: Random) -> bytes:
    """An upload to the page of another visitor, whose address is guessed."""
    kind, body = multipart(("file", "a.png", _files()[1][5]))
    guess = random.choice([str(UUID(int=random.getrandbits(128), version=4)), "..", "*", HTML])
    return await ask(place, post(place, f"/_nicegui/client/{quote(guess)}/upload/{random.randrange(40)}", kind, body))
