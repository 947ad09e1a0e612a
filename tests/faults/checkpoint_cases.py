"""Files of weights with a fault: containers, tensors, code, archives and headers."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.faults.annotation_cases import FILES_THAT_ARE_NONE
from tests.faults.attempts import Case
from tests.faults.places import Place, spoil
from tests.helpers.checkpoints import container, tiny_state

KIND = "checkpoints"
_NAME = r"best\.pt: "
_CUTS = 12
_BIAS = "ln_final.bias"
# Functions that run code, or change files, when a pickle names them.
GADGETS = (
    ("os", "system", "touch ran"),
    ("posix", "system", "touch ran"),
    ("subprocess", "check_output", ["touch", "ran"]),
    ("builtins", "eval", "open('ran', 'w')"),
    ("builtins", "exec", "open('ran', 'w')"),
    ("builtins", "getattr", "ran"),
    ("runpy", "run_path", "ran"),
    ("shutil", "rmtree", "."),
    ("importlib", "import_module", "antigravity"),
    ("webbrowser", "open", "http://127.0.0.1:9/"),
    ("torch.hub", "load_state_dict_from_url", "http://127.0.0.1:9/"),
    ("numpy", "fromfile", "/etc/passwd"),
    ("operator", "methodcaller", "system"),
    ("pathlib", "Path.touch", "ran"),
)


@cache
def _state() -> dict[str, Tensor]:
    return tiny_state()


def _changed(stage: int = 1, **changes: Any) -> dict[str, Any]:
    """Returns a container with other tensors; None removes one."""
    named = _state() | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return container({name: tensor for name, tensor in named.items() if tensor is not None}, stage)


def _packed(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _inspect(make: Callable[[], Any], place: Place) -> Sequence[object]:
    made = make()
    return "inspect", spoil(place.data / "best.pt", made if isinstance(made, bytes) else _packed(made))


def _of(kind: torch.dtype) -> dict[str, Any]:
    return _changed(**{_BIAS: torch.ones(64, dtype=kind)})


def _holed(value: float) -> dict[str, Any]:
    bias = torch.zeros(64)
    bias[5] = value
    return _changed(**{_BIAS: bias})


def _sparse() -> Tensor:
    return torch.sparse_coo_tensor(
        torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10**12,), check_invariants=False
    )


class _Gadget:
    """A pickle of this object calls a function with a word."""

    def __init__(self, module: str, name: str, word: Any) -> None:
        self.parts = module, name, word

    def pickled(self) -> bytes:
        """Returns the pickle, of protocol 2, without importing the function."""
        module, name, word = self.parts
        argument = pickle.dumps((word,), protocol=2)[2:-1]
        return b"\x80\x02c" + f"{module}\n{name}\n".encode() + argument + b"R."


def _archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    """Returns an archive as torch.save writes it, with a pickle of one's own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for name, content in records.items():
            archive.writestr(f"archive/data/{name.removeprefix('r')}", content)
    return stream.getvalue()


def _bomb() -> bytes:
    """Returns the file of a tensor of 2 GB zeros, compressed."""
    whole = _packed({"CLIP": {_BIAS: torch.zeros(8)}})
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in source.infolist():
            if "/data/" not in each.filename:
                archive.writestr(each.filename, source.read(each))
                continue
            with archive.open(each.filename, "w", force_zip64=True) as record:
                block = bytes(1 << 24)
                for _ in range(2 << 6):
                    record.write(block)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def _recursive() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["CLIP"] = content
    return content


_CONTENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "with a repeated tensor of a million million numbers": (
        lambda: _changed(**{_BIAS: torch.zeros(1).expand(10**12)}), "without its numbers"),
    "with a sparse tensor of a million million numbers": (
        lambda: _changed(**{_BIAS: _sparse()}), "without its numbers"),
    "with a tensor of no device": (
        lambda: _changed(**{_BIAS: torch.zeros(10**12, device="meta")}), "without its numbers"),
    "with a wide tensor": (lambda: _changed(**{"ln_final.weight": torch.zeros(1 << 20)}), "shape|width|fit"),
    "with a tensor of no numbers": (lambda: _changed(**{_BIAS: torch.zeros(0)}), r"\(0,\) instead of"),
    "with a scalar instead of a vector": (lambda: _changed(**{_BIAS: torch.zeros(())}), r"\(\) instead of"),
    "with NaN": (lambda: _holed(float("nan")), r"NaN \['ln_final.bias'\]"),
    "with integers": (lambda: _of(torch.int64), "ln_final.bias of torch.int64"),
    "with truth values": (lambda: _of(torch.bool), "ln_final.bias of torch.bool"),
    "with bytes": (lambda: _of(torch.uint8), "ln_final.bias of torch.uint8"),
    "with complex numbers": (lambda: _of(torch.complex64), "ln_final.bias of torch.complex64"),
    "with a text instead of a tensor": (lambda: _changed(**{_BIAS: "a"}), "unexpected .*ln_final.bias"),
    "with a list instead of a tensor": (lambda: _changed(**{_BIAS: [1.0]}), "unexpected .*ln_final.bias"),
    "with a number as a name": (lambda: container({**_state(), 7: torch.zeros(1)}), "unexpected .*7"),  # type: ignore[dict-item]
    "with a name of two lines": (lambda: container({**_state(), "a\nb": torch.zeros(1)}), "unexpected .*a"),
    "without tensors": (lambda: container({}), "CLIP"),
    "a container of nothing": (lambda: {"CLIP": None}, "CLIP"),
    "a container of a list": (lambda: {"CLIP": [torch.zeros(1)]}, "CLIP"),
    "a container of itself": (_recursive, "CLIP"),
    "an empty container": (dict, "nothing"),
    "a tensor": (lambda: torch.zeros(1), "got a Tensor"),
    "a list": (lambda: [1], "got a list"),
    "a number": (lambda: 7, "got a int"),
    "null": (lambda: None, "got a NoneType"),
    "of names that are numbers": (lambda: {1: {2: torch.zeros(1)}}, "contains 1"),
    "with prefixes of wrappers at some names": (
        lambda: container({f"module.{name}" if name > "m" else name: tensor for name, tensor in _state().items()}),
        "module"),
}  # fmt: skip
_BYTES: dict[str, Callable[[], bytes]] = {
    "of zero bytes": lambda: b"",
    "a web page": lambda: b"<!doctype html><title>404</title>",
    "a pointer of Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "zeros": lambda: bytes(4_096),
    "an archive without content": lambda: _archive(b""),
    "an archive of no pickle": lambda: _archive(b"\x80"),
    "an archive of no torch": lambda: _zip_of("a.txt", b"a"),
    "an archive that leaves its folder": lambda: _zip_of("../../data.pkl", b"\x80\x02}."),
    "an archive without its directory": lambda: _packed({"CLIP": {}})[:-22],
    "a zip bomb": _bomb,
    "a tar": _tar,
    "a pickle with a text of 4 GB in its header": lambda: b"\x80\x02X\xff\xff\xff\xff" + b"a.",
    "a pickle with a frame of 2 ** 60 bytes": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
    "a pickle without its end": lambda: b"\x80\x02}",
    "a pickle of a persistent object": lambda: b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a pickle of an extension": lambda: b"\x80\x02\x82\x01.",
    "an old file with wrong magic": lambda: pickle.dumps(7) + pickle.dumps(1001) + pickle.dumps({}),
}


