"""Records are read in blocks of any size as the whole file is, with the same errors."""

import json
from pathlib import Path

import pytest

from spn4cir.datasets import json_records
from spn4cir.datasets.json_records import read_records
from spn4cir.errors import InputError
from spn4cir.json_files import read_json

RECORDS = [{"name": f"é{number}", "texts": ["is [red]", '}, {"'], "group": {"members": []}} for number in range(40)]
TEXT = json.dumps(RECORDS, ensure_ascii=False)


@pytest.fixture(params=[1, 7, 64, json_records._BLOCK], autouse=True)
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "_BLOCK", request.param)


@pytest.mark.parametrize("text", [TEXT, json.dumps(RECORDS, indent=2), f"\ufeff {TEXT}\n", "[]", " [ ] ", "[{}, {}]"])
def test_every_record_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert list(read_records(tmp_path / "a.json")) == json.loads(text.removeprefix("\ufeff"))


@pytest.mark.parametrize("text", ["{}", "null", "[1]", "[{}, 1]", "[[{}]]"])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: .*expected a JSON list of objects"):
        list(read_records(tmp_path / "a.json"))


DEEP, LONG_NUMBER = "[" * 100_000, f'[{{"a": 1{"0" * 5_000}}}]'


@pytest.mark.parametrize(
    "text",
    ["", "[", "[{}", "[{},]", "[,{}]", "[{} {}]", "[{}] x", "[{}],", TEXT[:-1], TEXT[:900], DEEP, LONG_NUMBER],
)
def test_a_file_that_is_no_json_has_the_error_of_the_whole(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as expected:
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError) as found:
        list(read_records(tmp_path / "a.json"))
    assert str(found.value) == str(expected.value)


def test_a_file_that_cannot_be_read_has_the_error_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: no such file"):
        list(read_records(tmp_path / "a.json"))
    (tmp_path / "b.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(InputError, match=r"b\.json: is not valid JSON"):
        list(read_records(tmp_path / "b.json"))


@pytest.mark.parametrize("record", ['{"a": 1, "b": 2, "a": 3}', '{"b": {"a": 1, "a": 1}}'])
def test_a_field_that_a_record_has_twice_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / "a.json").write_text(f'[{{"a": {{"a": 1}}}}, {record}]')
    with pytest.raises(InputError, match=r"a\.json: element 1 has the field 'a' twice; remove one"):
        list(read_records(tmp_path / "a.json"))
