"""Targets of images that inverted lists retrieve and the stored vectors score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.search.build_lists import build_lists
from spn4cir.search.content_mark import ContentMark
from spn4cir.search.exact_vectors import Best, Score, among_best
from spn4cir.search.inverted_lists import InvertedLists, ListKind
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.tune_lists import tune_lists

STORED = "vectors"
# In the folder of the stored targets: the contents at the last build and at the last measurement.
MARKS = "marks.npy"
# The recall is measured again when more images than this share were added or removed.
_MEASURED_AGAIN = 0.1
# The lists are built again for more than so many times the images of their build, or without this share of those.
_OUTGROWN, _REMOVED = 4, 0.5
# Up to this number of results, the candidates are those that the recall was measured with. A query asks for one more
# than it has hits if its reference is excluded.
_RESULTS = 20
_EXCLUDED = 1


class ListedVectors:
    """Inverted lists find candidates, whose stored targets give the exact scores.

    An image is retrieved by one vector: its only one, or the normalised mean of its tokens.

    Args:
        stored: the targets of all images.
        lists: the lists over them.
        wanted: the recall for which their search parameters were chosen.
        built: the content when the lists were built.
        measured: the content when the recall was measured.
    """

    def __init__(
        self, stored: StoredTargets, lists: InvertedLists, wanted: float, built: ContentMark, measured: ContentMark
    ) -> None:
        self._stored = stored
        self.lists = lists
        self._wanted, self._built, self._measured = wanted, built, measured

    @classmethod
    def build(cls, stored: StoredTargets, kind: ListKind, wanted: float) -> "ListedVectors":
        """Builds the lists of a store with a wanted recall. Raises InputError as `build_lists` does."""
        now = ContentMark.of(stored)
        return cls(stored, build_lists(stored, kind, wanted), wanted, now, now)

    @property
    def kind(self) -> ListKind:
        """The kind of the lists."""
        return self.lists.kind

    @property
    def tokens(self) -> int:
        """Number of vectors of an image."""
        return self._stored.tokens

    @property
    def dim(self) -> int:
        """Dimension of a vector."""
        return self._stored.dim

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def next_id(self) -> int:
        """An id that is larger than all before: the rows of removed images keep theirs, and the marks refer to them."""
        return max(self._stored.next_id, self._built.next_id, self._measured.next_id)

    def update(
        self,
        ids: Int64[ndarray, " images"],
        new: StoredTargets,
        removed: Int64[ndarray, " removed"],
        wanted: float,
    ) -> None:
        """Adds the images of a store under new ids, and removes others.

        Then the recall is measured and the search parameters are chosen again, or the lists are built again, if
        `wanted` is another recall or enough images changed: see `Vectors.update`.
        """
        if len(ids) or len(removed):
            self.lists.change(new, ids, removed)
            self._stored.remove(removed)
            self._stored.adopt(ids, new)
            if self._stored.sparse:
                self._stored = self._stored.compacted()
        if self._outdated:
            self._build(wanted)
        elif wanted != self._wanted or self._measured.changed(self._stored, _MEASURED_AGAIN):
            self._measure(wanted)

    @property
    def _outdated(self) -> bool:
        """Whether the lists were built for a gallery of another size, or most images of that one are gone."""
        built = self._built
        outgrown = len(self) > _OUTGROWN * built.images
        return outgrown or built.removed(self._stored) > _REMOVED * built.images

    def _build(self, wanted: float) -> None:
        self.lists = build_lists(self._stored, self.kind, wanted)
        self._built = self._measured = ContentMark.of(self._stored)
        self._wanted = wanted

    def _measure(self, wanted: float) -> None:
        """Chooses the search parameters; builds the lists again if changed ones do not reach the recall."""
        tune_lists(self.lists, self._stored, wanted)
        self._measured, self._wanted = ContentMark.of(self._stored), wanted
        if self.lists.recall < wanted and self._built.changed(self._stored, _MEASURED_AGAIN):
            self._build(wanted)

    def targets(self, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images tokens dim"]:
        """The targets of images."""
        return self._stored.targets(ids)

    def move_into(self, stored: StoredTargets) -> None:
        """Appends all images to an empty store."""
        stored.adopt(self._stored.ids, self._stored)

    def best(
        self, queries: Float32[ndarray, "queries dim"], counts: Sequence[int], scores: Sequence[Score]
    ) -> list[Best]:
        """Finds the best of the candidates as `Vectors.best` describes."""
        steps = [max(1, -(-(count - _EXCLUDED) // _RESULTS)) for count in counts]
        found: list[Best | None] = [None] * len(counts)
        # The other queries of a call must not change the hits of one.
        for step in set(steps):
            rows = [row for row, own in enumerate(steps) if own == step]
            least = _RESULTS * step + _EXCLUDED
            depth = min(max(self.lists.candidates * step, least), len(self))
            candidates = self.lists.search(queries[rows], depth, least)
            for row, ids in zip(rows, candidates, strict=True):
                found[row] = self._best(queries[row], ids[ids >= 0], counts[row], scores[row])
        return [best for best in found if best is not None]

    def _best(
        self, query: Float32[ndarray, " dim"], ids: Int64[ndarray, " candidates"], count: int, score: Score
    ) -> Best:
        """Scores candidates by their largest product, and those that can be among the best by the network's rule."""
        ids = np.sort(ids)
        targets = self.targets(ids)
        kept = among_best((targets @ query).max(axis=1), count)
        return Best(ids[kept], score(targets[kept]))

    def write(self, folder: Path) -> None:
        """Writes the lists, the stored targets and the marks. Raises OSError if that fails."""
        self.lists.write(folder)
        self._stored.write(folder / STORED)
        np.save(folder / STORED / MARKS, np.array([self._built, self._measured], np.int64))

    @classmethod
    def read(cls, folder: Path, wanted: float, candidates: int, recall: float) -> "ListedVectors":
        """Maps the files of `write`, or of an earlier version, whose recall the next update measures.

        Raises RuntimeError, OSError or ValueError for other files.
        """
        stored, lists = StoredTargets.read(folder / STORED), InvertedLists.read(folder, candidates, recall)
        if (path := folder / STORED / MARKS).is_file():
            built, measured = (ContentMark(*row) for row in np.load(path).reshape(2, 2).tolist())
        else:  # there were as many lists as the square root of the number of images
            built, measured = ContentMark(lists.index.nlist**2, stored.next_id), ContentMark(0, 0)
        return cls(stored, lists, wanted, built, measured)
