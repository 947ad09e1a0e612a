"""Honest clients of a server under abuse: their answers are those that they get from a quiet server."""

import asyncio
import json
import re
from base64 import b64decode
from io import BytesIO
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

from PIL import Image

from tests.faults.server_payloads import saved
from tests.faults.server_wire import SECONDS, Place, ask, complaint, head, multipart, post, statuses

IMAGES = 30
TURNED = "turned.png"
_TRIES = 40
_LOADS_AGAIN = 2
_SHOWN = re.compile(r"data:image/webp;base64,([A-Za-z0-9+/=]+)")


class Question(NamedTuple):
    """A request with its name."""

    name: str
    request: bytes


def questions(place: Place) -> list[Question]:
    """Requests to every endpoint, each of which has one answer."""
    found = [Question("health", head(place, "/api/health"))]
    for number in range(0, IMAGES, 3):
        name = f"{number:02}.png"
        fields = [("text", None, f"change {number}".encode()), ("k", None, b"5")]
        found += [
            Question(
                f"search by {name}", post(place, "/api/search", *multipart(*fields, ("reference", None, name.encode())))
            ),
            Question(
                f"search by an upload of {name}",
                post(place, "/api/search", *multipart(*fields, ("image", name, _bytes(place, name)))),
            ),
            Question(f"thumbnail of {name}", head(place, f"/api/thumbnail?{urlencode({'name': name})}")),
            Question(f"names with {number}", head(place, f"/api/images?contains={number}")),
        ]
    return found


def _bytes(place: Place, name: str) -> bytes:
    return (place.folder / "gallery" / name).read_bytes()


def body(answer: bytes) -> bytes | list[str]:
    """What an answer says: the names of the hits, whose scores differ in the last digits by the batch, or its bytes."""
    content = answer.partition(b"\r\n\r\n")[2]
    if content.startswith(b'{"hits"'):
        return [f"{hit['name']} {hit['score']:.3f}" for hit in json.loads(content)["hits"]]
    return content


async def patient(place: Place, request: bytes) -> bytes:
    """Asks again after a 503 that says why."""
    for _ in range(_TRIES):
        answer = await ask(place, request)
        if statuses(answer) != [503] or complaint(place, answer, frozenset()):
            return answer
        await asyncio.sleep(1)
    return answer


class Session:
    """A page that a visitor opens, as its script does it: over the page's socket, with an upload of one colour.

    Attributes:
        loaded_again: how often the page was loaded again.
    """

    def __init__(self, place: Place, number: int) -> None:
        self.loaded_again = 0
        self._place = place
        # Colours of two sessions differ by 32 in a channel, more than WebP changes them.
        self._colour = tuple(number // 8**channel % 8 * 32 + 16 for channel in range(3))

    async def run(self) -> str | None:
        """Returns what was wrong; None if the visitor saw the own image, and no other.

        As in a browser, the page is loaded again when the server closes its socket: pages to which no browser connects
        in time are dropped, which a slow network makes of an honest visitor.
        """
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                return await self._visit()
            except ConnectionClosed:
                if self.loaded_again == _LOADS_AGAIN:
                    raise
                self.loaded_again += 1

    async def _visit(self) -> str | None:
        from websockets.asyncio.client import connect

        page = (await patient(self._place, head(self._place))).decode(errors="replace")
        found = re.search(r"/_nicegui/client/([0-9a-f-]{36})/upload/\d+", page)
        if found is None:
            return f"the page has no upload: {page[:80]!r}"
        query = {
            "EIO": 4,
            "transport": "websocket",
            "client_id": found[1],
            "implicit_handshake": "true",
            "next_message_id": 0,
            "tab_id": uuid4(),
            "document_id": uuid4(),
        }
        address = f"ws://{self._place.name}/_nicegui_ws/socket.io/?{urlencode(query)}"
        async with asyncio.timeout(180), connect(address, max_size=None, open_timeout=SECONDS) as socket:
            await socket.recv()
            await socket.send("40")
            image = saved(Image.new("RGB", (16, 16), self._colour), "PNG")
            request = post(self._place, found[0], *multipart(("file", "mine.png", image)))
            # A browser also answers the pings of the socket while it uploads; the server closes other sockets.
            watching = asyncio.create_task(self._watch(socket))
            try:
                uploaded = await patient(self._place, request)
                if statuses(uploaded) != [200]:
                    return f"the upload was answered with {statuses(uploaded)}"
                return await watching
            finally:
                watching.cancel()

    async def _watch(self, socket: object) -> str | None:
        """Reads the messages until the own image is shown, and a moment longer."""
        seen = False
        while True:
            try:
                async with asyncio.timeout(0.5 if seen else 90):
                    message = str(await socket.recv())  # type: ignore[attr-defined]
            except TimeoutError:
                return None if seen else "the upload is not shown"
            if message == "2":
                await socket.send("3")  # type: ignore[attr-defined]
            for shown in _SHOWN.findall(message):
                if not self._is_own(shown):
                    return "shows the image of another session"
                seen = True

    def _is_own(self, shown: str) -> bool:
        found = Image.open(BytesIO(b64decode(shown))).convert("RGB").getpixel((8, 8))
        return all(abs(a - b) < 12 for a, b in zip(found, self._colour, strict=True))  # type: ignore[arg-type]
