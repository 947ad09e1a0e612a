"""The readers that the fuzzer calls, each with the bytes of a valid file."""

import json
import tarfile
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from urllib.parse import quote_from_bytes

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save

from spn4cir import Retriever
from spn4cir.checkpoints.hub_folder import _read_tensors
from spn4cir.checkpoints.published import read_checkpoint
from spn4cir.composers.bert_tokenizer import folder_vocabulary
from spn4cir.config.load import parse_params, published_file
from spn4cir.datasets import open_benchmark
from spn4cir.datasets.cc3m import Cc3m
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.search.index_folder import read_index, read_manifest
from spn4cir.serving.api import create_app
from spn4cir.serving.service import SearchService
from tests.faults.built_targets import answers, model_server, tar_members, tensor_header, tensor_headers
from tests.faults.image_cases import drawn
from tests.faults.places import WRITERS, spoil
from tests.faults.readers import Reader, Target
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write_folder


def _records(layout: str, file: str, folder: Path) -> Reader:
    root = folder / layout
    if not root.is_dir():
        WRITERS[layout](root)
    options = {"annotations": file} if layout == "folder" else {}

    def read(content: bytes) -> object:
        spoil(root / file, content)
        if layout == "part files":
            return Cc3m(root, None, "error").images()
        return open_benchmark(layout, root, "error", options).annotated_splits()

    return read


def _seed(layout: str, file: str, folder: Path) -> list[bytes]:
    root = folder / f"seeds of {layout}"
    WRITERS[layout](root)
    return [(root / file).read_bytes()]


def _at(name: str, read: Callable[[Path], object], folder: Path) -> Reader:
    """Returns a reader of a path, whose bytes are written there."""
    return lambda content: read(spoil(folder / name, content))


def _tar(_: Path) -> list[bytes]:
    """Returns a small tar, so that a change meets a header rather than pixels."""
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
            for name in ("a.png", "folder/b.png", "x" * 90 + "/é.png"):
                content = drawn("PNG", side=4)
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        found.append(stream.getvalue())
    return found


def _arrow(folder: Path) -> list[bytes]:
    table = pq.read_table(BytesIO(_seed("table", "t.parquet", folder)[0]))
    stream = BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return [stream.getvalue()]


def _arrow_table(folder: Path) -> Reader:
    root = folder / "arrow"
    return _at("arrow/t.arrow", lambda _: open_benchmark("table", root, "error").annotated_splits(), folder)


def _weights(_: Path) -> list[bytes]:
    found = []
    for new in (True, False):
        stream = BytesIO()
        content = {"epoch": 1, "CLIP": {"visual.proj": torch.zeros(2, 3), "ln_final.bias": torch.ones(2)}}
        torch.save(content, stream, _use_new_zipfile_serialization=new)
        found.append(stream.getvalue())
    return found


def _tensors(_: Path) -> list[bytes]:
    return [save({"a": torch.zeros(2, 3), "b": torch.ones(2, dtype=torch.int64)})]


_KINDS = (
    ("PNG", "RGB"),
    ("JPEG", "RGB"),
    ("WEBP", "RGB"),
    ("GIF", "P"),
    ("TIFF", "RGB"),
    ("BMP", "RGB"),
    ("PNG", "I;16"),
)


def _images(_: Path) -> list[bytes]:
    return [drawn(kind, mode, 16) for kind, mode in _KINDS]


def _manifest(folder: Path) -> list[bytes]:
    root = folder / "index"
    if not root.is_dir():
        WRITERS["index"](root)
    return [(root / "index.json").read_bytes()]


def _index(folder: Path) -> Reader:
    _manifest(folder)
    root = folder / "index"

    def read(content: bytes) -> object:
        spoil(root / "index.json", content)
        return read_index(root, read_manifest(root))

    return read


_BOUNDARY = "boundary"


