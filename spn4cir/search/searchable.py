"""The protocol of a gallery with a network that searches it: an index, or a collection of a database."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spn4cir.composers.protocol import Composer
from spn4cir.search.hits import Hit
from spn4cir.search.index_weights import Weights
from spn4cir.search.query import Query, QueryImage


class Searchable(Protocol):
    """A network and a gallery; `Retriever` and `DatabaseRetriever` are two.

    `search_many` is called by one thread at a time, the other methods by any.
    """

    composer: Composer
    weights: Weights

    @property
    def family(self) -> str:
        """The family of the network."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the gallery's images, sorted."""

    def __len__(self) -> int: ...

    def __contains__(self, name: object) -> bool: ...

    def path(self, name: str) -> Path:
        """The path of an image of the gallery. Raises InputError for a name that is not in it."""

    def prepare(self, image: QueryImage | None, text: str | None) -> Query:
        """Decodes and checks a query. Raises InputError if it is invalid."""

    def text_warning(self, text: str | None) -> str | None:
        """A warning about a text that is longer than the network reads; None for other texts."""

    def search_many(self, queries: Sequence[Query], k: int = 10) -> list[list[Hit]]:
        """Finds the `k` best images of each query, without the query image."""
