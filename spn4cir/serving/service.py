"""Searches of many clients in one gallery."""

import asyncio
import re
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
from spn4cir.readable import real_path
from spn4cir.search.hits import Hit
from spn4cir.search.image_files import padded_pixels
from spn4cir.search.index_weights import FileWeights
from spn4cir.search.query import Query
from spn4cir.search.searchable import Searchable
from spn4cir.serving.batching import Batcher
from spn4cir.serving.refusal import Refusal
from spn4cir.serving.uploads import decode_upload

R = TypeVar("R")

MAX_HITS = 1_000
MAX_TEXT = 2_000
# What a text must contain: a character that is not blank, whatever the program that reads this counts as `\s`.
TEXT_PATTERN = r"[^\s\x1c-\x1f\x85\ufeff]"
_LARGEST_BATCH = 32
_WINDOW = 0.003
_IN_FLIGHT = 256
# An image of 50 megapixels takes up to 200 MB while it is decoded.
_DECODERS = 2
# A narrow image is padded for the network; an image of 50 megapixels and sides 2:1 has this many pixels then.
_MAX_PADDED = 80_000_000
_THUMBNAIL = 256
_LARGE = 1_024
_THUMBNAILS_KEPT = 2_048


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        hits: the hits, best first.
        warning: a warning about a text that was cut; None if it was read whole.
    """

    hits: tuple[Hit, ...]
    warning: str | None


class _Question(NamedTuple):
    query: Query
    k: int


class SearchService:
    """A gallery that many clients search at once. Use it as an asynchronous context manager.

    Two threads decode images of the gallery, two others uploads, which can be much larger, and one answers batches of
    queries, so that the event loop is never blocked.
    """

    def __init__(self, retriever: Searchable, folder: Path) -> None:
        """Creates a service.

        Args:
            retriever: the network, and the index or the database of the images; no other code may search or change it
                meanwhile.
            folder: the folder of the images. An image that is a link out of the folder is not read.
        """
        self.retriever = retriever
        self._folder = real_path(folder)
        self._batcher = Batcher(self._answer, _LARGEST_BATCH, _WINDOW)
        self._decoders = ThreadPoolExecutor(_DECODERS, "decode")
        self._upload_decoders = ThreadPoolExecutor(_DECODERS, "decode-upload")
        self._in_flight = 0
        self._cached_thumbnail = lru_cache(maxsize=_THUMBNAILS_KEPT)(self._draw_thumbnail)

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._batcher.__aexit__(*error)
        for pool in (self._decoders, self._upload_decoders):
            pool.shutdown(wait=False, cancel_futures=True)

    async def search(self, image: str | bytes, text: str | None, k: int) -> Found:
        """Finds the best images for a query image and a change, without the query image itself.

        Args:
            image: the name of an image of the gallery, or the bytes of a file.
            text: the change to search for; None: the image alone.
            k: number of hits, 1 to `MAX_HITS`.

        Raises:
            Refusal: the image, the text or `k` is invalid, or there are too many requests.
        """
        if not 1 <= k <= MAX_HITS:
            raise Refusal(422, f"k is {k}; ask for 1 to {MAX_HITS:,} images")
        if text is not None:
            _check_text(text)
        with self._counted():
            pool = self._upload_decoders if isinstance(image, bytes) else self._decoders
            query, warning = await self._in(pool, self._prepare, image, text)
            return Found(await self._batcher.ask(_Question(query, k)), warning)

    async def thumbnail(self, name: str, large: bool = False) -> bytes:
        """A WebP of an image of the gallery. Raises Refusal for an unknown name.

        Args:
            name: its name in the gallery.
            large: at most 1,024 pixels a side instead of 256. The server does not keep it.
        """
        with self._counted():
            if large:
                return await self._in(self._decoders, lambda: self._draw_thumbnail(name, _LARGE))
            return await self._in(self._decoders, self._cached_thumbnail, name)

    async def preview(self, data: bytes) -> bytes:
        """A WebP of at most 256 pixels a side of an upload. Raises Refusal as `decode_upload` does."""
        with self._counted():
            return await self._in(self._upload_decoders, lambda: _small(decode_upload(data), _THUMBNAIL))

    @property
    def weights(self) -> str:
        """The name of a pretrained network, or the file of the weights without folders that clients must not see."""
        weights = self.retriever.weights
        if isinstance(weights, FileWeights):
            return str(_shown_path(weights.path))
        return weights.name.public

    def names(self, part: str = "") -> list[str]:
        """The names in the gallery that contain `part`, ignoring case, sorted."""
        part = part.casefold()
        return [name for name in self.retriever.names if part in name.casefold()]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._in_flight >= _IN_FLIGHT:
            raise Refusal(503, f"{_IN_FLIGHT} requests are being answered already; try again in a second")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[..., R], *arguments: str | bytes | None) -> R:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def _prepare(self, image: str | bytes, text: str | None) -> tuple[Query, str | None]:
        source = self._uploaded(image) if isinstance(image, bytes) else self._path(image)
        try:
            return self.retriever.prepare(source, text), self.retriever.text_warning(text)
        except InputError as error:
            raise Refusal(422, _without_folder(str(error), self._folder)) from None

    def _uploaded(self, data: bytes) -> Image.Image:
        image = decode_upload(data)
        if padded_pixels(image, self.retriever.composer.preprocess) > _MAX_PADDED:
            raise Refusal(422, f"the image is too narrow ({image.width:,} x {image.height:,} pixels); crop it")
        return image

    def _draw_thumbnail(self, name: str, side: int = _THUMBNAIL) -> bytes:
        try:
            return _small(open_image(self._path(name)), side)
        except Refusal:
            raise
        except InputError:
            raise Refusal(404, f"the image {name!r} can no longer be read; restart the server") from None

    def _path(self, name: str) -> Path:
        """The path of an image. Names are looked up in the index, never joined to a folder."""
        if name not in self.retriever:
            raise Refusal(404, f"no image of the gallery is called {name!r}; GET /api/images lists the names")
        path = self.retriever.path(name)
        if not leads_into(path, self._folder):
            raise Refusal(404, f"the image {name!r} is no longer in the gallery; restart the server")
        return path

    def _answer(self, questions: list[_Question]) -> list[tuple[Hit, ...]]:
        """Searches for the questions of each k together: with a larger k, an approximate index can find other hits."""
        found: dict[int, tuple[Hit, ...]] = {}
        for k in {question.k for question in questions}:
            rows = [row for row, question in enumerate(questions) if question.k == k]
            hits = self.retriever.search_many([questions[row].query for row in rows], k=k)
            found |= zip(rows, map(tuple, hits), strict=True)
        return [found[row] for row in range(len(questions))]


def address(name: str, large: bool = False) -> str:
    """The address of the thumbnail of an image of the gallery."""
    return f"/api/thumbnail?{urlencode({'name': name} | ({'large': 'true'} if large else {}))}"


def leads_into(path: Path, folder: Path) -> bool:
    """Whether a path, with links followed, is below a folder (a resolved path)."""
    return real_path(path).is_relative_to(folder)


def _check_text(text: str) -> None:
    if not re.search(TEXT_PATTERN, text):
        raise Refusal(422, "the text is empty; describe the change, as in 'is red with long sleeves'")
    if len(text) > MAX_TEXT:
        raise Refusal(422, f"the text has {len(text):,} characters, more than {MAX_TEXT:,}; shorten it")
    if not is_unicode(text):
        raise Refusal(422, "the text is not valid Unicode; send it as UTF-8")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded; a text with a lone surrogate cannot, such as a file name that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_folder(message: str, folder: Path) -> str:
    """The message without the path of the gallery, which clients must not see."""
    return message.replace(f"{folder}/", "")


def _shown_path(path: Path) -> Path:
    """A path that clients may see: from the working directory, else the file and its folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(*path.parts[-2:])


def _small(image: Image.Image, side: int) -> bytes:
    image = image.convert("RGBA") if image.has_transparency_data else to_rgb(image)
    image.thumbnail((side, side))
    stream = BytesIO()
    image.save(stream, "WEBP", quality=80)
    return stream.getvalue()