def _form(**fields: str | bytes) -> bytes:
    parts = []
    for name, value in fields.items():
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
        data = value.encode() if isinstance(value, str) else value
        file = b'; filename="a.png"\r\nContent-Type: image/png' if isinstance(value, bytes) else b""
        parts.append(head.encode() + file + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def _forms(_: Path) -> list[bytes]:
    return [_form(text="is red", reference="mugs/0.png", k="3"), _form(text="is red", image=drawn("PNG", side=16))]


def _fields(_: Path) -> list[bytes]:
    return [b"text=is+red&reference=mugs%2F0.png&k=3"]


def _vocabulary(_: Path) -> list[bytes]:
    return [json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}).encode()]


class ServerFault(Exception):
    """The endpoint answered with a status that is neither a success nor a fault of the request."""


@cache
def _client(folder: Path) -> TestClient:
    """Returns a client of the endpoint over six images, whose files are in a folder."""
    gallery = write_folder(folder / "gallery", images=6)
    retriever = Retriever.from_checkpoint(write_checkpoint(folder / "best.pt"), workers=0, device="cpu")
    retriever.index(gallery)
    app = create_app(SearchService(retriever, gallery), ["127.0.0.1"])
    client = TestClient(app, "http://127.0.0.1")
    client.__enter__()  # until the process of the fuzzer ends
    return client


def _judge(status: int, text: str) -> None:
    """Raises what a reader of a file raises: InputError for a refusal, another error for a fault of the server."""
    if status >= 500:
        raise ServerFault(f"{status}: {text[:300]}")
    if status >= 400:
        raise InputError(f"{status}: {text[:300]}")


def _posted(kind: str, folder: Path) -> Reader:
    client = _client(folder.parent / "endpoint")

    def read(content: bytes) -> None:
        answer = client.post("/api/search", content=content, headers={"Content-Type": kind})
        _judge(answer.status_code, answer.text)

    return read


def _asked(folder: Path) -> Reader:
    client = _client(folder.parent / "endpoint")

    def read(content: bytes) -> None:
        answer = client.get("/api/images?" + quote_from_bytes(content[:4_000], "=&%+"))
        _judge(answer.status_code, answer.text)

    return read


def _params(_: Path) -> Reader:
    def read(content: bytes) -> object:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return None
        return parse_params(text, "params.yaml")

    return read


_RECORDS = {
    "fashioniq": "captions/cap.dress.train.json",
    "cirr": "cirr/captions/cap.rc2.val.json",
    "circo": "annotations/val.json",
    "genecis": "genecis/focus_attribute.json",
    "folder": "triplets.csv",
    "part files": "part_0.data",
    "table": "t.parquet",
}
TARGETS = (
    *(Target(each, partial(_seed, each, file), partial(_records, each, file)) for each, file in _RECORDS.items()),
    Target("arrow", _arrow, _arrow_table),
    Target("tar", _tar, partial(tar_members, False)),
    Target("tar with correct checksums", _tar, partial(tar_members, True)),
    Target("params", lambda _: [published_file().read_bytes()], _params),
    Target("checkpoint", _weights, partial(_at, "best.pt", read_checkpoint)),
    Target("safetensors", _tensors, partial(_at, "model.safetensors", _read_tensors)),
    Target("header of safetensors", tensor_headers, tensor_header),
    Target(
        "vocabulary", _vocabulary, partial(_at, "words/tokenizer.json", lambda path: folder_vocabulary(path.parent))
    ),
    Target("index", _manifest, _index),
    Target("image", _images, partial(_at, "a.png", open_image)),
    Target("form", _forms, partial(_posted, f"multipart/form-data; boundary={_BOUNDARY}")),
    Target("urlencoded", _fields, partial(_posted, "application/x-www-form-urlencoded")),
    Target("answer of a model's server", answers, model_server),
    Target("address", lambda _: [b"contains=mug&offset=0&limit=3"], _asked),
)
