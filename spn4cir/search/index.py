"""An index of images: a table of the images and the vectors of their targets, kept consistent."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.search.image_files import ImageDigests, Stamp
from spn4cir.search.image_table import ImageTable, IndexedImage
from spn4cir.search.vectors import Vectors


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
            raise InputError(f"'{name}' is not in the gallery; `names` lists the images")
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

    def update(
        self,
        read: Mapping[str, tuple[Stamp, ImageDigests]],
        removed: Sequence[str],
        targets: Mapping[bytes, Tensor],
    ) -> None:
        """Adds or replaces images, and removes others.

        Args:
            read: the images to add or replace, by name.
            removed: names to remove.
            targets: the targets of the crops that have no vector yet, by crop.
        """
        if not read and not removed:
            return
        ids = self.table.new_vector_ids(len(targets))
        vector_ids = {**self.table.vector_ids, **dict(zip(targets, ids, strict=True))}
        images = {
            name: IndexedImage(file.path, file.size, file.modified, each.digest, each.crop, vector_ids[each.crop])
            for name, (file, each) in read.items()
        }
        unused = self.table.update(images, removed)
        if targets:
            stacked = torch.stack(list(targets.values()))
            self.target_shape = tuple(stacked.shape[1:])
        tokens, dim = prod(self.target_shape[:-1]), self.target_shape[-1]
        if self.vectors is None:
            self.vectors = Vectors.empty(tokens, dim)
        new = stacked.reshape(len(ids), tokens, dim).numpy() if targets else np.empty((0, tokens, dim), np.float32)
        self.vectors.update(np.array(ids, np.int64), new, np.array(unused, np.int64))
