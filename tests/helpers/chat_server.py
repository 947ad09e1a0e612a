"""A stand-in for a server of chat completions on the loopback: its routes, answers, status codes and faults."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MODEL = "writer-7b"
Body = dict[str, Any]


class Fault(NamedTuple):
    """One answer that is not a completion.

    Attributes:
        status: status code.
        body: the bytes of the body.
        headers: further headers.
        cut: whether the connection ends in the middle of the body.
        seconds: delay of the answer.
        drip: seconds before each byte of the body.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    seconds: float = 0.0
    drip: float = 0.0


def refusal(status: int, message: str, **options: Any) -> Fault:
    return Fault(status, json.dumps({"error": {"message": message, "code": status}}).encode(), **options)


@dataclass
class ChatServer:
    """The content of the stand-in and what it received.

    Attributes:
        reply: returns the text of an answer, or a fault, for the body of a request.
        faults: answers that are sent first, one for each request.
        finish: reason of the end of all answers.
        logprobs: log probabilities of candidates of the first token, which are sent if a request asks for them.
        requests: bodies of the requests for completions.
        keys: the API key of each.
        most: largest number of requests that were open at one time.
    """

    reply: Callable[[Body], str | Fault] = lambda body: f"text for {prompt_of(body)}"
    faults: list[Fault] = field(default_factory=list)
    finish: str = "stop"
    logprobs: dict[str, float] = field(default_factory=dict)
    requests: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most: int = 0
    port: int = 0
    open_now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def prompt_of(body: Body) -> str:
    """Returns the text of a request."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def images_of(body: Body) -> list[str]:
    """Returns the data URLs of a request's images."""
    content = body["messages"][0]["content"]
    return [] if isinstance(content, str) else [p["image_url"]["url"] for p in content if p["type"] == "image_url"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: the second of two would wait 40 ms for the acknowledgement of the first.
    wbufsize = -1
    chat: ChatServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "test"}]}
        found = self.path == "/v1/models"
        self.send(Fault(200, json.dumps(listed).encode()) if found else refusal(404, "Not Found"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.chat.lock:
            self.chat.requests.append(body)
            self.chat.keys.append(self.headers.get("Authorization"))
            self.chat.open_now += 1
            self.chat.most = max(self.chat.most, self.chat.open_now)
            fault = self.chat.faults.pop(0) if self.chat.faults else None
        try:
            self.send(fault or self.answer(body))
        finally:
            with self.chat.lock:
                self.chat.open_now -= 1

    def answer(self, body: Body) -> Fault:
        if self.path != "/v1/chat/completions":
            return refusal(404, "Not Found")
        if body["model"] != MODEL:
            return refusal(404, f"The model `{body['model']}` does not exist.")
        text = self.chat.reply(body)
        if isinstance(text, Fault):
            return text
        candidates = [{"token": token, "logprob": value, "bytes": None} for token, value in self.chat.logprobs.items()]
        tokens = [{**candidates[0], "top_logprobs": candidates}] if candidates and body.get("logprobs") else None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self.chat.finish,
            "logprobs": {"content": tokens} if tokens else None,
        }
        completion = {"id": "1", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}
        return Fault(200, json.dumps(completion).encode())

    def send(self, fault: Fault) -> None:
        time.sleep(fault.seconds)
        self.send_response(fault.status)
        for name, value in (("Content-Type", "application/json"), *fault.headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        body = fault.body[: len(fault.body) // 2] if fault.cut else fault.body
        for part in [body[place : place + 1] for place in range(len(body))] if fault.drip else [body]:
            time.sleep(fault.drip)
            self.wfile.write(part)
            self.wfile.flush()
        self.close_connection = self.close_connection or fault.cut


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that are gone: requests are cancelled by an interrupt or a timeout."""


@contextmanager
def serve_chat() -> Iterator[ChatServer]:
    """Runs a server until the block ends."""
    chat = ChatServer()
    server = _Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"chat": chat}))
    chat.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
