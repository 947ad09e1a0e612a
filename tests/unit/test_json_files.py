"""JSON files: order and letters kept, streamed, refused with one line."""

from pathlib import Path

import pytest

from spn4cir.errors import InputError
from spn4cir.json_files import JsonEntries, read_json, write_json
from tests.helpers.memory import peak_bytes_each


def test_json_keeps_order_and_letters(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "Größe"}
    write_json(tmp_path / "a.json", value)
    assert (tmp_path / "a.json").read_bytes() == '{"b": [1, 2.5, null], "a": "Größe"}\n'.encode()
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


def test_an_element_of_an_iterator_is_made_when_it_is_written(tmp_path: Path) -> None:
    def write(count: int) -> None:
        rows = ((f"{number:09d}", number) for number in range(count))
        write_json(tmp_path / "a.json", {"rows": (f"{number:09d}" for number in range(count)), "of": JsonEntries(rows)})

    assert peak_bytes_each(write) < 10


@pytest.mark.parametrize("count", [0, 1, 3])
def test_entries_are_written_as_an_object(tmp_path: Path, count: int) -> None:
    write_json(tmp_path / "a.json", [JsonEntries((str(number), number) for number in range(count))])
    assert read_json(tmp_path / "a.json") == [{str(number): number for number in range(count)}]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_iterator_is_written_as_a_list(tmp_path: Path, count: int) -> None:
    write_json(tmp_path / "a.json", iter(range(count)))
    assert read_json(tmp_path / "a.json") == list(range(count))
    write_json(tmp_path / "a.json", {"rows": iter(range(count))}, indent=2)
    assert read_json(tmp_path / "a.json") == {"rows": list(range(count))}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"[" + b"1" * 5000 + b"]", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json: {problem}"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="is a folder, expected a file"):
        read_json(tmp_path)


@pytest.mark.parametrize("value", [b"ab", {"a"}, Path("a")], ids=["bytes", "set", "path"])
def test_what_is_no_json_is_refused_and_nothing_is_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be written as JSON"):
        write_json(tmp_path / "a.json", {"a": value})
    assert not list(tmp_path.iterdir())
