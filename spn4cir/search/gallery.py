"""A network and the gallery that it encoded: pictures come and go by name."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Self

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.images.processes import default_workers
from spn4cir.search.encode import encode_new
from spn4cir.search.index import Changes, Encode, Holdings, Place
from spn4cir.search.vectors import Vectors


class IndexedGallery:
    """The pictures of a gallery with their targets, which follow a folder or a list.

    Args:
        composer: the network, on the device.
        device: where it runs.
        workers: processes that decode pictures; None: one a core, at most eight.
    """

    def __init__(self, composer: Composer, device: torch.device, workers: int | None) -> None:
        self._composer = composer
        self._device = device
        self._workers = default_workers() if workers is None else workers
        self._holdings = Holdings()
        self.changes = Changes()

    def index(self, folder_or_paths: Place | Iterable[Place], *, skip: bool = False) -> Self:
        """Makes these pictures the gallery; only what is new or changed since the last time is read and encoded.

        A file of another size or time is read again, a picture that the network sees as one before is not encoded.
        Names are paths from the folder, or from the folder that all pictures of a list share.

        Args:
            folder_or_paths: a folder, with the folders below it, or pictures.
            skip: leave pictures out that cannot be decoded; `changes.skipped` names them.

        Returns:
            This gallery; `changes` says what was done.

        Raises:
            InputError: there is no picture, or some cannot be decoded: all of them are named, and nothing changes.
        """
        self.changes = self._holdings.replace(folder_or_paths, self._encode(skip), skip)
        return self

    def refresh(self, *, skip: bool = False) -> Changes:
        """Looks at the indexed folder again, and at the pictures that were added from elsewhere.

        Raises InputError as `index`, and where no folder was indexed.
        """
        self.changes = self._holdings.refresh(self._encode(skip), skip)
        return self.changes

    def add(self, paths: Place | Iterable[Place], *, skip: bool = False) -> Changes:
        """Adds pictures, named as those of `index`; one that lies elsewhere by its file's name.

        Raises InputError as `index`, and where another picture of the gallery has the name.

        Examples:
            >>> Retriever.from_checkpoint(checkpoint).index(folder).add("new/hat.png").added
            ('hat.png',)
        """
        places = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        self.changes = self._holdings.add(places, self._encode(skip), skip)
        return self.changes

    def remove(self, names: str | Iterable[str]) -> Changes:
        """Takes pictures out; `index` and `refresh` put them in again while their files are in the folder.

        Raises InputError that lists names which are not in the gallery: nothing is removed then.
        """
        self.changes = self._holdings.remove([names] if isinstance(names, str) else names)
        return self.changes

    def _encode(self, skip: bool) -> Encode:
        return partial(encode_new, self._composer, workers=self._workers, device=self._device, skip=skip)

    def _held(self) -> Vectors:
        if self._holdings.vectors is None or not len(self):
            raise InputError("nothing is indexed; call index with a folder or pictures first")
        return self._holdings.vectors

    @property
    def names(self) -> tuple[str, ...]:
        """Of the gallery's pictures, sorted."""
        return tuple(sorted(self._holdings.catalogue))

    def __len__(self) -> int:
        return len(self._holdings.catalogue)

    def __contains__(self, name: object) -> bool:
        return name in self._holdings.catalogue

    def path(self, name: str) -> Path:
        """Where a picture of the gallery lies. Raises InputError for a name that is not in it."""
        entry = self._holdings.catalogue.get(name)
        if entry is None:
            raise InputError(f"'{name}' is not in the gallery; `names` lists what is")
        return Path(entry.path)

    @property
    def family(self) -> str:
        """Family of the network."""
        return self._composer.family

    @property
    def approximate(self) -> bool:
        """Whether only the vectors of the nearest lists are compared."""
        return self._holdings.vectors is not None and self._holdings.vectors.approximate

    @property
    def recall(self) -> float | None:
        """Of an approximate index against an exact one, as it was measured; None for an exact one."""
        return None if self._holdings.vectors is None else self._holdings.vectors.recall
