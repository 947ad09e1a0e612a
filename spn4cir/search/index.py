"""An index of images: a table of the images and the vectors of their targets, kept consistent."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spn4cir.errors import InputError
from spn4cir.search.encode import NewTargets
from spn4cir.search.image_columns import ImageColumns
from spn4cir.search.image_files import ImageDigests, Stamp
from spn4cir.search.image_table import ImageTable
from spn4cir.search.read_images import ReadImages
from spn4cir.search.stored_targets import StoredTargets
from spn4cir.search.vectors import KindSettings, Vectors


class ImageIndex:
    """Images by name and the vectors of their targets; contains no network.

    Reading names and paths is safe while another thread updates the index.

    Args:
        table: the images.
        vectors: their targets; None before the first image.
        target_shape: shape of an image's targets, `(dim,)` or `(tokens, dim)`.
        root: the folder from which the names are paths; None before the first image.
        whole_folder: whether the index follows all images of `root`, instead of a list of images.
    """

    def __init__(
        self,
        table: ImageTable | None = None,
        vectors: Vectors | None = None,
        target_shape: tuple[int, ...] = (),
        root: Path | None = None,
        whole_folder: bool = False,
    ) -> None:
        self.table = ImageTable() if table is None else table
        self.vectors = vectors
        self.target_shape = target_shape
        self.root = root
        self.whole_folder = whole_folder
        self._settings = KindSettings() if vectors is None else vectors.settings

    @property
    def settings(self) -> KindSettings:
        """The wanted kind of index; the next update applies it."""
        return self._settings

    @settings.setter
    def settings(self, settings: KindSettings) -> None:
        self._settings = settings
        if self.vectors is not None:
            self.vectors.settings = settings

    def store(self, more: int, tokens: int, dim: int) -> StoredTargets:
        """An empty store for targets of new images, in the precision that the index has after `more` are added."""
        return self.settings.store(len(self) + more, tokens, dim)

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, name: object) -> bool:
        return name in self.table

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images, sorted."""
        return tuple(sorted(self.table))

    def path(self, name: str) -> Path:
        """The path of an image. Raises InputError for a name that is not in the index."""
        image = self.table.get(name)
        if image is None:
            raise InputError(f"'{name}' is not in the gallery; choose one of `names`")
        return Path(image.path)

    def require_vectors(self) -> Vectors:
        """The vectors. Raises InputError if the index contains no image."""
        if self.vectors is None or not len(self):
            raise InputError("nothing is indexed; call index with a folder or images first")
        return self.vectors

    def is_current(self, name: str, found: Stamp) -> bool:
        """Whether the file of an image is unchanged since it was indexed."""
        image = self.table.get(name)
        return image is not None and Stamp(image.path, image.size, image.modified) == found

    def is_changed(self, name: str, found: ImageDigests) -> bool:
        """Whether the index contains another image under this name."""
        image = self.table.get(name)
        return image is not None and (image.digest, image.crop) != (found.digest, found.crop)

    def columns(self, read: ReadImages) -> ImageColumns:
        """The rows of images that were read, for the next `update`, which gives new targets the ids in the rows."""
        rows, first = read.digests.rows, self.table.next_vector
        vectors = (first + row if row >= 0 else self._vector_of(read, place) for place, row in enumerate(rows))
        return ImageColumns.of(
            names=read.names,
            paths=read.stamps.paths,
            sizes=read.stamps.sizes,
            times=read.stamps.times,
            digests=read.digests.decoded,
            crops=read.digests.crops,
            vectors=np.fromiter(vectors, np.int64, len(rows)),
        )

    def update(self, images: ImageColumns, removed: Sequence[str], new: NewTargets) -> None:
        """Adds or replaces images, and removes others.

        Args:
            images: the images to add or replace, from `columns`.
            removed: names to remove.
            new: the targets of the crops that have no vector yet.

        If this fails, the index is empty afterwards: its images and its vectors would not fit together.

        Raises:
            InputError: the disk of temporary files has no room for an approximate index.
        """
        if self.vectors is None and not len(images):
            return
        ids = self.table.new_vector_ids(new.count)
        self.table, unused = self.table.updated(images, removed)
        if new.stored is not None:
            self.target_shape = new.shape
            if self.vectors is None:
                self.vectors = Vectors.empty(new.stored.tokens, new.stored.dim, self._settings)
        assert self.vectors is not None
        stored = StoredTargets(self.vectors.tokens, self.vectors.dim) if new.stored is None else new.stored
        try:
            self.vectors.update(np.array(ids, np.int64), stored, np.array(unused, np.int64))
        except BaseException:
            self.table, self.vectors = ImageTable(), None
            raise

    def _vector_of(self, read: ReadImages, position: int) -> int:
        vector = self.table.vector_of(read.digests.digests(position).crop)
        assert vector is not None
        return vector
