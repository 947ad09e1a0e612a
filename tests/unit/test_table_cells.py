"""Images in the rows of parquet and arrow files, read in place."""

import multiprocessing
import random
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.errors import InputError
from spn4cir.images import table_cells as cells
from spn4cir.images.decoding import open_image
from spn4cir.images.reading import content_hash, is_there, read_bytes
from spn4cir.images.table_cells import cell_path, open_rows
from tests.helpers.layouts import draw

ROWS = 50
BYTES = [f"image {row}".encode() * (row + 1) for row in range(ROWS)]
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table() -> pa.Table:
    """Structs as the library `datasets` writes them, plain bytes, names; row 7 is null, row 8 has no bytes."""
    structs: list[Any] = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(BYTES)]
    structs[7], structs[8] = None, {"bytes": None, "path": "8.png"}
    names = pa.array([f"{row}.png" for row in range(ROWS)])
    return pa.table({"image": pa.array(structs, KIND), "a/b": pa.array(BYTES), "name": names})


@pytest.fixture(params=["parquet", "stream", "file"])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.param == "parquet":
        pq.write_table(table(), tmp_path / "t.parquet", row_group_size=20)
        return tmp_path / "t.parquet"
    path = tmp_path / "t.arrow"
    open_writer = pa.ipc.new_stream if request.param == "stream" else pa.ipc.new_file
    with open_writer(path, table().schema) as writer:
        writer.write_table(table(), max_chunksize=20)
    return path


def test_every_cell_in_any_order(file: Path) -> None:
    rows = [(row, column) for row in range(ROWS) for column in ("image", "a/b")]
    random.Random(0).shuffle(rows)
    for row, column in [*sorted(rows), *rows]:
        path = cell_path(file, row, column)
        if column == "image" and row in (7, 8):
            assert not is_there(path)
            with pytest.raises(FileNotFoundError):
                read_bytes(path)
        else:
            assert read_bytes(path) == BYTES[row]
            assert is_there(path)


@pytest.mark.parametrize("inner", ["50/image", "-1/image", "x/image", "3", "3/gone", "image"])
def test_paths_that_lead_to_no_cell(file: Path, inner: str) -> None:
    assert not is_there(file / inner)
    with pytest.raises(InputError, match="no such image"):
        open_image(file / inner)


def test_a_column_of_another_kind_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"column name: is of type string, expected bytes, \{bytes, path\}, or a"):
        read_bytes(cell_path(file, 3, "name"))


def _read(path: Path) -> bytes:
    return read_bytes(path)


def test_processes_that_are_forked_read_on_their_own(file: Path) -> None:
    assert read_bytes(cell_path(file, 30, "image")) == BYTES[30]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(_read, [cell_path(file, row, "a/b") for row in range(ROWS)], chunksize=1)
    assert found == BYTES


def test_reading_forward_reads_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns in turn; one row group, of which a few rows are held at a time."""
    pq.write_table(table(), tmp_path / "t.parquet")
    starts: list[tuple[str, ...]] = []
    whole = cells.TableRows.batches

    def counted(self: cells.TableRows, columns: Any, group: int | None = None) -> Any:
        starts.append(tuple(columns))
        for batch in whole(self, columns, group):
            assert batch.num_rows <= 16
            yield batch

    monkeypatch.setattr(cells.TableRows, "batches", counted)
    for row in range(9, ROWS):
        for column in ("image", "a/b"):
            read_bytes(cell_path(tmp_path / "t.parquet", row, column))
    assert starts == [("image",), ("a/b",)]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table(), path)
    assert content_hash(cell_path(path, 1, "a/b")) != content_hash(cell_path(path, 2, "a/b"))
    pq.write_table(pa.table({"a/b": [b"other"]}), path)
    assert read_bytes(cell_path(path, 0, "a/b")) == b"other"
    assert open_rows(path).rows == 1


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_damaged_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no table")
    with pytest.raises(InputError, match=rf"{name}: cannot be read as \w+ \(.*\); write or download it again"):
        is_there(cell_path(tmp_path / name, 0, "image"))


def test_an_image_is_decoded_from_its_row(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 5)
    content = (tmp_path / "a.png").read_bytes()
    pq.write_table(pa.table({"image": [content, content[:50]]}), tmp_path / "t.parquet")
    assert open_image(tmp_path / "t.parquet/0/image").tobytes() == open_image(tmp_path / "a.png").tobytes()
    with pytest.raises(InputError, match=r"t\.parquet/1/image: cannot be decoded"):
        open_image(tmp_path / "t.parquet/1/image")


def test_an_arrow_file_with_invalid_offsets_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.arrow"
    small = pa.table({"image": pa.array([b"a" * 7, b"b" * 9, b"c" * 5])})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, small.schema) as writer:
        writer.write_table(small)
    content, offsets = file.read_bytes(), struct.pack("<4i", 0, 7, 16, 21)
    assert content.count(offsets) == 1
    file.write_bytes(content.replace(offsets, struct.pack("<4i", 0, 7, 1 << 30, 21)))
    with pytest.raises(InputError, match=r"t\.arrow: cannot be read as arrow .*; write or download it again"):
        read_bytes(cell_path(file, 1, "image"))


def test_a_parquet_file_with_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"name": pa.array([b"\xff"]).view(pa.string())}), file)
    with pytest.raises(InputError, match=r"t\.parquet: cannot be read as parquet .*; write or download it again"):
        list(open_rows(file).batches(["name"]))
