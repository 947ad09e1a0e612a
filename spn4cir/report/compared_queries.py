"""Queries with the answers of two sides, such as two runs or two stages: as many as fit into a page, with images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spn4cir.comparison.query_pairs import Answer, QueryPair
from spn4cir.errors import InputError
from spn4cir.report.image_lookup import Lookup
from spn4cir.report.thumbnails import Thumbnails

# No query has more markup than this; its images are counted apart.
_MARKUP = 30_000


@dataclass(frozen=True, slots=True)
class PageImage:
    """An image in the page.

    Attributes:
        style: CSS class of the image; empty for an image that cannot be shown, instead of which the page shows `alt`.
        alt: alternative text.
        note: caption under the image; empty for none.
        framed: whether the image gets a frame, which marks the target.
    """

    style: str
    alt: str
    note: str = ""
    framed: bool = False


class Side(NamedTuple):
    """How a page names one side of a comparison.

    Attributes:
        label: the name within a sentence.
        phrase: what follows a rank, as in `after stage 1`.
        heading: heading of the best candidates.
    """

    label: str
    phrase: str
    heading: str


@dataclass(frozen=True)
class ComparedQuery:
    """A query with the images that the page shows.

    Attributes:
        title: data set and family; empty if the page has only one.
        pair: the query and the answers of both runs.
        asked: reference and target.
        a: the best candidates of the first run.
        b: the best candidates of the second run.
    """

    title: str
    pair: QueryPair
    asked: tuple[PageImage, ...]
    a: tuple[PageImage, ...]
    b: tuple[PageImage, ...]

    @property
    def category(self) -> str:
        """Data set, family and split."""
        return f"{self.title} {self.pair.split}".strip()


class QueryImages:
    """Finds the images of queries and makes their thumbnails.

    Attributes:
        absent: split and name of the images that were not found or cannot be decoded.
    """

    def __init__(self, lookup: Lookup, thumbnails: Thumbnails) -> None:
        self.absent: set[tuple[str, str]] = set()
        self._lookup = lookup
        self._thumbnails = thumbnails

    @property
    def note(self) -> str:
        """How many images are absent, in a sentence; empty if none is."""
        if not self.absent:
            return ""
        name = min(self.absent)[1]
        return f"{len(self.absent)} images were not found or cannot be decoded; their names are shown. One is {name}."

    def cost(self, pair: QueryPair) -> int:
        """The bytes that the images of a query would add to the page."""
        names = dict.fromkeys((pair.reference, pair.target, *pair.a.top, *pair.b.top))
        return self._thumbnails.cost(filter(None, (self._path(pair.split, name) for name in names)))

    def compared(self, title: str, pair: QueryPair) -> ComparedQuery:
        """A query with its images. Their thumbnails become part of the page."""
        asked = (
            self._image(pair.split, pair.reference, "reference", "reference"),
            self._image(pair.split, pair.target, "target", "target", framed=True),
        )
        return ComparedQuery(title, pair, asked, *(tuple(self._answer(pair.split, each)) for each in (pair.a, pair.b)))

    def _answer(self, split: str, answer: Answer) -> Iterator[PageImage]:
        for position, name in enumerate(answer.top):
            framed = position in answer.targets
            what = f"result {position + 1}{', the target' if framed else ''}"
            yield self._image(split, name, what, f"{position + 1}{' target' if framed else ''}", framed)

    def _image(self, split: str, name: str, what: str, note: str, framed: bool = False) -> PageImage:
        path = self._path(split, name)
        return PageImage(self._thumbnails.add(path) if path else "", f"{what}: {name}", note, framed)

    def _path(self, split: str, name: str) -> Path | None:
        """The path of an image that can be decoded; None for all others."""
        path = None if (split, name) in self.absent else self._lookup(split, name)
        try:
            if path is not None:
                self._thumbnails.cost([path])
                return path
        except InputError:
            pass
        self.absent.add((split, name))
        return None


def fitting(
    queries: Iterable[tuple[str, QueryPair, QueryImages]], render: Callable[[ComparedQuery], str], room: int
) -> Iterator[str]:
    """The queries as HTML, in their order, until the next one would not fit into `room` bytes with its images.

    Args:
        queries: the title of each query's data set and family, the query, and what finds its images.
        render: makes the HTML of a query.
        room: the bytes of the page that are left for queries and images.
    """
    for title, pair, images in queries:
        cost = images.cost(pair)
        if cost + _MARKUP > room:
            return
        article = render(images.compared(title, pair))
        room -= cost + len(article.encode()) + 1
        yield article
