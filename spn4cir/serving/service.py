"""Searches of many clients over one gallery."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlencode

from PIL import Image

from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image, to_rgb
from spn4cir.search.hits import Hit
from spn4cir.search.query import Query
from spn4cir.search.retriever import Retriever
from spn4cir.serving.batching import Batcher
from spn4cir.serving.refusal import Refusal
from spn4cir.serving.uploads import decode_upload

R = TypeVar("R")

MAX_HITS = 1_000
MAX_TEXT = 2_000
_LARGEST_BATCH = 32
_WINDOW = 0.003
_IN_FLIGHT = 256
# A picture of 50 megapixels takes up to 200 MB while it is decoded.
_DECODERS = 2
# The network sees a narrow picture padded: this many pixels are those of 50 megapixels, two to one.
_MOST_PADDED = 80_000_000
_THUMBNAIL = 256
_THUMBNAILS_KEPT = 2_048


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        hits: best first.
        warning: a sentence about a text that was cut; None where it was read whole.
    """

    hits: tuple[Hit, ...]
    warning: str | None


class _Question(NamedTuple):
    query: Query
    k: int


class SearchService:
    """A gallery that many clients search at once; an asynchronous context manager, inside of which it works.

    Pictures are decoded by two threads, whole batches of queries answered by a third: the event loop only waits.
    """

    def __init__(self, retriever: Retriever, folder: Path) -> None:
        """Takes the gallery.

        Args:
            retriever: the network with the index of the pictures. Nobody else searches or changes it meanwhile.
            folder: where they lie; a picture that leads out of it, as a link may by now, is not read.
        """
        self.retriever = retriever
        self._folder = folder.resolve()
        self._batcher = Batcher(self._answer, _LARGEST_BATCH, _WINDOW)
        self._decoders = ThreadPoolExecutor(_DECODERS, "decode")
        self._in_flight = 0
        self.thumbnail = lru_cache(maxsize=_THUMBNAILS_KEPT)(self._draw_thumbnail)

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._batcher.__aexit__(*error)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def search(self, picture: str | bytes, text: str, k: int) -> Found:
        """The best candidates for a picture and a change; the picture itself is not among them.

        Args:
            picture: the name of one of the gallery, or the bytes of a file.
            text: what is to be different.
            k: how many, 1 to `MAX_HITS`.

        Raises:
            Refusal: with the status and a sentence: the picture, the text or `k` will not do, or too many search.
        """
        if not 1 <= k <= MAX_HITS:
            raise Refusal(422, f"k is {k}; ask for 1 to {MAX_HITS:,} pictures")
        _check_text(text)
        with self._counted():
            query, warning = await self._decode(self._prepare, picture, text)
            return Found(await self._batcher.ask(_Question(query, k)), warning)

    async def picture(self, name: str) -> bytes:
        """A small WebP of a picture of the gallery. Raises Refusal for a name that is not there."""
        with self._counted():
            return await self._decode(self.thumbnail, name)

    async def preview(self, data: bytes) -> bytes:
        """A small WebP of an upload. Raises Refusal for one that will not do."""
        with self._counted():
            return await self._decode(lambda: _small(decode_upload(data)))

    def names(self, part: str = "") -> list[str]:
        """Names of the gallery that contain `part`, letters' case aside, in order."""
        part = part.casefold()
        return [name for name in self.retriever.names if part in name.casefold()]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._in_flight >= _IN_FLIGHT:
            raise Refusal(503, f"{_IN_FLIGHT} requests are under way already; try again in a second")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _decode(self, work: Callable[..., R], *arguments: str | bytes) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)

    def _prepare(self, picture: str | bytes, text: str) -> tuple[Query, str | None]:
        image = self._uploaded(picture) if isinstance(picture, bytes) else self._path(picture)
        try:
            return self.retriever.prepare(image, text), self.retriever.text_warning(text)
        except InputError as error:
            raise Refusal(422, _without_folder(str(error), self._folder)) from None

    def _uploaded(self, data: bytes) -> Image.Image:
        image = decode_upload(data)
        if self.retriever.padded_pixels(image) > _MOST_PADDED:
            raise Refusal(422, f"the image is too narrow ({image.width:,} x {image.height:,} pixels); crop it")
        return image

    def _draw_thumbnail(self, name: str) -> bytes:
        try:
            return _small(open_image(self._path(name)))
        except Refusal:
            raise
        except InputError:
            raise Refusal(404, f"the picture {name!r} can no longer be read; start the server again") from None

    def _path(self, name: str) -> Path:
        """Where a picture lies: names are looked up, never joined to a folder."""
        if name not in self.retriever:
            raise Refusal(404, f"no picture of the gallery is called {name!r}; GET /api/pictures lists the names")
        path = self.retriever.path(name)
        if not leads_into(path, self._folder):
            raise Refusal(404, f"the picture {name!r} is no longer in the gallery; start the server again")
        return path

    def _answer(self, questions: list[_Question]) -> list[tuple[Hit, ...]]:
        """Asked with the largest k: the hits of a smaller one are the beginning of those."""
        largest = max(question.k for question in questions)
        found = self.retriever.search_many([question.query for question in questions], k=largest)
        return [tuple(hits[: question.k]) for hits, question in zip(found, questions, strict=True)]


def address(name: str) -> str:
    """Where the server has the small picture of a name of the gallery."""
    return f"/api/thumbnail?{urlencode({'name': name})}"


def leads_into(path: Path, folder: Path) -> bool:
    """Whether a path ends up below a folder (a resolved one) when links are followed."""
    return path.resolve().is_relative_to(folder)


def _check_text(text: str) -> None:
    if not text.strip():
        raise Refusal(422, "the text is empty; say what is to be different, as in 'is red with long sleeves'")
    if len(text) > MAX_TEXT:
        raise Refusal(422, f"the text has {len(text):,} characters, more than {MAX_TEXT:,}; shorten it")


def _without_folder(message: str, folder: Path) -> str:
    """A client need not learn where the gallery lies."""
    return message.replace(f"{folder}/", "")


def _small(image: Image.Image) -> bytes:
    image = image.convert("RGBA") if image.has_transparency_data else to_rgb(image)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = BytesIO()
    image.save(stream, "WEBP", quality=80)
    return stream.getvalue()
