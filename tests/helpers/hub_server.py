"""A stand-in for the Hugging Face hub on the loopback: its URLs, redirects, headers and error codes.

The `resolve` address of a large file answers with its hash and a redirect to another host, as that of the hub does to
its CDN (`localhost`; the hub is `127.0.0.1`). That of a small file answers with a redirect within the hub.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest

REPOSITORY = "author/published"
Ending = Literal["closed", "reset", "stalled"]


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    authorised: bool


class Cut(NamedTuple):
    """An answer that ends after a number of bytes of its body; `stalled` keeps the connection open."""

    after: int
    ending: Ending = "closed"


@dataclass
class Commit:
    """A commit: contents by path. The paths of `small` are stored in git, the others as large files."""

    files: dict[str, bytes]
    small: frozenset[str]


@dataclass
class Hub:
    """The content of the stand-in, its failures, and the requests that it received.

    Attributes:
        cuts: failures of answers with a file's bytes; each such answer consumes one.
        replaced: bytes by path that are sent instead of the file's.
        refusal: status and X-Error-Code of every answer for the repository.
        said: X-Error-Message of a refusal; empty: the code.
        ranges: whether Range headers are honoured.
        chunk_store: whether large files are also offered by the hub's own protocol (Xet), which nothing answers here.
        headers: whether answers have the headers by which a hub is recognised.
    """

    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    replaced: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    said: str = ""
    ranges: bool = True
    chunk_store: bool = False
    headers: bool = True
    requests: list[Request] = field(default_factory=list)
    bytes_sent: int = 0
    port: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, files: Mapping[str, bytes], small: frozenset[str] = frozenset()) -> str:
        """Adds a commit of these files alone, and moves `main` to it."""
        commit = hashlib.sha1(f"commit {len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = Commit(dict(files), small)
        self.branches["main"] = commit
        return commit

    def downloads(self) -> list[Request]:
        """Returns the requests for the bytes of a file."""
        return [r for r in self.requests if r.method == "GET" and re.match(r"/(cdn|api/resolve-cache)/", r.path)]


def git_hash(content: bytes) -> str:
    """Returns git's hash of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Routes of the hub and of its CDN."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range")
        self.hub.requests.append(Request(self.command, path, asked, "Authorization" in self.headers))
        if found := re.fullmatch(r"/cdn/(\w+)/(.+)", path):
            self.send_file(self.hub.commits[found[1]].files[found[2]], found[2], {})
        elif found := re.fullmatch(rf"/api/resolve-cache/(?:models|datasets)/{REPOSITORY}/(\w+)/(.+)", path):
            content = self.hub.commits[found[1]].files[found[2]]
            self.send_file(content, found[2], {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": found[1]})
        elif self.hub.refusal:
            self.refuse(*self.hub.refusal)
        elif found := re.fullmatch(rf"(?:/datasets)?/{REPOSITORY}/resolve/([^/]+)/(.+)", path):
            self.resolve(found[1], found[2])
        elif found := re.fullmatch(rf"/api/(?:models|datasets)/{REPOSITORY}/(revision|tree)/([^/]+)", path):
            self.describe(found[1], found[2])
        else:
            self.refuse(401, "RepoNotFound")

    def commit(self, revision: str) -> str | None:
        name = self.hub.branches.get(revision, revision)
        return name if name in self.hub.commits else None

    def resolve(self, revision: str, file: str) -> None:
        commit = self.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        if file not in self.hub.commits[commit].files:
            return self.refuse(404, "EntryNotFound", commit)
        content = self.hub.commits[commit].files[file]
        if not self.hub.headers:
            return self.answer(200, {"Content-Length": "0"})
        if file in self.hub.commits[commit].small:
            return self.answer(
                307, {"Location": f"/api/resolve-cache/models/{REPOSITORY}/{commit}/{file}", "Content-Length": "0"}
            )
        offer = {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": f"{self.hub.endpoint}/api/xet"}
        return self.answer(
            302,
            (offer if self.hub.chunk_store else {})
            | {
                "Location": f"http://localhost:{self.hub.port}/cdn/{commit}/{file}",
                "Content-Length": "0",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
                "Accept-Ranges": "bytes",
            },
        )

    def describe(self, what: str, revision: str) -> None:
        commit = self.commit(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return
        files = self.hub.commits[commit].files
        if what == "tree":
            answer: object = [
                {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
                for name, content in files.items()
            ]
        else:
            answer = {"id": REPOSITORY, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        body = json.dumps(answer).encode()
        self.answer(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def refuse(self, status: int, code: str, commit: str | None = None) -> None:
        body = json.dumps({"error": code}).encode()
        headers = {"X-Error-Code": code, "X-Error-Message": self.hub.said or code, "Content-Length": str(len(body))}
        self.answer(status, headers | ({"X-Repo-Commit": commit} if commit else {}), body)

    def send_file(self, content: bytes, name: str, headers: dict[str, str]) -> None:
        content = self.hub.replaced.get(name, content)
        begin = 0
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found and self.hub.ranges:
            begin = int(found[1])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        headers |= {"Accept-Ranges": "bytes", "Content-Length": str(len(content) - begin)}
        body = content[begin:]
        cut = self.hub.cuts.pop(0) if self.hub.cuts and self.command == "GET" else None
        sent = body[: cut.after] if cut else body
        if self.command == "GET":
            self.hub.bytes_sent += len(sent)
        self.answer(206 if begin else 200, headers, sent)
        if cut:
            self.end(cut.ending)

    def end(self, ending: Ending) -> None:
        self.close_connection = True
        if ending == "stalled":
            self.hub.stop.wait()
        if ending == "reset":  # no lingering: the peer reads an error instead of an end
            time.sleep(0.1)  # until the peer has read all: unread bytes are lost with the connection
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path | None = None) -> None:
    """Configures the library as if the environment had named the stand-in (and the cache) at its import."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    if cache is not None:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@contextmanager
def serve() -> Iterator[Hub]:
    """Runs a hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
