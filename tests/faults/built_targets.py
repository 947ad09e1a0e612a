"""Readers that the fuzzer gives files with correct checksums and lengths, and answers of a model's server.

Random changes of a tar or of a safetensors file nearly always break a checksum or the length of the header, which is
all that a reader of them would then be tried with.
"""

import asyncio
import json
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tarfile import BLOCKSIZE
from types import SimpleNamespace

from spn4cir.checkpoints.hub_folder import _read_tensors
from spn4cir.errors import InputError
from spn4cir.images import tars
from spn4cir.images.decoding import open_image
from spn4cir.positives.llm_answers import check_line
from spn4cir.served import urls
from spn4cir.served.messages import ChatRequest
from tests.faults.places import spoil
from tests.faults.readers import Reader

# Place of the checksum and of the magic word in the header of a tar's member.
_CHECKSUM, _MAGIC = slice(148, 156), slice(257, 262)
_BODY = bytes(64)


def tar_members(repair: bool, folder: Path) -> Reader:
    """Returns a reader of a tar's members, which may first repair the checksums of its headers."""

    def read(content: bytes) -> None:
        tars._index.cache_clear()  # files that follow each other fast have equal times
        path = spoil(folder / "0.tar", repaired(content) if repair else content)
        for name in tars.member_names(path)[:3]:
            open_image(path / name)

    return read


def repaired(content: bytes) -> bytes:
    """Returns a tar with a correct checksum in each header."""
    data = bytearray(content)
    for start in range(0, len(data) - BLOCKSIZE + 1, BLOCKSIZE):
        block = data[start : start + BLOCKSIZE]
        if block[_MAGIC] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = f"{sum(block):06o}\0 ".encode()
            data[start : start + BLOCKSIZE] = block
    return bytes(data)


def tensor_header(folder: Path) -> Reader:
    """Returns a reader of safetensors, whose input is the header; its length and 64 bytes of values are added."""

    def read(content: bytes) -> object:
        return _read_tensors(spoil(folder / "model.safetensors", struct.pack("<Q", len(content)) + content + _BODY))

    return read


def tensor_headers(_: Path) -> list[bytes]:
    """Returns headers of two and of three tensors."""
    first = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    second = {"dtype": "I64", "shape": [4], "data_offsets": [32, 64]}
    halves = {"dtype": "F16", "shape": [4, 4], "data_offsets": [32, 64]}
    tables = ({"a": first, "b": second}, {"__metadata__": {"format": "pt"}, "a": first, "c.weight": halves})
    return [json.dumps(table).encode() for table in tables]


def answers(_: Path) -> list[bytes]:
    """Returns chat completions: a text, parts with a thought, and the likely first words of a reranker."""
    first = {"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1, "bytes": None}]}
    choices: Sequence[dict[str, object]] = (
        {"message": {"role": "assistant", "content": "is red"}, "finish_reason": "stop"},
        {"message": {"role": "assistant", "content": [{"type": "text", "text": "<think>so</think> is red"}]}},
        {"message": {"role": "assistant", "content": None}, "finish_reason": "length"},
        {"message": {"role": "assistant", "content": "yes"}, "logprobs": {"content": [first]}},
    )
    about = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    errors = [{"error": {"message": "no such model", "type": "not_found"}}, {"detail": "too long"}]
    found = [about | {"choices": [{"index": 0, "logprobs": None} | choice]} for choice in choices]
    return [json.dumps(each).encode() for each in (*found, *errors)]


def model_server(_: Path) -> Reader:
    """Returns a client's reader of answers; those of odd length come with status 400."""
    import httpx2
    from openai import AsyncOpenAI

    given = b""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(400 if len(given) % 2 else 200, content=given)

    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = AsyncOpenAI(base_url="http://model.test/v1", api_key="none", max_retries=0, http_client=transport)
    urls._client = lambda *_: client
    urls.asyncio = SimpleNamespace(sleep=partial(asyncio.sleep, 0))

    def read(content: bytes) -> object:
        nonlocal given
        given = content
        server = urls.Urls("fuzz", ["http://model.test/v1"], "m")
        text, fault = check_line(asyncio.run(server.ask(ChatRequest("describe"))))
        if fault:
            raise InputError(fault)
        return text

    return read
