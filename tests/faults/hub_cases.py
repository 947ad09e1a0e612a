"""Answers of a hub with a fault: names, redirects, lengths, hashes and pages, from a stand-in on this machine."""

import hashlib
import json
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub.file_download
import pytest

from spn4cir.hub.fetch import fetch
from spn4cir.projects.hub_tables import fetch_tables
from tests.faults.attempts import Case
from tests.faults.places import Place
from tests.helpers.hub_server import REPOSITORY, point_at

KIND = "hub answers"
_COMMIT = "a" * 40
_CONTENT = b"weights" * 100
_HASH = hashlib.sha256(_CONTENT).hexdigest()
Answer = tuple[int, Mapping[str, str], bytes]


def _found(**changes: str | None) -> dict[str, str]:
    """Returns the headers with which a hub describes a file; None removes one, and `_` in a name is `-`."""
    headers: dict[str, str | None] = {
        "X-Repo-Commit": _COMMIT,
        "ETag": f'"{_HASH}"',
        "X-Linked-Etag": f'"{_HASH}"',
        "X-Linked-Size": str(len(_CONTENT)),
        "Content-Length": str(len(_CONTENT)),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in headers.items() if value is not None}


@contextmanager
def _hub(answer: Callable[[str, str], Answer], place: Place) -> Iterator[None]:
    """Answers requests, each a method and a path, as the hub of huggingface_hub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            status, headers, body = answer(self.command, self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            point_at(patch, f"http://127.0.0.1:{server.server_address[1]}", place.cache)
            patch.setattr("spn4cir.hub.download._SECONDS_BETWEEN_ATTEMPTS", 0.0)
            pause = namedtuple("pause", "sleep time")(lambda seconds: None, time.time)
            patch.setattr(huggingface_hub.file_download, "time", pause)
            yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _fetched(answer: Callable[[str, str], Answer], file: str, sha256: str | None, place: Place) -> Callable[[], object]:
    def read() -> str:
        with _hub(answer, place):
            found = fetch(REPOSITORY, file, "main", sha256)
        assert found.path.resolve().is_relative_to(place.cache.resolve()), "written outside the cache"
        return f"{found.size} bytes"

    return read


def _headers_then_body(headers: Mapping[str, str], body: bytes = _CONTENT) -> Callable[[str, str], Answer]:
    return lambda method, _: (200, headers, body if method == "GET" else b"")


def _moved(place: str, status: int = 302) -> Callable[[str, str], Answer]:
    """Redirects every request; the description of the file is that of the hub."""
    return lambda method, _: (status, {"Location": place} | ({"Content-Length": "0"} | _named_headers()), b"")


def _named_headers() -> dict[str, str]:
    return {name: value for name, value in _found().items() if name != "Content-Length"}


_PAGE = b"<!doctype html><title>Log in to the network</title>"
_FAULTS: dict[str, Callable[[str, str], Answer]] = {
    "no commit": _headers_then_body(_found(X_Repo_Commit=None)),
    "a commit that is a path": _headers_then_body(_found(X_Repo_Commit="../../../../escaped")),
    "a commit in words": _headers_then_body(_found(X_Repo_Commit="main")),
    "no ETag": _headers_then_body(_found(ETag=None, X_Linked_Etag=None)),
    "an ETag that is a path": _headers_then_body(_found(X_Linked_Etag='"../../escaped"', ETag='"../../escaped"')),
    "an ETag of 1,000 characters": _headers_then_body(_found(X_Linked_Etag="a" * 1_000, ETag="a" * 1_000)),
    "a page of a network's login": lambda method, _: (200, {"Content-Type": "text/html"}, _PAGE),
    "a length of 10 ** 15": _headers_then_body(_found(X_Linked_Size=str(10**15))),
    "a length that is too small": _headers_then_body(_found(X_Linked_Size="10")),
    "other bytes of the length": _headers_then_body(_found(), b"x" * len(_CONTENT)),
    "a page of the length": _headers_then_body(_found(), _PAGE.ljust(len(_CONTENT))),
    "status 500": lambda *_: (500, {}, b""),
    "status 418": lambda *_: (418, {}, b""),
    "status 404 without a reason": lambda *_: (404, {}, b""),
    "a redirect to itself": lambda _, path: (302, {"Location": path}, b""),
    "a redirect to a file of this machine": lambda *_: (302, {"Location": "file:///etc/passwd"}, b""),
    "a redirect to nowhere": _moved("http://127.0.0.1:9/x"),
    "a redirect that is no address": _moved("http://[::1"),
    "a redirect without a place": lambda *_: (302, {}, b""),
}  # fmt: skip


def _listing(*names: str) -> bytes:
    return json.dumps({"id": REPOSITORY, "sha": _COMMIT, "siblings": [{"rfilename": name} for name in names]}).encode()


# The length is not needed: the hash is.
_VALID: dict[str, Callable[[str, str], Answer]] = {
    "the file": _headers_then_body(_found()),
    "a length in words": _headers_then_body(_found(X_Linked_Size="many")),
    "a negative length": _headers_then_body(_found(X_Linked_Size="-1")),
}
_LISTINGS = {
    "a page": _PAGE,
    "empty": b"",
    "a list": b"[]",
    "an object of nothing": b"{}",
    "a number": b"7",
    "without files": _listing(),
    "of files without names": json.dumps({"id": REPOSITORY, "sha": _COMMIT, "siblings": [{}]}).encode(),
    "of files that are numbers": json.dumps({"id": REPOSITORY, "sha": _COMMIT, "siblings": [7]}).encode(),
    "of no commit": json.dumps({"id": REPOSITORY, "siblings": [{"rfilename": "a.parquet"}]}).encode(),
    "of names that are numbers": _listing(7),  # type: ignore[arg-type]
}
_BAD_NAMES = ("a\0b", "a\\..\\b", "../escaped", "/etc/passwd", "a//b", "a/../../b", "./a", "", "..")


def _listed(listing: bytes, place: Place) -> Callable[[], object]:
    """The download of all tables of a repository with this listing."""

    def answer(method: str, path: str) -> Answer:
        if "/api/" in path:
            return 200, {"Content-Type": "application/json"}, listing
        return 200, _found(), _CONTENT if method == "GET" else b""

    def read() -> str:
        before = sorted(place.cache.parent.parent.rglob("*escaped*"))
        with _hub(answer, place):
            fetch_tables(REPOSITORY, "main", ())
        assert sorted(place.cache.parent.parent.rglob("*escaped*")) == before, "written outside the cache"
        return "fetched"

    return read


def cases() -> Iterator[Case]:
    """Yields the cases of answers of a hub."""
    for name, answer in _FAULTS.items():
        yield Case(
            KIND,
            name,
            partial(_fetched, answer, "best.pt", None),
            r"hub|127\.0\.0\.1|best\.pt|blobs/(aaa|\w+\.incomplete: needs)",
        )
    wrong = partial(_fetched, _headers_then_body(_found()), "best.pt", "0" * 64)
    yield Case(KIND, "another hash than the settings pin", wrong, "expected sha256 0000")
    for name in _BAD_NAMES:
        make = partial(_fetched, _headers_then_body(_found()), name, None)
        yield Case(KIND, f"a file named {name!r}", make, "is not a path within")
    for name, answer in _VALID.items():
        yield Case(KIND, name, partial(_fetched, answer, "best.pt", _HASH), "700 bytes", 0)
    for name in ("../../escaped.parquet", "/tmp/escaped.parquet", "a\\..\\escaped.parquet", "a\0.parquet"):
        yield Case(KIND, f"a listing with {name!r}", partial(_listed, _listing(name)), "parquet")
    for name, listing in _LISTINGS.items():
        yield Case(KIND, f"a listing that is {name}", partial(_listed, listing), REPOSITORY)
