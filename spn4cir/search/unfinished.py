"""An index that is being made: what was read and encoded is kept in a folder, so that a killed run continues.

An image is kept under the hash of its path, size and time. Its targets are kept with the batch in which its crop was
new. A run that continues reads only the other images, in the batches of a run that was not interrupted.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy import ndarray

from spn4cir.composers.protocol import Composer
from spn4cir.files import require_space, value_hash
from spn4cir.readable import real_path
from spn4cir.search.image_files import DIGEST_BYTES, ImageDigests, Stamp
from spn4cir.search.index_weights import Weights, image_side_hash
from spn4cir.search.read_images import PackedDigests, PackedStamps
from spn4cir.search.unfinished_file import IMAGE, UnfinishedFile, check_unfinished

# Of fewer images nothing is kept: they are encoded again in seconds.
LEAST_KEPT = 256
_FORMAT = 1
_STAMP_BYTES = 16


def unfinished_folder(index: Path) -> Path:
    """The folder beside an index in which `spn4cir index` keeps what it has encoded until the index is written."""
    index = real_path(index)
    return index.with_name(f"{index.name}.unfinished")


class UnfinishedIndex:
    """The folder of an index that is being made by one network. As a context, it lets the folder go at the end.

    Args:
        folder: the folder; it is made when images are kept.
        composer: the network.
        weights: its weights.

    Raises:
        InputError: the folder contains something else.
    """

    def __init__(self, folder: Path, composer: Composer, weights: Weights) -> None:
        self.folder = folder
        self._composer, self._weights = composer, weights
        self._file: UnfinishedFile | None = None
        check_unfinished(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def images(self, stamps: PackedStamps, dtype: np.dtype[Any]) -> "KeptImages | None":
        """What is kept of the images to read; None if they are few.

        Args:
            stamps: the files of the images.
            dtype: the precision of their targets.

        Raises:
            InputError: the folder cannot be written, or another process writes to it.
        """
        if len(stamps) < LEAST_KEPT:
            return None
        settings = {
            "format": _FORMAT,
            "image side": image_side_hash(self._composer, self._weights),
            "preprocessing": value_hash(self._composer.preprocess.describe()),
            "head widths": list(self._weights.head_widths),
        }
        self._file = UnfinishedFile(self.folder, settings, dtype)
        return KeptImages(self._file, stamps)


class Restored(NamedTuple):
    """What is read from the records.

    Attributes:
        unread: whether an image has to be read, by position.
        encoded: number of images whose crop has targets, here or in the index.
        rows: the row of each crop whose targets are kept.
        targets: those targets, in the order of the rows, some at a time.
    """

    unread: Bool[ndarray, " images"]
    encoded: int
    rows: dict[bytes, int]
    targets: Iterator[Float[ndarray, "crops ..."]]


class KeptImages:
    """Records of images by their stamps, and of the targets of new crops.

    Args:
        file: the records.
        stamps: the images to index, by position.
    """

    def __init__(self, file: UnfinishedFile, stamps: PackedStamps) -> None:
        self._file = file
        self._stamps = stamps
        self._unread = len(stamps)
        self._has_space = False

    def keep(
        self,
        found: Sequence[tuple[int, ImageDigests]],
        crops: Sequence[bytes] = (),
        targets: Float[ndarray, "crops ..."] | None = None,
    ) -> None:
        """Adds a record.

        Args:
            found: the images that were read, by position.
            crops: the hashes of the new crops.
            targets: their targets, in the precision of the store, with the shape that the network gives them.

        Raises:
            InputError: the disk is full, or, with the first targets, has no room for those of all images.
        """
        if not found and not crops:
            return
        if targets is not None and not self._has_space:
            size = IMAGE.itemsize + DIGEST_BYTES + targets[0].nbytes
            remedy = "free some room, or write the index to another disk"
            require_space(self._file.folder, (self._unread - len(found)) * size, remedy)
            self._has_space = True
        rows = b"".join(self._stamp_hash(self._stamps[place]) + each.digest + each.crop for place, each in found)
        self._file.append(np.frombuffer(rows, IMAGE) if rows else np.empty(0, IMAGE), b"".join(crops), targets)

    def restore(self, images: PackedDigests, known: Callable[[bytes], bool], digests_alone: bool) -> Restored:
        """Sets the digests and the rows of the images that are kept.

        Args:
            images: the digests, by position.
            known: whether a crop is in the index already.
            digests_alone: whether an image counts as read although the targets of its crop are not kept.
        """
        kept, hashes, offsets, shape = self._read()
        found = self._found(kept)
        starts = range(0, len(hashes), DIGEST_BYTES)
        places = {hashes[start : start + DIGEST_BYTES]: place for place, start in enumerate(starts)}
        rows, used = np.full(len(offsets), -1, np.int64), array("q")
        unread, encoded = found < 0, 0
        for position in np.flatnonzero(~unread).tolist():
            image = kept[found[position]]
            digests = ImageDigests(image["digest"].tobytes(), image["crop"].tobytes())
            place, row = places.get(digests.crop), -1
            is_known = known(digests.crop)
            if place is not None and not is_known and (row := int(rows[place])) < 0:
                row = rows[place] = len(used)
                used.append(place)
            encoded += is_known or place is not None
            unread[position] = not (is_known or place is not None or digests_alone)
            if not unread[position]:
                images.put(position, digests, row)
        for crop in [crop for crop, place in places.items() if rows[place] < 0]:
            del places[crop]
        for crop, place in places.items():  # one dictionary takes as much memory as all else
            places[crop] = int(rows[place])
        self._unread = int(unread.sum())
        taken = offsets[np.frombuffer(used, np.int64)] if used else np.empty(0, np.int64)
        return Restored(unread, encoded, places, self._targets(taken, shape))

    def _read(self) -> tuple[ndarray, bytes, Int64[ndarray, " crops"], tuple[int, ...]]:
        """The images of all records, the hashes of all crops, the places of their targets, and the shape of these."""
        images, hashes, offsets, shape = bytearray(), bytearray(), array("q"), tuple[int, ...]()
        for record in self._file.records():
            images += record.images.tobytes()
            hashes += record.crops
            count = len(record.crops) // DIGEST_BYTES
            if count:
                shape = record.shape
                size = self._file.target_bytes(shape)
                offsets.extend(range(record.offset, record.offset + count * size, size))
        kept = np.frombuffer(images, IMAGE) if images else np.empty(0, IMAGE)
        return kept, bytes(hashes), np.array(offsets, np.int64), shape

    def _found(self, kept: ndarray) -> Int64[ndarray, " images"]:
        """The last record of each image, by position; -1 without one."""
        if not len(kept):
            return np.full(len(self._stamps), -1, np.int64)
        wanted = bytearray()
        for position in range(len(self._stamps)):
            wanted += self._stamp_hash(self._stamps[position])
        own = np.frombuffer(wanted, "<u8").reshape(-1, 2)
        stored = np.ascontiguousarray(kept["stamp"])
        order = np.argsort(stored[:, 0], kind="stable")
        places = np.searchsorted(stored[:, 0], own[:, 0], side="right", sorter=order) - 1
        found = order[np.maximum(places, 0)]
        return np.where((stored[found] == own).all(axis=1), found, -1)

    def _targets(
        self, offsets: Int64[ndarray, " crops"], shape: tuple[int, ...]
    ) -> Iterator[Float[ndarray, "crops ..."]]:
        """Yields targets at places in the file: those of successive crops of a record at once."""
        size = self._file.target_bytes(shape)
        starts = [0, *(np.flatnonzero(np.diff(offsets) != size) + 1).tolist(), len(offsets)]
        for first, last in pairwise(starts):
            if first < last:
                yield self._file.targets(int(offsets[first]), last - first, shape)

    @staticmethod
    def _stamp_hash(stamp: Stamp) -> bytes:
        content = f"{stamp.size} {stamp.modified} {stamp.path}".encode()
        return blake2b(content, digest_size=_STAMP_BYTES).digest()


def unread_batches(unread: Bool[ndarray, " images"], size: int) -> list[Sequence[int]]:
    """Cuts the images that have to be read into batches of at most `size`.

    Where no image of a batch is kept, it is the batch of a run that keeps nothing; the others are put together.
    """
    batches: list[Sequence[int]] = []
    rest: list[int] = []
    for first in range(0, len(unread), size):
        part = unread[first : first + size]
        if part.all():
            batches.append(range(first, first + len(part)))
        elif part.any():
            rest += (first + np.flatnonzero(part)).tolist()
            if len(rest) >= size:
                batches.append(rest[:size])
                rest = rest[size:]
    return [*batches, rest] if rest else batches
