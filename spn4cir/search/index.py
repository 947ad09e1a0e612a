"""What an index holds: pictures by name and their targets, and how both follow a folder or a list."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spn4cir.errors import InputError
from spn4cir.images.folders import folder_gallery, listed_gallery, named_below
from spn4cir.search.catalogue import Catalogue, IndexedImage
from spn4cir.search.pictures import ImageFile, Stamp, stamp
from spn4cir.search.vectors import Vectors
from spn4cir.types import Gallery

Place = str | os.PathLike[str]
# From paths, and the crops that have a vector, to the pictures and the targets of new crops.
Encode = Callable[[Sequence[Path], Mapping[bytes, int]], tuple[list[ImageFile | InputError], dict[bytes, Tensor]]]


@dataclass(frozen=True)
class Changes:
    """What an update did, by name.

    Attributes:
        added: pictures that were not there.
        changed: pictures that are others than before.
        removed: pictures that are not there any more.
        skipped: pictures that cannot be decoded.
        unchanged: how many stayed as they were.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    unchanged: int = 0


class Holdings:
    """Pictures and their targets.

    Args:
        catalogue: the pictures.
        vectors: their targets; None before the first.
        target: shape of a picture's targets.
        root: the folder that names begin at; None before the first picture.
        whole: whether everything in that folder is indexed, rather than a list of pictures.
    """

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        vectors: Vectors | None = None,
        target: tuple[int, ...] = (),
        root: Path | None = None,
        whole: bool = False,
    ) -> None:
        self.catalogue = catalogue or Catalogue()
        self.vectors = vectors
        self.target = target
        self.root = root
        self.whole = whole

    def replace(self, folder_or_paths: Place | Iterable[Place], encode: Encode, skip: bool) -> Changes:
        """Makes a folder's pictures, or those of a list, the gallery."""
        whole = isinstance(folder_or_paths, (str, os.PathLike))
        if isinstance(folder_or_paths, (str, os.PathLike)):
            root = Path(folder_or_paths)
            gallery = folder_gallery(root)
        else:
            root, gallery = listed_gallery(Path(path) for path in folder_or_paths)
        changes = self._update(gallery, self._others(gallery), encode, skip)
        self.root, self.whole = root.absolute(), whole
        return changes

    def refresh(self, encode: Encode, skip: bool) -> Changes:
        """Looks at the folder again, and at the pictures that were added from elsewhere."""
        if self.root is None or not self.whole:
            raise InputError("no folder was indexed, so there is none to look at again; call index with the pictures")
        inside = folder_gallery(self.root)
        others = [Path(self.catalogue[name].path) for name in self._others(inside)]
        elsewhere = [path for path in others if path.is_file() and not path.is_relative_to(self.root)]
        gallery = named_below(self.root, [*inside.paths, *elsewhere])
        return self._update(gallery, self._others(gallery), encode, skip)

    def add(self, paths: Iterable[Place], encode: Encode, skip: bool) -> Changes:
        """Adds pictures, named from the gallery's folder; those elsewhere by their file names."""
        root, listed = listed_gallery(Path(path) for path in paths)
        gallery = named_below(self.root or root, listed.paths)
        for name, path in zip(gallery.names, gallery.paths, strict=True):
            if (entry := self.catalogue.get(name)) is not None and Path(entry.path) != path:
                raise InputError(f"{path}: is called '{name}' as {entry.path} is; rename one of the two")
        changes = self._update(gallery, [], encode, skip)
        self.root = self.root or root
        return changes

    def remove(self, names: Iterable[str]) -> Changes:
        """Takes pictures out by their names."""
        gone = list(dict.fromkeys(names))
        if absent := [name for name in gone if name not in self.catalogue]:
            raise InputError(f"not in the gallery: {', '.join(absent)}; `names` lists what is")
        unchanged = len(self.catalogue) - len(gone)
        self._apply({}, gone, {})
        return Changes(removed=tuple(gone), unchanged=unchanged)

    def _others(self, gallery: Gallery) -> list[str]:
        return [name for name in self.catalogue if name not in gallery.index]

    def _update(self, gallery: Gallery, gone: Sequence[str], encode: Encode, skip: bool) -> Changes:
        """Puts pictures in, or in the place of those of their names, and takes others out."""
        odd = {
            name: _name_error(name) for name, path in zip(gallery.names, gallery.paths, strict=True) if _is_odd(path)
        }
        gallery = gallery.restrict(frozenset(gallery.names) - odd.keys()) if odd else gallery
        stamps = dict(zip(gallery.names, map(stamp, gallery.paths), strict=True))
        fresh = [name for name, each in stamps.items() if not self._is_current(name, each)]
        pictures, targets = encode([gallery.paths[gallery.index[name]] for name in fresh], self.catalogue.vectors)
        found = dict(zip(fresh, pictures, strict=True))
        broken = odd | {name: each for name, each in found.items() if isinstance(each, InputError)}
        if broken and (not skip or len(broken) == len(stamps) + len(odd)):
            raise _broken_error(broken)
        read = {name: each for name, each in found.items() if isinstance(each, ImageFile)}
        added = tuple(name for name in read if name not in self.catalogue)
        changed = tuple(name for name in read if name in self.catalogue and self._differs(name, read[name]))
        removed = (*gone, *(name for name in broken if name in self.catalogue))
        self._apply({name: (stamps[name], each) for name, each in read.items()}, removed, targets)
        unchanged = len(stamps) + len(odd) - len(broken) - len(added) - len(changed)
        return Changes(added, changed, removed, tuple(map(_shown, broken)), unchanged)

    def _is_current(self, name: str, found: Stamp) -> bool:
        entry = self.catalogue.get(name)
        return entry is not None and Stamp(entry.path, entry.size, entry.modified) == found

    def _differs(self, name: str, found: ImageFile) -> bool:
        entry = self.catalogue[name]
        return (entry.digest, entry.crop) != (found.digest, found.crop)

    def _apply(
        self, read: Mapping[str, tuple[Stamp, ImageFile]], gone: Sequence[str], targets: Mapping[bytes, Tensor]
    ) -> None:
        """Brings catalogue and vectors up to date; `targets` are those of crops that have no vector yet."""
        ids = self.catalogue.new_vectors(len(targets))
        vectors = {**self.catalogue.vectors, **dict(zip(targets, ids, strict=True))}
        entries = {
            name: IndexedImage(file.path, file.size, file.modified, each.digest, each.crop, vectors[each.crop])
            for name, (file, each) in read.items()
        }
        orphans = self.catalogue.update(entries, gone)
        if targets:
            stacked = torch.stack(list(targets.values()))
            self.target = tuple(stacked.shape[1:])
            new = stacked.reshape(len(ids), prod(self.target[:-1]), self.target[-1]).numpy()
        if self.vectors is None:
            self.vectors = Vectors.empty(prod(self.target[:-1]), self.target[-1])
        if not targets:
            new = np.empty((0, self.vectors.tokens, self.vectors.dim), np.float32)
        self.vectors.update(np.array(ids, np.int64), new, np.array(orphans, np.int64))


def _is_odd(path: Path) -> bool:
    """Whether a path is no UTF-8: no parquet file and no page can name it."""
    return _shown(str(path)) != str(path)


def _shown(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _name_error(name: str) -> InputError:
    return InputError(f"{_shown(name)}: its path is not UTF-8; rename it")


def _broken_error(broken: Mapping[str, InputError]) -> InputError:
    """One line about pictures that cannot be decoded, by name."""
    if len(broken) == 1:
        return next(iter(broken.values()))
    first = next(iter(broken.values()))
    names = ", ".join(map(_shown, broken))
    return InputError(
        f"{len(broken)} pictures cannot be decoded: {names}; replace or remove them, or leave them out (skip, "
        f"--skip-broken). The first: {first}"
    )
