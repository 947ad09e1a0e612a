"""Target vectors of a gallery: compared exactly, or found by inverted lists from `EXACT_BELOW` vectors on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.errors import InputError
from spn4cir.search.build_lists import LEAST_FOR_PQ
from spn4cir.search.exact_vectors import EXACT_FILE, Best, ExactVectors, Score, store_contents
from spn4cir.search.inverted_lists import FILES
from spn4cir.search.listed_vectors import STORED, ListedVectors
from spn4cir.search.stored_targets import StoredTargets

Kind = Literal["exact", "ivf", "ivf-pq"]
KindChoice = Literal["auto", "exact", "ivf", "ivf-pq"]
KINDS: tuple[KindChoice, ...] = get_args(KindChoice)
# In vectors, not images: an image of 32 tokens has 32 vectors.
EXACT_BELOW = 200_000
# In images.
PQ_FROM = 2_000_000
# Least recall of an approximate index.
RECALL = 0.95
VECTOR_FILES = (EXACT_FILE, *FILES, STORED)


@dataclass(frozen=True)
class KindSettings:
    """The wanted kind of index.

    Attributes:
        kind: `exact` compares every vector; `ivf` those of the nearest lists, as float16; `ivf-pq` those of the nearest
            lists, as codes of a byte for four dimensions, and stores the vectors as float16; `auto` chooses by size.
        recall: least share of the 10 best images of an exact search that a search finds; updates keep it.
    """

    kind: KindChoice = "auto"
    recall: float | None = None

    def __post_init__(self) -> None:
        """Raises InputError for an unknown kind, or a recall outside of 0 to 1."""
        if self.kind not in KINDS:
            raise InputError(f"kind '{self.kind}' is not known; choose one of {', '.join(KINDS)}")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"recall is {self.recall}; give a share above 0 and at most 1, as in 0.95")

    def chosen(self, images: int, tokens: int) -> Kind:
        """The kind of an index of that many images; too few for product codes have `ivf` instead of `ivf-pq`."""
        if not images:
            return "exact"
        kind = self.kind
        if kind == "auto":
            kind = "exact" if images * tokens < EXACT_BELOW else "ivf" if images < PQ_FROM else "ivf-pq"
        return "ivf" if kind == "ivf-pq" and images < LEAST_FOR_PQ else kind

    @property
    def least_recall(self) -> float:
        """The wanted recall."""
        return RECALL if self.recall is None else self.recall

    def store(self, images: int, tokens: int, dim: int) -> StoredTargets:
        """An empty store for targets of that many images, in the precision of the chosen kind."""
        half = self.chosen(images, tokens) == "ivf-pq"
        return StoredTargets(tokens, dim, np.float16 if half else np.float32)


class Vectors:
    """The targets of images: `tokens` unit-norm vectors an image, in an index of the wanted kind.

    Args:
        index: the index.
        settings: the wanted kind; `update` applies it.
    """

    def __init__(self, index: ExactVectors | ListedVectors, settings: KindSettings) -> None:
        self._index = index
        self.settings = settings

    @classmethod
    def empty(cls, tokens: int, dim: int, settings: KindSettings | None = None) -> "Vectors":
        """An index without images."""
        return cls(ExactVectors.empty(tokens, dim), settings or KindSettings())

    def __len__(self) -> int:
        return len(self._index)

    @property
    def tokens(self) -> int:
        """Number of vectors of an image."""
        return self._index.tokens

    @property
    def dim(self) -> int:
        """Dimension of a vector."""
        return self._index.dim

    @property
    def kind(self) -> Kind:
        """The kind of the index."""
        return "exact" if isinstance(self._index, ExactVectors) else self._index.kind

    @property
    def next_id(self) -> int:
        """The least id that an image can get in `update`, where removed images may count; 0 if only the present do."""
        return self._index.next_id if isinstance(self._index, ListedVectors) else 0

    @property
    def approximate(self) -> bool:
        """Whether a search compares only the vectors of the nearest lists."""
        return isinstance(self._index, ListedVectors)

    @property
    def recall(self) -> float | None:
        """Measured recall of an approximate index, 0 to 1; None for an exact index."""
        return self._index.lists.recall if isinstance(self._index, ListedVectors) else None

    @property
    def candidates(self) -> int | None:
        """Number of candidates of an approximate index whose exact scores are computed; None for an exact index."""
        return self._index.lists.candidates if isinstance(self._index, ListedVectors) else None

    def update(self, ids: Int64[ndarray, " images"], new: StoredTargets, removed: Int64[ndarray, " removed"]) -> None:
        """Adds images under new ids, which are larger than all before, and removes others.

        The kind and the search parameters follow the settings and the content. When more than a tenth of the images
        were added or removed since the recall was measured, it is measured again with new search parameters. The lists
        are built again for more than four times the images of their last build, when more than half of those images
        are removed, or when the measured recall is below the wanted one and a tenth changed since the build.

        Args:
            ids: the ids of the images to add.
            new: their targets, in the same order; the index takes its shards.
            removed: ids to remove.

        Raises:
            InputError: the disk of temporary files has no room.
        """
        wanted = self.settings.chosen(len(self) + len(ids) - len(removed), self.tokens)
        if wanted == self.kind:
            if isinstance(self._index, ExactVectors):
                self._index.update(ids, new, removed)
            else:
                self._index.update(ids, new, removed, self.settings.least_recall)
            return
        stored = self.settings.store(len(self) + len(ids) - len(removed), self.tokens, self.dim)
        self._index.move_into(stored)
        stored.remove(removed)
        stored.adopt(ids, new)
        self._index = self._built(stored, wanted)

    def _built(self, stored: StoredTargets, kind: Kind) -> ExactVectors | ListedVectors:
        if kind != "exact":
            return ListedVectors.build(stored, kind, self.settings.least_recall)
        index = ExactVectors.empty(stored.tokens, stored.dim)
        index.update(stored.ids, stored, np.empty(0, np.int64))
        return index

    def targets(self, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images tokens dim"]:
        """The targets of images."""
        return self._index.targets(ids)

    def best(
        self, queries: Float32[ndarray, "queries dim"], counts: Sequence[int], scores: Sequence[Score]
    ) -> list[Best]:
        """Finds at least the `counts[i]` best images of each query `i`, with all images of equal scores.

        An exact index finds all of them. An approximate one finds those among its candidates, with their exact scores.

        Args:
            queries: unit norm.
            counts: number of images for each query; a smaller index is returned whole.
            scores: for each query, the function from targets of images to scores: a maximum over their tokens.
        """
        return self._index.best(queries, counts, scores)

    def write(self, folder: Path) -> None:
        """Writes the files of the index. Raises OSError if that fails."""
        self._index.write(folder)

    @classmethod
    def read(cls, folder: Path, kind: Kind, tokens: int, settings: KindSettings, found: tuple[int, float]) -> "Vectors":
        """Maps the files of `write`.

        Args:
            folder: the folder of the index.
            kind: the kind of the index.
            tokens: number of vectors of an image.
            settings: the wanted kind.
            found: `candidates` and `recall` of an approximate index.

        Raises:
            RuntimeError, OSError, ValueError: the files are not those of an index.
        """
        if kind != "exact":
            return cls(ListedVectors.read(folder, settings.least_recall, *found), settings)
        return cls(ExactVectors.read(folder, tokens), settings)

    @classmethod
    def read_earlier(cls, folder: Path, tokens: int) -> "Vectors":
        """Reads the file of an earlier version; its lists, if it has some, are built again. Raises RuntimeError."""
        index = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
        if not isinstance(index, faiss.IndexIVF):
            return cls(ExactVectors(index, tokens, mapped=True), KindSettings())
        stored, vectors = StoredTargets(tokens, index.d), cls.empty(tokens, index.d)
        store_contents(faiss.read_index(str(folder / EXACT_FILE)), tokens, stored)
        vectors.update(stored.ids, stored, np.empty(0, np.int64))
        return vectors
