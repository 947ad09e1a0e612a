"""Tables and tars with a fault: cut, of other types, with names that leave their folder, links and devices."""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.datasets.cc3m import Cc3m
from tests.faults.annotation_cases import NOT_TEXT
from tests.faults.attempts import Case
from tests.faults.places import Place, spoil

KIND = "tables and tars"
_CUTS = 12
_TAR, _TABLE = "00000.tar", "t.parquet"
# Columns of each type that is no text and no image.
_TYPES: dict[str, pa.Array] = {
    "null": pa.nulls(2),
    "truth values": pa.array([True, False]),
    "numbers": pa.array([1, 2]),
    "fractions": pa.array([0.5, float("nan")]),
    "lists of numbers": pa.array([[1], [2]]),
    "empty lists": pa.array([[], []], pa.list_(pa.string())),
    "structs": pa.array([{"a": 1}, {"a": 2}]),
    "structs with bytes of numbers": pa.array([{"bytes": 1}, {"bytes": 2}]),
    "structs without bytes": pa.array([{"path": "a.png"}, {"path": "b.png"}]),
    "times": pa.array([0, 1], pa.timestamp("s")),
    "decimals": pa.array([1, 2], pa.decimal128(5)),
    "bytes that are no images": pa.array([b"a", b"b"]),
    "bytes that are no text": pa.array([b"\xff", b"\xfe"]).view(pa.binary()),
    "maps": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
}
# Types that a column may have.
_WORK = {
    "category": tuple(_TYPES),
    "reference": (),
    "text": (),
    "split": ("null",),
}


def _check(place: Place, root: Path) -> Sequence[object]:
    return "check-data", "--layout", "table", "--root", root, "--workers", 0


def _retyped(column: str, values: pa.Array, place: Place) -> Sequence[object]:
    root = place.copy("table")
    table = pq.read_table(root / _TABLE)
    if column in table.column_names:
        table = table.set_column(table.column_names.index(column), column, values)
    else:
        table = table.append_column(column, values)
    spoil(root / _TABLE, b"").unlink()
    pq.write_table(table, root / _TABLE)
    return _check(place, root)


def _table_bytes(change: Callable[[Path], object], place: Place) -> Sequence[object]:
    root = place.copy("table")
    change(root / _TABLE)
    return _check(place, root)


