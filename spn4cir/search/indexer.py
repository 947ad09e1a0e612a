"""Keeping an index up to date with a folder or a list: which images to read, encode and remove."""

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.images.folders import folder_gallery, listed_gallery, named_below
from spn4cir.images.workers import Workers
from spn4cir.packed import PackedPaths
from spn4cir.search.encode import NewTargets, encode_new
from spn4cir.search.image_columns import ImageColumns
from spn4cir.search.image_files import stamp
from spn4cir.search.index import ImageIndex
from spn4cir.search.read_images import PackedStamps, ReadImages
from spn4cir.search.unfinished import UnfinishedIndex
from spn4cir.types import Gallery
from spn4cir.utf8 import is_utf8, printable

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Changes:
    """The changes of an update, by image name.

    Attributes:
        added: images that are new.
        changed: images whose content differs from before.
        removed: images that are no longer in the gallery.
        skipped: images that are left out, which cannot be decoded or have a path that is not UTF-8.
        misnamed: the skipped images whose path is not UTF-8.
        unchanged: number of images that are as before.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    misnamed: tuple[str, ...] = ()
    unchanged: int = 0


@dataclass(frozen=True)
class _Update:
    """What changes in an index: the images to add or replace, their new targets, and the names of all changes."""

    columns: ImageColumns
    new: NewTargets
    changes: Changes


@dataclass(frozen=True)
class Indexer:
    """Updates an index with a network. Only new and changed files are read.

    With `skip`, images that cannot be decoded are left out; without it, they raise an InputError that lists all of
    them, and the index stays as it is.

    Attributes:
        composer: the network, on the device.
        device: the device of the network.
        workers: number of processes that decode images, where 0 is this one; or a cluster, which also encodes them.
    """

    composer: Composer
    device: torch.device
    workers: Workers

    def replace(
        self,
        index: ImageIndex,
        folder_or_paths: StrPath | Iterable[StrPath],
        skip: bool,
        unfinished: UnfinishedIndex | None = None,
    ) -> Changes:
        """Makes the images of a folder or of a list the content of the index.

        What an earlier run kept in `unfinished` is taken over, and what is encoded is kept there.

        Raises InputError if there is no image.
        """
        whole_folder = isinstance(folder_or_paths, (str, os.PathLike))
        if isinstance(folder_or_paths, (str, os.PathLike)):
            root = Path(folder_or_paths)
            gallery = folder_gallery(root)
        else:
            root, gallery = listed_gallery(Path(path) for path in folder_or_paths)
        update = self._read(index, gallery, _names_outside(index, gallery), skip, unfinished)
        del gallery  # it takes hundreds of bytes an image, while the index grows
        changes = _apply(index, update)
        index.root, index.whole_folder = root.absolute(), whole_folder
        return changes

    def refresh(self, index: ImageIndex, skip: bool) -> Changes:
        """Reads the indexed folder again, and the images that were added from other folders.

        Raises InputError if the index contains a list of images, or no image is left.
        """
        if index.root is None or not index.whole_folder:
            raise InputError("no folder was indexed, so none can be refreshed; call index with the images")
        gallery = _with_added(index, index.root)
        update = self._read(index, gallery, _names_outside(index, gallery), skip)
        del gallery
        return _apply(index, update)

    def add(self, index: ImageIndex, paths: Iterable[StrPath], skip: bool) -> Changes:
        """Adds images. Their names are paths from the root of the index; outside of it, file names.

        Raises InputError if another image of the index has the name.
        """
        root, listed = listed_gallery(Path(path) for path in paths)
        gallery = named_below(index.root or root, listed.paths)
        for name, path in zip(gallery.names, gallery.paths, strict=True):
            if name in index and index.path(name) != path:
                raise InputError(f"{path}: has the same name, '{name}', as {index.path(name)}; rename one of the two")
        update = self._read(index, gallery, [], skip)
        del listed, gallery
        changes = _apply(index, update)
        index.root = index.root or root
        return changes

    def _read(
        self,
        index: ImageIndex,
        gallery: Gallery,
        outside: Sequence[str],
        skip: bool,
        unfinished: UnfinishedIndex | None = None,
    ) -> _Update:
        """Reads the images of a gallery, to add or replace them, and to remove the names `outside`."""
        unnamable = {
            name: _name_error(name)
            for name, path in zip(gallery.names, gallery.paths, strict=True)
            if not is_utf8(str(path))
        }
        named = gallery.restrict(frozenset(gallery.names) - unnamable.keys()) if unnamable else gallery
        stale, stamps = _stale(index, named)
        names, paths = stale.names, stale.paths
        known, new_store = index.table.has_crop, partial(index.store, len(paths))
        kept = None if unfinished is None else unfinished.images(stamps, new_store(1, 1).dtype)
        images, new = encode_new(self.composer, paths, known, self.workers, self.device, skip, new_store, kept)
        broken = unnamable | {names[position]: error for position, error in images.errors.items()}
        if broken and (not skip or len(broken) == len(gallery)):
            raise _broken_error(broken)
        read = ReadImages.decoded(names, stamps, images)
        columns = index.columns(read)
        added = tuple(name for name in read.names if name not in index)
        changed = tuple(
            name for place, name in enumerate(read.names) if index.is_changed(name, read.digests.digests(place))
        )
        removed = (*outside, *(name for name in broken if name in index))
        skipped, misnamed = (tuple(map(printable, names)) for names in (broken, unnamable))
        return _Update(columns, new, Changes(added, changed, removed, skipped, misnamed))


def _apply(index: ImageIndex, update: _Update) -> Changes:
    changes = update.changes
    index.update(update.columns, changes.removed, update.new)
    return replace(changes, unchanged=len(index) - len(changes.added) - len(changes.changed))


def remove_images(index: ImageIndex, names: Iterable[str]) -> Changes:
    """Removes images from an index. Raises InputError, and removes none, if a name is not in the index."""
    removed = list(dict.fromkeys(names))
    if absent := [name for name in removed if name not in index]:
        raise InputError(f"not in the gallery: {', '.join(absent)}; choose among `names`")
    index.update(ImageColumns.empty(), removed, NewTargets())
    return Changes(removed=tuple(removed), unchanged=len(index))


def _stale(index: ImageIndex, gallery: Gallery) -> tuple[Gallery, PackedStamps]:
    """The images of a gallery that an index does not have as they are, and the stamps of their files."""
    positions, sizes, times = array("q"), array("q"), array("q")
    for position, (name, path) in enumerate(zip(gallery.names, gallery.paths, strict=True)):
        found = stamp(path)
        if not index.is_current(name, found):
            positions.append(position)
            sizes.append(found.size)
            times.append(found.modified)
    if len(positions) < len(gallery):
        names = tuple(gallery.names[position] for position in positions)
        gallery = Gallery(names, PackedPaths(gallery.paths[position] for position in positions))
    return gallery, PackedStamps(PackedPaths(gallery.paths).absolute_texts(), sizes, times)


def _with_added(index: ImageIndex, root: Path) -> Gallery:
    """The images in a folder, and those that were added to its index from elsewhere and exist."""
    inside = folder_gallery(root)
    others = [index.path(name) for name in _names_outside(index, inside)]
    elsewhere = [path for path in others if path.is_file() and not path.is_relative_to(root)]
    return named_below(root, [*inside.paths, *elsewhere])


def _names_outside(index: ImageIndex, gallery: Gallery) -> list[str]:
    """The names of an index that a gallery does not contain."""
    return sorted(name for name in index.table if name not in gallery.index)


def _name_error(name: str) -> InputError:
    return InputError(f"{printable(name)}: its path is not UTF-8; rename it")


def _broken_error(broken: Mapping[str, InputError]) -> InputError:
    """One error that names all images that cannot be indexed."""
    if len(broken) == 1:
        return next(iter(broken.values()))
    first, _, _ = str(next(iter(broken.values()))).partition("; ")  # without its advice
    names = ", ".join(map(printable, broken))
    return InputError(
        f"{len(broken)} images cannot be decoded: {names}; replace or remove them, or leave them out (skip, "
        f"--skip-broken). The first: {first}"
    )
