"""What is known of images that were read for an index, in columns: an object for each would take over 500 bytes."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spn4cir.errors import InputError
from spn4cir.packed import PackedTexts
from spn4cir.search.image_files import DIGEST_BYTES, ImageDigests, Stamp


class PackedStamps:
    """The stamps of files, by position.

    Attributes:
        paths: the absolute paths.
        sizes: the sizes in bytes.
        times: the modification times in nanoseconds.
    """

    def __init__(self, paths: PackedTexts, sizes: "array[int]", times: "array[int]") -> None:
        self.paths, self.sizes, self.times = paths, sizes, times

    @classmethod
    def of(cls, stamps: Iterable[Stamp]) -> "PackedStamps":
        """Packs stamps."""
        packed = cls(PackedTexts(()), array("q"), array("q"))
        for stamp in stamps:
            packed.paths.append(stamp.path)
            packed.sizes.append(stamp.size)
            packed.times.append(stamp.modified)
        return packed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Stamp:
        return Stamp(self.paths[position], self.sizes[position], self.times[position])


class PackedDigests:
    """The digests of images, by position, an error in place of those of an image that cannot be decoded.

    Args:
        count: number of images at first, whose digests are zeros until `put` sets them.

    Attributes:
        errors: the errors, by position.
        rows: for each image, the row of its targets among those of the new crops; -1 if its crop is not new.
        decoded: the hashes of the decoded pixels, one after the other.
        crops: the hashes of the cropped pixels, one after the other.
    """

    def __init__(self, count: int = 0) -> None:
        self.errors: dict[int, InputError] = {}
        self.rows = array("q", [-1]) * count
        self.decoded = bytearray(count * DIGEST_BYTES)
        self.crops = bytearray(count * DIGEST_BYTES)

    def append(self, found: ImageDigests | InputError, row: int = -1) -> None:
        """Adds an image, and the row of its targets."""
        self.rows.append(-1)
        self.decoded += bytes(DIGEST_BYTES)
        self.crops += bytes(DIGEST_BYTES)
        self.put(len(self) - 1, found, row)

    def put(self, position: int, found: ImageDigests | InputError, row: int = -1) -> None:
        """Sets the digests or the error of an image, and the row of its targets."""
        if isinstance(found, InputError):
            self.errors[position] = found
            return
        here = slice(position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES)
        self.rows[position] = row
        self.decoded[here] = found.digest
        self.crops[here] = found.crop

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> ImageDigests | InputError:
        return self.errors[position] if position in self.errors else self.digests(position)

    def __iter__(self) -> Iterator[ImageDigests | InputError]:
        return map(self.__getitem__, range(len(self)))

    def digests(self, position: int) -> ImageDigests:
        """The digests of an image that was decoded."""
        here = slice(position * DIGEST_BYTES, (position + 1) * DIGEST_BYTES)
        return ImageDigests(bytes(self.decoded[here]), bytes(self.crops[here]))


@dataclass(frozen=True)
class ReadImages:
    """Images that were decoded.

    Attributes:
        names: the names.
        stamps: their files.
        digests: their digests, without an error.
    """

    names: Sequence[str]
    stamps: PackedStamps
    digests: PackedDigests

    @classmethod
    def decoded(cls, names: Sequence[str], stamps: PackedStamps, found: PackedDigests) -> "ReadImages":
        """The images without an error among those with these names and stamps."""
        if not found.errors:
            return cls(names, stamps, found)
        kept = [position for position in range(len(names)) if position not in found.errors]
        digests = PackedDigests()
        for position in kept:
            digests.append(found.digests(position), found.rows[position])
        return cls([names[position] for position in kept], PackedStamps.of(map(stamps.__getitem__, kept)), digests)

    def __len__(self) -> int:
        return len(self.names)