def _zip_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _cut(number: int) -> bytes:
    whole = _packed(_changed())
    return whole[: len(whole) * number // _CUTS]


def _header(text: bytes | str, length: int | None = None, content: bytes = b"") -> bytes:
    """Returns a safetensors file with a header of one's own."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data + content


def _entry(shape: Sequence[int], begin: int, end: int, kind: str = "F32") -> str:
    return json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}})


_SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "of zero bytes": lambda: b"",
    "of 4 bytes": lambda: b"\1\0\0\0",
    "with a header of 2 ** 62 bytes": lambda: _header("{}", 1 << 62),
    "with a header of 90 MB in 2 bytes": lambda: _header("{}", 90_000_000),
    "with a header that is not JSON": lambda: _header("{"),
    "with a header that is not UTF-8": lambda: _header(b"\xff\xfe{}"),
    "with a header that is a list": lambda: _header("[]"),
    "with numbers beyond its end": lambda: _header(_entry([1 << 20], 0, 4 << 20)),
    "with a shape of 10 ** 12": lambda: _header(_entry([10**12], 0, 4), content=bytes(4)),
    "with a shape that overflows": lambda: _header(_entry([1 << 62, 1 << 62], 0, 4), content=bytes(4)),
    "with a negative shape": lambda: _header(_entry([-1], 0, 4), content=bytes(4)),
    "with an end before its begin": lambda: _header(_entry([1], 4, 0), content=bytes(4)),
    "with an unknown dtype": lambda: _header(_entry([1], 0, 4, "F99"), content=bytes(4)),
    "with bytes that no tensor has": lambda: _header(_entry([1], 0, 4), content=bytes(400)),
    "with tensors that overlap": lambda: _header(
        json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [4 * i, 4 * i + 8]} for i, n in enumerate("ab")}),
        content=bytes(12)),
    "with other tensors": lambda: _header(_entry([1], 0, 4), content=bytes(4)),
}  # fmt: skip


def _hub_folder(make: Callable[[], bytes], place: Place) -> Sequence[object]:
    """A hub folder whose settings state the hash of its spoiled weights."""
    folder = place.copy("hub folder")
    weights = spoil(folder / "model.safetensors", make())
    settings = json.loads((folder / "config.json").read_bytes())
    settings["files"]["model.safetensors"] = sha256(weights.read_bytes()).hexdigest()
    spoil(folder / "config.json", json.dumps(settings))
    return "inspect", folder


def _config(change: dict[str, Any], place: Place) -> Sequence[object]:
    folder = place.copy("hub folder")
    settings = json.loads((folder / "config.json").read_bytes())
    spoil(folder / "config.json", json.dumps(settings | change))
    return "inspect", folder


_CONFIGS: dict[str, dict[str, Any]] = {
    "another library": {"library_name": "transformers"},
    "another format": {"format": 99},
    "a format in words": {"format": "one"},
    "an unknown family": {"family": "gpt"},
    "a recipe of another family": {"recipe": "blip"},
    "stage 3": {"stage": 3},
    "no hashes": {"files": {}},
    "a hash of another file": {"files": {"../../../etc/passwd": "0" * 64}},
    "a wrong hash": {"files": {"model.safetensors": "0" * 64}},
    "a head width of 0": {"vision_head_width": 0},
    "a head width that does not divide": {"vision_head_width": 7},
    "sizes of another network": {"sizes": {"image_size": 1}},
    "an unknown key": {"autoload": "code.py"},
    "code to load": {"auto_map": {"AutoModel": "code.Model"}},
    "shared names that are no texts": {"shared": {"a": 1}},
}


def _file(change: Callable[[Path], object], place: Place) -> Sequence[object]:
    path = spoil(place.data / "best.pt", b"weights")
    change(path)
    return "inspect", path


# What the message says of a key; else the file of settings and the key.
_SAID = {
    "library_name": "is a model of another library",
    "format": "is of format (99|one), this version",
    "family": "family 'gpt'",
    "recipe": "'blip' is not a recipe",
    "files": r"config\.json: files: |model\.safetensors: is damaged",
    "vision_head_width": r"config\.json: vision_head_width: |the head width 7;",
}


def _said(changes: dict[str, Any]) -> str:
    key = next(iter(changes))
    return _SAID.get(key, rf"config\.json: {key}\b")


def cases() -> Iterator[Case]:
    """Yields the cases of files of weights."""
    for name, (make, words) in _CONTENTS.items():
        yield Case(KIND, name, partial(_inspect, make), f"{_NAME}.*({words})")
    for name, content in _BYTES.items():
        yield Case(KIND, name, partial(_inspect, content), _NAME)
    for number in range(_CUTS):
        yield Case(KIND, f"cut after {number} of {_CUTS} parts", partial(_inspect, partial(_cut, number)), _NAME)
    for module, name, word in GADGETS:
        pickled = _Gadget(module, name, word).pickled
        for form, wrap in (("a pickle", lambda data: data), ("an archive", _archive)):
            make = partial(lambda pickled, wrap: wrap(pickled()), pickled, wrap)
            yield Case(KIND, f"{form} that calls {module}.{name}", partial(_inspect, make), f"{_NAME}(refused|is not)")
    for name, change in FILES_THAT_ARE_NONE.items():
        yield Case(KIND, name, partial(_file, change), "best|folder")
    for name, make in _SAFETENSORS.items():
        yield Case(KIND, f"safetensors {name}", partial(_hub_folder, make), r"model\.safetensors: is not|not a CLIP")
    for name, changes in _CONFIGS.items():
        yield Case(KIND, f"a hub folder with {name}", partial(_config, changes), _said(changes))
    for stage in (1, 2):
        whole = partial(_inspect, partial(_changed, stage))
        yield Case(KIND, f"of stage {stage}", whole, "family +clip", 0)
    yield Case(KIND, "in half precision", partial(_inspect, partial(_half)), "family +clip", 0)
    old = partial(_inspect, lambda: _packed(_changed(), _use_new_zipfile_serialization=False))
    yield Case(KIND, "in the old form of torch", old, "family +clip", 0)
    more = partial(_inspect, lambda: _changed() | {"optimizer": {"state": {}}, "args": [1, "a"]})
    yield Case(KIND, "with the state of an optimiser", more, "family +clip", 0)


def _half() -> dict[str, Any]:
    return container(
        {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in _state().items()}
    )
