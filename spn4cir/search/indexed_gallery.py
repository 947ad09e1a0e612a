"""A network with the images that it has indexed: which images there are, and changes of them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.images.processes import default_workers
from spn4cir.images.workers import Workers
from spn4cir.replace_folder import read_unreplaced
from spn4cir.search import index_folder
from spn4cir.search.index import ImageIndex
from spn4cir.search.index_weights import Weights
from spn4cir.search.indexer import Changes, Indexer, StrPath, remove_images
from spn4cir.search.unfinished import UnfinishedIndex
from spn4cir.search.unfinished_file import remove_unfinished
from spn4cir.search.vectors import Kind, KindChoice, KindSettings


class IndexedGallery:
    """A network, and the images that it has encoded for searches: the part of `Retriever` that changes them.

    The targets of the images are stored in FAISS. `names`, `path` and `in` may be called from any thread; updates from
    one at a time.

    Args:
        composer: the network, on the device.
        weights: its weights: the file and the head widths, or the name of a pretrained network.
        device: the device of the network.
        workers: number of processes that decode images, where None is one a core, at most eight; or a cluster, which
            also encodes the images of `index`.

    Attributes:
        image_index: the images and their targets.
        changes: what the last update changed.
    """

    def __init__(self, composer: Composer, weights: Weights, device: torch.device, workers: Workers | None) -> None:
        self.composer = composer
        self.weights = weights
        self.device = device
        self.image_index = ImageIndex()
        self.changes = Changes()
        self._works: set[Path] = set()  # what `save` makes superfluous
        self._indexer = Indexer(composer, device, default_workers() if workers is None else workers)

    def index(
        self,
        folder_or_paths: StrPath | Iterable[StrPath],
        *,
        skip: bool = False,
        kind: KindChoice | None = None,
        recall: float | None = None,
        work: StrPath | None = None,
    ) -> Self:
        """Makes these images the gallery. Only images that are new or changed since the last call are encoded.

        A file with another size or time is read again; an image whose crop is known is not encoded again. Names are
        paths from the folder, or from the folder that all images of a list share.

        Args:
            folder_or_paths: a folder, searched with its sub-folders, or files.
            skip: leave out images that cannot be decoded; `changes.skipped` names them.
            kind: `exact` compares every vector; `ivf` those of the nearest lists; `ivf-pq` compressed vectors of the
                nearest lists, for galleries that do not fit into memory; `auto` chooses by size. None: as before, at
                first `auto`.
            recall: least share of the 10 best images of an exact search that an approximate index finds, above 0 and
                at most 1. None: as before, at first 0.95.
            work: folder in which what is encoded is kept, batch by batch, if 256 images or more are to be read; a call
                that follows one that was killed reads only the other images, and gives an equal index. `save` removes
                the folder. None: nothing is kept.

        Returns:
            This object; `changes` contains the changes.

        Raises:
            InputError: there is no image, or some cannot be decoded: the message names all of them, and the gallery
                stays as it is. Or the kind or the recall is invalid. Or the disk of temporary files is full: then the
                gallery is empty afterwards. Or the folder `work` contains something else, or cannot be written, or
                another process writes to it.
        """
        before = self.image_index.settings
        wanted = KindSettings(kind or before.kind, before.recall if recall is None else recall)
        self.image_index.settings = wanted
        try:
            self.changes = self._replace(folder_or_paths, skip, None if work is None else Path(work))
        except BaseException:
            self.image_index.settings = before
            raise
        return self

    def _replace(self, folder_or_paths: StrPath | Iterable[StrPath], skip: bool, work: Path | None) -> Changes:
        if work is None:
            return self._indexer.replace(self.image_index, folder_or_paths, skip)
        with UnfinishedIndex(work.absolute(), self.composer, self.weights) as unfinished:
            changes = self._indexer.replace(self.image_index, folder_or_paths, skip, unfinished)
        self._works.add(work.absolute())
        return changes

    def refresh(self, *, skip: bool = False) -> Changes:
        """Reads the indexed folder again, and the images that were added from other folders.

        Raises InputError as `index` does, and if no folder was indexed.
        """
        self.changes = self._indexer.refresh(self.image_index, skip)
        return self.changes

    def add(self, paths: StrPath | Iterable[StrPath], *, skip: bool = False) -> Changes:
        """Adds images. Their names are paths from the indexed folder; outside of it, file names.

        Raises InputError as `index` does, and if another image of the gallery has the name.

        Examples:
            >>> Retriever.from_checkpoint(checkpoint).index(folder).add("new/hat.png").added
            ('hat.png',)
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        self.changes = self._indexer.add(self.image_index, files, skip)
        return self.changes

    def remove(self, names: str | Iterable[str]) -> Changes:
        """Removes images. `index` and `refresh` add them again if their files are still in the folder.

        Raises InputError that lists names which are not in the gallery; nothing is removed then.
        """
        self.changes = remove_images(self.image_index, [names] if isinstance(names, str) else names)
        return self.changes

    def resume(self, folder: StrPath) -> Self:
        """Loads the images of an index that `save` wrote with this network or with one of the same image side.

        Raises InputError if the folder is no index, is damaged, or was made with another image side.
        """
        source = Path(folder).absolute()

        def read() -> ImageIndex:
            manifest = index_folder.read_manifest(source)
            index_folder.check_network(source, manifest, self.composer, self.weights)
            return index_folder.read_index(source, manifest)

        self.image_index = read_unreplaced(source, read)
        return self

    def save(self, folder: StrPath, *, weights: bool = True) -> None:
        """Writes the index as a whole or not at all. An index in the folder is replaced.

        Then the folders that `index` got as `work` are removed.

        Args:
            folder: the folder to write, with `vectors.faiss`, `pictures.parquet` (the images) and `index.json`.
            weights: copy the checkpoint too; without it, `load` looks for the file that was used and checks its hash. A
                pretrained network is never copied: `load` opens it by its name and checks its hash.

        Raises:
            InputError: nothing is indexed, the folder contains other files or cannot be written, or the checkpoint
                changed since it was read.
        """
        index_folder.write_index(Path(folder), self.image_index, self.composer, self.weights, weights)
        while self._works:
            remove_unfinished(self._works.pop())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the gallery's images, sorted."""
        return self.image_index.names

    def __len__(self) -> int:
        return len(self.image_index)

    def __contains__(self, name: object) -> bool:
        return name in self.image_index

    def __repr__(self) -> str:
        own = f"family={self.family!r}, weights={self.weights.source!r}, device='{self.device}', images={len(self)}"
        return f"{type(self).__name__}({own})"

    def path(self, name: str) -> Path:
        """The path of an image of the gallery. Raises InputError for a name that is not in it."""
        return self.image_index.path(name)

    @property
    def family(self) -> str:
        """The family of the network."""
        return self.composer.family

    @property
    def kind(self) -> Kind:
        """The kind of the index: `exact`, `ivf` or `ivf-pq`."""
        return "exact" if self.image_index.vectors is None else self.image_index.vectors.kind

    @property
    def approximate(self) -> bool:
        """Whether a search compares only the vectors of the nearest lists."""
        return self.image_index.vectors is not None and self.image_index.vectors.approximate

    @property
    def recall(self) -> float | None:
        """The measured recall of an approximate index against an exact search, 0 to 1; None for an exact index."""
        return None if self.image_index.vectors is None else self.image_index.vectors.recall