def _cut_table(number: int, path: Path) -> None:
    whole = path.read_bytes()
    spoil(path, whole[: len(whole) * number // _CUTS])


def _flipped(number: int, path: Path) -> None:
    """Inverts 64 bytes, from a place near the end, where the description of the columns is."""
    whole = bytearray(path.read_bytes())
    begin = len(whole) - 64 * (number + 1)
    whole[begin : begin + 64] = bytes(255 - each for each in whole[begin : begin + 64])
    spoil(path, bytes(whole))


def _footer_of(length: int, path: Path) -> None:
    whole = path.read_bytes()
    spoil(path, whole[:-8] + length.to_bytes(4, "little") + b"PAR1")


def _described(text: str, place: Place) -> Sequence[object]:
    """A table whose metadata of the library `datasets` is a text of one's own; it is ignored when it says nothing."""
    root = place.copy("table")
    table = pq.read_table(root / _TABLE).replace_schema_metadata({"huggingface": text})
    (root / _TABLE).unlink()
    pq.write_table(table, root / _TABLE)
    return _check(place, root)


def _arrow(change: Callable[[bytes], bytes], place: Place) -> Sequence[object]:
    root = place.copy("table")
    table = pq.read_table(root / _TABLE)
    (root / _TABLE).unlink()
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    spoil(root / "t.arrow", change(stream.getvalue()))
    return _check(place, root)


def _table_cases() -> Iterator[Case]:
    for column in ("reference", "text", "split", "category"):
        for name, values in _TYPES.items():
            if column == "reference" and name in ("bytes that are no images", "bytes that are no text"):
                continue  # an image that cannot be decoded is listed, on stdout
            words, status = ("ok: all", 0) if name in _WORK[column] else (r"t\.parquet", 1)
            make = partial(_retyped, column, values)
            yield Case(KIND, f"table with {column} of {name}", make, words, status)
    for number in range(_CUTS):
        make = partial(_table_bytes, partial(_cut_table, number))
        yield Case(KIND, f"parquet cut after {number} of {_CUTS} parts", make, r"t\.parquet")
    for number in range(6):
        make = partial(_table_bytes, partial(_flipped, number))
        yield Case(KIND, f"parquet with 64 other bytes, {number}", make, r"t\.parquet")
    for length in (0, 1, 10**6, 2**32 - 1):
        make = partial(_table_bytes, partial(_footer_of, length))
        yield Case(KIND, f"parquet with a footer of {length} bytes", make, r"t\.parquet")
    for name, change in NOT_TEXT.items():
        if name not in ("UTF-16", "Latin-1"):
            words = "no .parquet|t.parquet" if name in ("a folder", "a link to itself") else r"t\.parquet"
            yield Case(KIND, f"parquet is {name}", partial(_table_bytes, change), words)
    for text in (
        "",
        "{",
        "[]",
        "7",
        '{"info": 7}',
        '{"info": {"features": [1]}}',
        '{"info": {"features": {"split": 7}}}',
    ):
        yield Case(KIND, f"parquet with the metadata {text!r}", partial(_described, text), "ok: all", 0)
    for name, change in {
        "cut": lambda data: data[: len(data) // 2],
        "empty": lambda data: b"",
        "of zeros": lambda data: bytes(4_096),
        "a text": lambda data: b"not a table",
        "with a message of 2 GB": lambda data: b"\xff\xff\xff\xff\xff\xff\xff\x7f" + data,
    }.items():
        yield Case(KIND, f"arrow {name}", partial(_arrow, change), r"t\.arrow")


def _member(name: str, content: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    data = b"" if content is None else content
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def _tar(place: Place, members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    """Adds members to a tar of three images. Returns the root of its data set."""
    root = place.copy("tars")
    content = (root / _TAR).read_bytes()
    spoil(root / _TAR, content)
    with tarfile.open(root / _TAR, "a", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return root


def _pool(root: Path) -> Callable[[], object]:
    return lambda: f"{len(Cc3m(root, None, 'error').images())} images"


def _with_members(members: Sequence[tuple[tarfile.TarInfo, bytes]], place: Place) -> Callable[[], object]:
    return _pool(_tar(place, members))


def _tar_bytes(change: Callable[[bytes], bytes], place: Place) -> Callable[[], object]:
    root = place.copy("tars")
    spoil(root / _TAR, change((root / _TAR).read_bytes()))
    return _pool(root)


def _block(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """Returns the header of a member with a stated size, 12 bytes."""
    block = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _extended(kind: bytes, content: bytes) -> bytes:
    """Returns a member that describes the next one."""
    return _block(b"a", b"%011o\0" % len(content), kind) + content.ljust(tarfile.BLOCKSIZE, b"\0")


_NEGATIVE = b"\xff" * 10 + b"\xfe\x00"
# After this member, the position of the next header is that of a member of negative size again.
_FIRST = _block(b"first.jpg", b"%011o\0" % 0)
_HUGE = b"\x80" + b"\x7f" + b"\0" * 10
_TARS: dict[str, Callable[[bytes], bytes]] = {
    "of zero bytes": lambda data: b"",
    "of zeros": lambda data: bytes(20_480),
    "a text": lambda data: b"not found" * 100,
    "compressed by gzip": lambda data: b"\x1f\x8b" + data,
    "with a member of negative size": lambda data: _FIRST + _block(b"a.jpg", _NEGATIVE) + data,
    "with an unknown member of negative size": lambda data: _FIRST + _block(b"a.jpg", _NEGATIVE, b"Z") + data,
    "with a long name of negative size": lambda data: _block(b"a.jpg", _NEGATIVE, b"L") + data,
    "with a member of a huge size": lambda data: _block(b"a.jpg", _HUGE) + data,
    "with a long name of a huge size": lambda data: _block(b"a.jpg", _HUGE, b"L") + data,
    "with properties of a huge size": lambda data: _block(b"a.jpg", _HUGE, b"x") + data,
    "with 5,000 long names": lambda data: _extended(b"L", b"a") * 5_000 + data,
    "with a wrong checksum": lambda data: data[:148] + b"0000000\0" + data[156:],
    "with other bytes between members": lambda data: data[:1_024] + b"\xff" * 512 + data[1_024:],
    "with 4 MB of zeros after its end": lambda data: data + bytes(4 << 20),
}  # fmt: skip
_NAMES = {
    "a path upwards": "../../escaped.jpg",
    "an absolute path": "/tmp/escaped.jpg",
    "a path of another system": "..\\..\\escaped.jpg",
    "a path of 300 characters": f"{'a' * 300}.jpg",
    "a line break": "a\nb.jpg",
}
_KINDS = {
    "a link": tarfile.SYMTYPE, "a hard link": tarfile.LNKTYPE, "a device": tarfile.CHRTYPE, "a disk": tarfile.BLKTYPE,
    "a pipe": tarfile.FIFOTYPE, "a folder": tarfile.DIRTYPE,
}  # fmt: skip


def _read_all(members: Sequence[tuple[tarfile.TarInfo, bytes]], place: Place) -> Callable[[], object]:
    """Decodes the images of a tar as well, and fails if a file appeared beside it."""
    from spn4cir.images.usable import image_faults

    root = _tar(place, members)
    before = sorted(place.data.parent.rglob("*"))

    def read() -> str:
        images = Cc3m(root, None, "error").images()
        faults = image_faults([image.path for image in images], 0, "read")
        assert sorted(place.data.parent.rglob("*")) == before
        return f"{len(images)} images, {len(faults)} broken"

    return read


def _image() -> bytes:
    from tests.faults.image_cases import drawn

    return drawn("JPEG")


def _tar_cases() -> Iterator[Case]:
    for number in range(1, _CUTS):
        make = partial(_tar_bytes, lambda data, number=number: data[: 5_000 * number // _CUTS])
        yield Case(KIND, f"tar cut after {number} of {_CUTS} parts", make, r"00000\.tar")
    for name, change in _TARS.items():
        yield Case(
            KIND, f"tar {name}", partial(_tar_bytes, change), r"error: (00000\.tar: is (cut|compressed)|: no image)"
        )
    for name, properties in {"none": b"7 a=\xff\n", "without a length": b"a"}.items():
        make = partial(_tar_bytes, lambda data, properties=properties: _extended(b"x", properties) + data)
        yield Case(KIND, f"tar with properties that are {name}", make, "3 images", 0)
    for name, path in _NAMES.items():
        make = partial(_named, path)
        yield Case(KIND, f"tar with a member named by {name}", make, "4 images, 0 broken", 0)
    half = partial(_named, "a\udcff.jpg")
    yield Case(KIND, "tar with a member named by half a character", half, "1 of 4 images whose names are not UTF-8")
    for name, kind in _KINDS.items():
        make = partial(_linked, kind)
        yield Case(KIND, f"tar with {name}", make, "3 images, 0 broken", 0)
    yield Case(KIND, "tar with a name twice", _twice, r"00000\.tar: contains .* twice")
    yield Case(KIND, "tar with a member with holes", _holed, r"00000\.tar")


def _named(path: str, place: Place) -> Callable[[], object]:
    return _read_all([_member(path, _image())], place)


def _linked(kind: bytes, place: Place) -> Callable[[], object]:
    return _read_all([_member("link.jpg", type=kind, linkname="/etc/passwd", devmajor=1, devminor=5)], place)


def _twice(place: Place) -> Callable[[], object]:
    return _with_members([_member("000000000.jpg", _image())], place)


def _holed(place: Place) -> Callable[[], object]:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 12}
    info, data = _member("holed.jpg", b"1\n0\n512\n".ljust(512, b"\0") + bytes(512), pax_headers=headers)
    return _pool(_tar(place, [(info, data)], tarfile.PAX_FORMAT))


def cases() -> Iterator[Case]:
    """Yields the cases of tables and tars."""
    yield from _table_cases()
    yield from _tar_cases()
