"""Search in a collection of a Qdrant database, which contains the vectors of a gallery."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError, masked_url
from spn4cir.extras import install_command
from spn4cir.hub.variables import check_proxies
from spn4cir.search.encode import encode_black
from spn4cir.search.hits import Hit, compose_queries
from spn4cir.search.index_weights import Weights, image_side_hash
from spn4cir.search.query import Query, QueryImage, prepare_query, text_warning

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

API_KEY = "QDRANT_API_KEY"
EXAMPLE = "qdrant://127.0.0.1:6333/catalogue"
_PORT = 6_333
_SCHEMES = {"qdrant": False, "qdrant+https": True}
# Names that are read at once.
_PAGE = 10_000
_SECONDS = 30
# Part of what the client says of a folder that another process has opened.
_IN_USE = "already accessed"


@dataclass(frozen=True)
class DatabaseAddress:
    """The address of a collection.

    Attributes:
        text: the address as given, for messages.
        url: URL of the server; None for a folder.
        folder: folder of the client's local mode; None for a server.
        collection: name of the collection.
    """

    text: str
    url: str | None
    folder: Path | None
    collection: str

    @classmethod
    def parse(cls, text: str) -> "DatabaseAddress":
        """Splits `qdrant://HOST[:PORT]/COLLECTION` (`qdrant+https://` for TLS) or `qdrant:FOLDER/COLLECTION`.

        Raises InputError for another form.
        """
        wrong = InputError(
            f"--database {masked_url(text)}: is no address of a collection; write it as {EXAMPLE}, as "
            "qdrant+https://HOST/COLLECTION, or for a folder of the client's local mode as qdrant:FOLDER/COLLECTION"
        )
        scheme, _, rest = text.partition(":")
        if scheme not in _SCHEMES:
            raise wrong
        if not rest.startswith("//"):
            folder, _, collection = rest.rpartition("/")
            if not folder or not collection:
                raise wrong
            return cls(text, None, Path(folder), collection)
        try:
            parts = urlsplit(rest)
            host, port = parts.hostname, parts.port or _PORT
        except ValueError:
            raise wrong from None
        collection = parts.path.strip("/")
        if not host or not collection or "/" in collection or parts.username or parts.query:
            raise wrong
        shown = f"[{host}]" if ":" in host else host
        return cls(text, f"http{'s' if _SCHEMES[scheme] else ''}://{shown}:{port}", None, collection)


class DatabaseRetriever:
    """A network and a collection of a database that it searches. The images are files in a folder.

    The points of the collection have the payload `name`, the path of an image from the folder, and optionally
    `digest`, the hash of its pixels: `export --to vectors` writes both. The names are read once.

    Args:
        composer: the network, on the device.
        weights: its weights.
        device: the device of the network.
        address: the collection.
        folder: the folder of the images.

    Raises:
        InputError: the client is not installed, the database cannot be reached, or the collection is missing, is empty,
            or contains vectors of another form or of another network, or a name that leads out of the folder.
    """

    def __init__(
        self, composer: Composer, weights: Weights, device: torch.device, address: DatabaseAddress, folder: Path
    ) -> None:
        self.composer = composer
        self.weights = weights
        self.device = device
        self._address = address
        self._folder = folder.absolute()
        self._client = _connect(address)
        with _database_errors(address):
            config = self._client.get_collection(address.collection).config
        self._tokens = self._check_collection(config)
        with _database_errors(address):
            self.names = self._read_names()
        if not self.names:
            raise InputError(f"{address.text}: the collection contains no point with a 'name'; fill it first")
        for name in self.names:
            self._joined(name)

    @property
    def family(self) -> str:
        """The family of the network."""
        return self.composer.family

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name

    def path(self, name: str) -> Path:
        """The path of an image. Raises InputError for a name that is not in the collection."""
        if name not in self:
            raise InputError(f"'{name}' is not in the collection; choose one of `names`")
        return self._joined(name)

    def _joined(self, name: str) -> Path:
        """The path of an image. Raises InputError for a name that leads out of the folder."""
        if (path := Path(name)).is_absolute() or ".." in path.parts:
            raise InputError(
                f"{self._address.text}: contains the name '{name}', which leads out of {self._folder}; names are paths "
                "from the folder of the images: correct or remove the point"
            )
        return self._folder / path

    def prepare(self, image: QueryImage | None, text: str | None) -> Query:
        """Decodes and checks a query for `search_many`. Raises InputError as `Retriever.search` does."""
        return prepare_query(self.composer, self, image, text)

    def text_warning(self, text: str | None) -> str | None:
        """A warning about a text that is longer than the network reads; None for other texts."""
        return text_warning(self.composer, text)

    def search_many(self, queries: Sequence[Query], k: int = 10) -> list[list[Hit]]:
        """Finds the best images of each query, best first, without the query image; equal scores are sorted by name.

        Points without a name are left out. Raises InputError if the database does not answer, a name leads out of the
        folder, or features are not finite.
        """
        from qdrant_client import models

        if not queries:
            return []
        vectors = compose_queries(self.composer, self.device, queries).cpu().tolist()
        asked = [
            models.QueryRequest(
                query=vector if self._tokens == 1 else [vector],
                filter=_named_without_reference(query),
                limit=k,
                with_payload=["name"],
            )
            for query, vector in zip(queries, vectors, strict=True)
        ]
        with _database_errors(self._address):
            answers = self._client.query_batch_points(self._address.collection, asked, timeout=_SECONDS)
        return [self._hits(answer.points) for answer in answers]

    def _hits(self, points: Sequence[Any]) -> list[Hit]:
        ranked = sorted((-point.score, name) for point in points if (name := _name_of(point)) is not None)
        return [Hit(name, -score, str(self._joined(name))) for score, name in ranked]

    def _check_collection(self, config: Any) -> int:
        """The number of vectors of an image. Raises InputError for vectors that the network cannot search."""
        vectors = config.params.vectors
        *_, dim = shape = tuple(encode_black(self.composer, self.device).target.shape[1:])
        several = len(shape) > 1
        found = getattr(vectors, "size", None), str(getattr(vectors, "distance", None))
        multiple = getattr(vectors, "multivector_config", None) is not None
        if found[0] != dim or found[1] not in ("Dot", "Cosine") or multiple != several:
            raise InputError(
                f"{self._address.text}: contains other vectors than those of family '{self.family}': expected one "
                f"{'multi-vector (MAX_SIM)' if several else 'vector'} of size {dim} with the distance Dot, without a "
                "name; make the collection from a file of export --to vectors"
            )
        side = (getattr(config, "metadata", None) or {}).get("image_side")
        if side is not None and side != image_side_hash(self.composer, self.weights):
            raise InputError(
                f"{self.weights.source}: encodes images with other weights than those of {self._address.text}; give "
                "the weights of the collection or a stage 2 of them"
            )
        return shape[0] if several else 1

    def _read_names(self) -> tuple[str, ...]:
        names: list[str] = []
        offset: Any = None
        while True:
            points, offset = self._client.scroll(
                self._address.collection, limit=_PAGE, offset=offset, with_payload=["name"], timeout=_SECONDS
            )
            names += [name for point in points if (name := _name_of(point)) is not None]
            if offset is None:
                return tuple(sorted(names))


def _connect(address: DatabaseAddress) -> "QdrantClient":
    if find_spec("qdrant_client") is None:
        raise InputError(f"--database: qdrant-client is not installed; run {install_command('qdrant')}")
    from qdrant_client import QdrantClient

    if address.folder is None:
        check_proxies()
        key = os.environ.get(API_KEY)
        return QdrantClient(url=address.url, api_key=key, timeout=_SECONDS, check_compatibility=False)
    if not address.folder.is_dir():
        raise InputError(
            f"--database {address.text}: no such folder; name a folder that the client's local mode has written"
        )
    with _database_errors(address):
        return QdrantClient(path=str(address.folder), force_disable_check_same_thread=True)


@contextmanager
def _database_errors(address: DatabaseAddress) -> Iterator[None]:
    """Turns the errors of the client into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the client raises errors of several libraries, and ValueError for a missing collection
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = f"check that it runs, the name of the collection, and the key in {API_KEY} if it needs one"
        if _IN_USE in reason:
            remedy = "end the process that uses the folder, or call close() of its client"
        raise InputError(f"{address.text}: the database does not answer the request ({reason}); {remedy}") from None


def _name_of(point: Any) -> str | None:
    """The name of a point; None for a point of something else than an image."""
    name = (point.payload or {}).get("name")
    return name if isinstance(name, str) else None


def _named_without_reference(query: Query) -> Any:
    """A filter that leaves out points without a name, and the query image, by its name and by its pixels."""
    from qdrant_client import models

    values = {"name": query.name, "digest": None if query.digest is None else query.digest.hex()}
    excluded: list[Any] = [models.IsEmptyCondition(is_empty=models.PayloadField(key="name"))]
    excluded += [
        models.FieldCondition(key=key, match=models.MatchValue(value=value))
        for key, value in values.items()
        if value is not None
    ]
    return models.Filter(must_not=excluded)
