"""Targets of images in shards: arrays in memory, or memory-mapped files, which are never changed."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray

from spn4cir.files import disk_errors
from spn4cir.search.mapped_files import MappedFile
from spn4cir.search.temporary_file import TemporaryFile

# Bytes of a shard, and of all shards that are kept in memory. A process has at most about 1,000 open files.
SHARD_BYTES, IN_MEMORY = 1 << 29, 1 << 30
# Bytes of float32 that are read at once.
CHUNK_BYTES = 1 << 24
IDS = "ids.npy"

Targets = Float[ndarray, "images tokens dim"]


class Shard(NamedTuple):
    """Targets of some images, and the file that contains them and nothing else; None: they are in memory."""

    targets: Targets
    file: MappedFile | None


class StoredTargets:
    """Targets of images by id, larger than the memory.

    New targets are appended: their ids are larger than all before. Removed ones keep their place until `compacted`.

    Args:
        tokens: number of vectors of an image.
        dim: dimension of a vector.
        dtype: float32, or float16, which changes a score by less than 0.0005.
    """

    def __init__(self, tokens: int, dim: int, dtype: type[np.floating] = np.float32) -> None:
        self.tokens, self.dim, self.dtype = tokens, dim, np.dtype(dtype)
        self._shards: list[Shard] = []
        self._starts = np.zeros(1, np.int64)
        self._ids = np.empty(0, np.int64)
        self._alive = np.empty(0, bool)
        self._new_ids: list[Int64[ndarray, " images"]] = []
        self._new = bytearray()  # their targets: it grows in place, where a list of arrays would have to be copied
        self._files: list[TemporaryFile] = []  # removed with this object

    def __len__(self) -> int:
        self._settle()
        return int(self._alive.sum())

    @property
    def ids(self) -> Int64[ndarray, " images"]:
        """The ids, in the order of the shards."""
        self._settle()
        found: ndarray = self._ids[self._alive]
        return found

    @property
    def next_id(self) -> int:
        """An id that is larger than those of all images, removed ones included."""
        self._settle()
        return int(self._ids[-1]) + 1 if len(self._ids) else 0

    def count_from(self, first: int) -> int:
        """The number of images whose id is `first` or larger."""
        self._settle()
        return int(self._alive[np.searchsorted(self._ids, first) :].sum())

    def append(self, ids: Int64[ndarray, " images"], targets: Float[ndarray, "images tokens dim"]) -> None:
        """Adds images; ids are sorted. Raises InputError if the disk of temporary files is full."""
        assert targets.shape == (len(ids), self.tokens, self.dim)
        self._new_ids.append(ids)
        self._new += targets.astype(self.dtype, copy=False).tobytes()
        if len(self._new) >= SHARD_BYTES:
            self._settle()

    def adopt(self, ids: Int64[ndarray, " images"], other: "StoredTargets") -> None:
        """Adds the images of another store under new ids; its shards become part of this one."""
        self._settle()
        other._settle()
        if other.dtype != self.dtype or not other._alive.all():
            rows = 0
            for _, targets in other.chunks():
                self.append(ids[rows : rows + len(targets)], targets)
                rows += len(targets)
            return
        self._add(ids, other._shards)
        self._files += other._files

    def remove(self, ids: Int64[ndarray, " images"]) -> None:
        """Removes images."""
        rows = self._rows(ids)
        self._alive[rows] = False

    @property
    def sparse(self) -> bool:
        """Whether more than a quarter of the rows belong to images that were removed."""
        return 4 * len(self) < 3 * len(self._ids)

    def compacted(self, dtype: type[np.floating] | None = None) -> "StoredTargets":
        """A copy without removed images, in another precision if `dtype` is given."""
        copy = StoredTargets(self.tokens, self.dim, dtype or self.dtype.type)
        for ids, targets in self.chunks():
            copy.append(ids, targets)
        return copy

    def targets(self, ids: Int64[ndarray, " images"]) -> Float32[ndarray, "images tokens dim"]:
        """The targets of images, in the order of `ids`."""
        rows = self._rows(ids)
        found = np.empty((len(ids), self.tokens, self.dim), np.float32)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shards):
            here = shards == shard
            found[here] = self._shards[shard].targets[rows[here] - self._starts[shard]]
        return found

    def chunks(self) -> Iterator[tuple[Int64[ndarray, " images"], Float32[ndarray, "images tokens dim"]]]:
        """Yields ids and targets of all images, some megabytes at a time."""
        self._settle()
        rows = self.images_at_once
        for (targets, _), start in zip(self._shards, self._starts, strict=False):
            for first in range(0, len(targets), rows):
                here = slice(int(start) + first, int(start) + min(first + rows, len(targets)))
                alive = self._alive[here]
                if alive.any():
                    part = targets[first : first + rows]
                    kept = part if alive.all() else part[alive]
                    yield self._ids[here][alive], kept.astype(np.float32)
            _release(targets)

    def release(self) -> None:
        """Returns the memory of the pages of mapped files that were read; they are read again when they are needed."""
        for targets, _ in self._shards:
            _release(targets)

    @property
    def chunk_count(self) -> int:
        """The number of `chunks`, at most."""
        self._settle()
        return sum(-(-len(targets) // self.images_at_once) for targets, _ in self._shards)

    @property
    def images_at_once(self) -> int:
        """The number of images of a chunk."""
        return max(1, CHUNK_BYTES // (4 * self.tokens * self.dim))

    def write(self, folder: Path) -> None:
        """Writes the shards and the ids. Files of large shards are linked if the disk allows it. Raises OSError."""
        self._settle()
        folder.mkdir()
        for number, shards in enumerate(_grouped(self._shards)):
            _write_shard(folder / f"{number:05}.npy", shards)
        np.save(folder / IDS, np.stack([self._ids, self._alive]))

    @classmethod
    def read(cls, folder: Path) -> "StoredTargets":
        """Maps the files of `write`. Raises OSError or ValueError for other files."""
        ids, alive = np.load(folder / IDS)
        # An id can occur again if all of its images but the last one were removed: an earlier version used ids again.
        if (np.diff(ids) < alive[:-1]).any():
            raise ValueError(f"{folder.name}/{IDS}: the ids are not sorted, or two images have the same one")
        shards = [_mapped(path) for path in sorted(folder.glob("[0-9]*.npy"))]
        if not shards or (rows := sum(len(targets) for targets, _ in shards)) != len(ids):
            raise ValueError(f"{folder.name}: {rows if shards else 0} rows, expected {len(ids)}")
        first = shards[0].targets
        stored = cls(first.shape[1], first.shape[2], first.dtype.type)
        stored._extend(ids, alive.astype(bool), shards)
        return stored

    def _rows(self, ids: Int64[ndarray, " images"]) -> Int64[ndarray, " images"]:
        """The last row of each id: the others are of removed images, as `read` allows."""
        self._settle()
        rows = np.searchsorted(self._ids, ids, side="right") - 1
        assert np.array_equal(self._ids[rows], ids)
        return rows

    def _add(self, ids: Int64[ndarray, " images"], shards: Sequence[Shard]) -> None:
        assert not len(ids) or (np.diff(ids) > 0).all()
        assert not len(ids) or not len(self._ids) or ids[0] > self._ids[-1]
        self._extend(ids, np.ones(len(ids), bool), shards)

    def _extend(self, ids: Int64[ndarray, " rows"], alive: Bool[ndarray, " rows"], shards: Sequence[Shard]) -> None:
        self._shards += shards
        self._starts = np.cumsum([0, *(len(targets) for targets, _ in self._shards)])
        self._ids = np.concatenate([self._ids, ids])
        self._alive = np.concatenate([self._alive, alive])

    def _settle(self) -> None:
        """Makes a shard of the images that were appended: in memory, or beyond `IN_MEMORY` in a temporary file."""
        if not self._new_ids:
            return
        ids, targets = np.concatenate(self._new_ids), np.frombuffer(self._new, self.dtype)
        targets = targets.reshape(-1, self.tokens, self.dim)
        self._new_ids, self._new = [], bytearray()
        held = sum(targets.nbytes for targets, file in self._shards if file is None)
        shard = Shard(targets, None) if held + targets.nbytes <= IN_MEMORY else self._spilled(targets)
        self._add(ids, [shard])

    def _spilled(self, targets: Targets) -> Shard:
        with disk_errors(Path(tempfile.gettempdir())):
            self._files.append(TemporaryFile())
            path = self._files[-1].path
            _write_targets(path, [targets])
            return _mapped(path)


def _mapped(path: Path) -> Shard:
    return Shard(np.load(path, mmap_mode="r"), MappedFile.of(path))


def _release(targets: Targets) -> None:
    """Returns the memory of pages of a mapped file that were read; the system keeps them in its cache."""
    mapped = getattr(targets, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _grouped(shards: Sequence[Shard]) -> Iterator[list[Shard]]:
    """Yields shards to write into one file: a large one alone, small ones together."""
    group: list[Shard] = []
    for shard in shards:
        alone = 2 * shard.targets.nbytes >= SHARD_BYTES
        if group and (alone or sum(each.targets.nbytes for each in group) >= SHARD_BYTES):
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def _write_shard(path: Path, shards: Sequence[Shard]) -> None:
    """Writes shards as one .npy file; a single one that is in a file is linked."""
    file = shards[0].file if len(shards) == 1 else None
    if file is not None and file.unchanged:
        file.link_to(path)
    else:
        _write_targets(path, [targets for targets, _ in shards])


def _write_targets(path: Path, arrays: Sequence[Targets]) -> None:
    """Writes arrays one after the other as one .npy file."""
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    header = {"descr": arrays[0].dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for array in arrays:
            whole: Any = np.ascontiguousarray(array)
            stream.write(memoryview(whole).cast("B"))
