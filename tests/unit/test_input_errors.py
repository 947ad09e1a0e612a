"""The form of the messages about bad input, and the checks that all readers of files share."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from spn4cir.config.base import Settings, short_repr
from spn4cir.errors import InputError, masked_url
from spn4cir.json_files import parse_json
from spn4cir.readable import check_file, check_text_file
from spn4cir.weights import check_tensors, read_plain


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a.json: 'é ß 赤' is bad", "a.json: 'é ß 赤' is bad"),
        ("a\nb\r\x1b[31m\u2028\ud83d", "a\\nb\\r\\x1b[31m\\u2028\\ud83d"),
        ("a" * 3_000 + "; write it again", "a" * 1_400 + " ... " + "a" * 584 + "; write it again"),
    ],
)
def test_a_message_is_one_line_without_control_characters(message: str, line: str) -> None:
    assert str(InputError(message)) == line


@pytest.mark.parametrize(
    "url",
    [
        "http://user:SECRET@host/v1",
        "http://:SECRET@host/v1",
        "http://u:p@SECRET@host/v1",
        "http://user:SECRET/x@host/v1",
        "https:user:SECRET@host",
        "qdrant:user:SECRET@host/shop",
        "//user:SECRET@host/v1",
        "qdrant+https://user:SECRET@host/shop",
        "http://host/v1?key=SECRET",
        "http://host/v1#SECRET",
        f"http://{'u' * 60}:SECRET@host/v1",
        "https:/user:SECRET@host",
        "qdrant:/user:SECRET@host/shop",
        "http://user:1234/SECRET@host/v1",
        "http://us/er:SECRET@host/v1",
        "https://SECRET/x@host/v1",
        "https:///SECRET@host/v1",
        "http://first.last:x/SECRET@host/v1",
        "http://user:x SECRET@host/v1",
        "http://user:1x/ SECRET@host/v1",
        "http://user:SECRET,http://x@host/v1",
        "http://user:;SECRET,http://x@host/v1",
        "x='http://@SECRET@host/v1'",
    ],
)
def test_the_secrets_of_a_url_are_masked(url: str) -> None:
    shown = (masked_url(url), short_repr(url), short_repr({"urls": [url]}))
    assert not [text for text in shown if "SECRET" in text or "***" not in text]
    if "@" in url:
        assert "SECRET" not in str(InputError(f"a.yaml: {url}: cannot be reached"))
    assert "host" in masked_url(url)


@pytest.mark.parametrize(
    "text",
    [
        "hf-hub:owner/name@main: has no file",
        "a@b.json: 'c@d' is absent",
        "http://127.0.0.1:8000/v1: write to a@b",
        "x//y@z",
        "see https://github.com/a/b",
        "https://huggingface.co/org/model@main",
        "https://img.site/a/photo@2x.jpg",
        "file:///srv/a/photo@2x.jpg",
        "qdrant:/srv/me@host/db",
        "http://localhost/a@b",
        "https://host: cannot be reached; write to a@b",
        "http://[::1]:8000/v1: write to a@b",
    ],
)
def test_other_texts_are_not_masked(text: str) -> None:
    assert str(InputError(text)) == masked_url(text) == text


@pytest.mark.parametrize("joint", [",", ", ", ";", "', '", ",'"])
def test_each_url_of_a_list_keeps_its_host(joint: str) -> None:
    urls = ("http://a:SECRET@one/v1", "https://two:8000/v1", "http://b:x@SECRET@three/v1")
    shown = ("http://***@one/v1", "https://two:8000/v1", "http://***@three/v1")
    assert str(InputError(joint.join(urls))) == masked_url(joint.join(urls)) == joint.join(shown)


@pytest.mark.parametrize("piece", ["a.", "/", "@", "://", "//a", "//a ", "http:", "//a@", "//u:p ", ",a://", "//a?"])
@pytest.mark.parametrize("end", ["", "@", "?x"])
def test_masking_takes_linear_time(piece: str, end: str) -> None:
    text = piece * (10**6 // len(piece)) + end
    begin = time.process_time()
    _ = str(InputError(text)), masked_url(text), short_repr(text)
    assert time.process_time() - begin < 5


def test_only_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    check_file(tmp_path / "file")
    check_file(tmp_path / "absent")
    for name in ("pipe", "device"):
        with pytest.raises(InputError, match=f"{name}: is a pipe, a socket or a device, expected a file"):
            check_file(tmp_path / name)
    with pytest.raises(InputError, match="is a folder, expected a file"):
        check_file(tmp_path)


@pytest.mark.parametrize("content", [b"[\0\0", b"\0\0]", "[]".encode("utf-16-le")])
def test_a_text_file_does_not_begin_or_end_with_zeros(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: begins or ends with a zero byte"):
        check_text_file(path)


def test_json_has_whole_characters() -> None:
    assert parse_json('["\\ud83d\\ude00"]') == ["😀"]
    assert parse_json('["\\\\ud83d"]') == ["\\ud83d"]
    with pytest.raises(ValueError, match=r"half a character, '\\ud83d'"):
        parse_json('["\\ud83d"]')
    with pytest.raises(ValueError, match="recursion"):
        parse_json("[" * 100_000)


class Numbers(Settings):
    size: int = 1
    share: float | None = None
    sizes: dict[str, int] | None = None
    ends: tuple[int, int] | None = None
    on: bool = True
    either: bool | int = 0


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"size": True}, "size"),
        ({"share": False}, "share"),
        ({"sizes": {"a": 1, "b": True}}, r"sizes\.b"),
        ({"ends": [1, True]}, "ends"),
    ],
)
def test_true_and_false_are_no_numbers(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=f" {key} should be another value than true or false"):
        Numbers(**values)


def test_true_and_false_are_values_where_they_are_meant() -> None:
    assert Numbers(on=False, either=True).either is True


def test_a_value_is_quoted_in_few_characters_whatever_it_contains() -> None:
    own: list[Any] = []
    own.append(own)
    bomb: list[Any] = [1] * 10
    for _ in range(9):
        bomb = [bomb] * 10
    assert all(len(short_repr(value)) <= 80 for value in (own, bomb, "a" * 10**6, 10**4_000))
    assert short_repr({"local": "a"}) == "{'local': 'a'}"


def test_weights_are_numbers() -> None:
    state = {"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor([float("inf")])}
    with pytest.raises(InputError, match=r"NaN \['a'\]; check the file"):
        check_tensors(state, {name: torch.zeros_like(each) for name, each in state.items()}, "c.pt")


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(10**12), torch.eye(2).to_sparse(), torch.zeros(10**12, device="meta")]
)
def test_a_tensor_has_the_bytes_of_its_shape(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"CLIP": {"a": tensor}}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"c\.pt: contains a tensor of shape .* without its numbers"):
        read_plain(tmp_path / "c.pt")


def test_a_part_of_a_larger_tensor_is_read(tmp_path: Path) -> None:
    torch.save({"CLIP": {"a": torch.arange(12).view(3, 4).t()[1:]}}, tmp_path / "c.pt")
    assert read_plain(tmp_path / "c.pt")["CLIP"]["a"].tolist() == [[1, 5, 9], [2, 6, 10], [3, 7, 11]]
