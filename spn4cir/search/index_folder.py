"""An index in a folder: the vectors (FAISS), the images (parquet), a manifest, and optionally the weights."""

from collections.abc import Callable
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spn4cir.checkpoints.open import load_network
from spn4cir.checkpoints.pretrained import pretrained_name
from spn4cir.composers.protocol import Composer, Options
from spn4cir.config.base import first_problem
from spn4cir.errors import InputError, first_line
from spn4cir.files import atomic_folder, check_replaceable, file_hash
from spn4cir.json_files import read_json, write_json
from spn4cir.readable import real_path
from spn4cir.search.image_table import ImageTable
from spn4cir.search.index import ImageIndex
from spn4cir.search.index_weights import (
    FILE,
    FOLDER,
    Weights,
    check_image_side,
    find_weights,
    image_side_hash,
    load_weights,
)
from spn4cir.search.vectors import VECTOR_FILES, Kind, KindChoice, KindSettings, Vectors

FORMAT: Literal[2] = 2
# Format 1 has no hash of the image side. The names of the files are part of the format.
_READ = (1, FORMAT)
_MANIFEST, _TABLE, _WORDS = "index.json", "pictures.parquet", "vocabulary/vocab.txt"
_FIRST_PARTS = {(name,) for name in (*VECTOR_FILES, _TABLE, FILE, FOLDER, "vocabulary")}
_OURS = {_MANIFEST, *VECTOR_FILES, _TABLE, FILE, FOLDER, "vocabulary"}
_REMEDY = "remove the folder and make it again with spn4cir index"
# Larger files are hashed at places that are spread over them, so that an index of many gigabytes opens quickly.
_HASHED_WHOLE, _PARTS, _PART = 1 << 28, 64, 1 << 16


class Manifest(BaseModel):
    """The content of `index.json`.

    Attributes:
        format: format of the folder.
        family: family of the network.
        vision_head_width: head width of the image tower's attention as given; null: the published one.
        text_head_width: head width of the text tower's attention as given; null: the published one.
        composition: rule that composes the queries; null: the family's composition, for a pretrained network `sum`.
        weights: sha256 of the checkpoint, or of the pretrained network.
        image_side: sha256 of what determines the targets of images; a network with the same one can search the index.
            Null: an earlier version wrote the index.
        weights_path: path of the checkpoint; null: it is in the folder, or the network is a pretrained one.
        pretrained: name of the pretrained network; null: the network is a checkpoint.
        root: the folder from which the names are paths.
        whole: whether all images of `root` are indexed, instead of a list of images.
        target: shape of an image's targets.
        kind: kind of the index.
        wanted_kind: kind that was asked for; `auto` follows the number of images.
        wanted_recall: least recall that was asked for; null: the default.
        candidates: number of images whose exact scores are computed for a query; null: the index is exact.
        recall: recall of an approximate index against an exact search, 0 to 1; null: the index is exact.
        files: sha256 of each file, without `index.json` and the weights; of a file above 256 MB, of parts of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2]
    family: str
    vision_head_width: Annotated[int, Field(ge=1)] | None
    text_head_width: Annotated[int, Field(ge=1)] | None
    composition: str | None = None
    weights: str
    image_side: str | None = None
    weights_path: str | None
    pretrained: str | None = None
    root: str
    whole: bool
    target: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]
    kind: Kind = "exact"
    wanted_kind: KindChoice = "auto"
    wanted_recall: Annotated[float, Field(ge=0, le=1)] | None = None
    candidates: Annotated[int, Field(ge=1)] | None = None
    recall: Annotated[float, Field(ge=0, le=1)] | None
    files: dict[str, str]

    @property
    def head_widths(self) -> tuple[int | None, int | None]:
        """Head widths of the image tower and the text tower; None: the published one."""
        return self.vision_head_width, self.text_head_width


def check_index_place(folder: Path) -> None:
    """Raises InputError if a path exists and is neither an index nor an empty folder."""
    check_replaceable(folder, _OURS, "index")
    if folder.is_dir() and not holds_index(folder) and (others := sorted(each.name for each in folder.iterdir())):
        raise InputError(
            f"{folder}: contains {others[0]} and is no index (no {_MANIFEST} there); name a new folder for the index"
        )


def holds_index(folder: Path) -> bool:
    """Whether a folder is an index."""
    return (folder / _MANIFEST).is_file()


def write_index(folder: Path, index: ImageIndex, composer: Composer, weights: Weights, copy_weights: bool) -> None:
    """Writes the folder as a whole or not at all. An index in the folder is replaced.

    Args:
        folder: the folder to write.
        index: the images and their targets.
        composer: the network, for its family and its vocabulary.
        weights: the weights of the network.
        copy_weights: whether to copy their file into the folder; a pretrained network is never copied.

    Raises:
        InputError: nothing is indexed, the folder contains other files or cannot be written, or the weights changed
            since they were read.
    """
    folder = real_path(folder)
    check_index_place(folder)
    if index.vectors is None:
        raise InputError(f"{folder}: nothing is indexed, so there is nothing to save; call index first")
    inside = weights.is_in(folder)
    if inside and not copy_weights:
        raise InputError(f"{folder}: contains the weights in use; save with weights, or to another folder")
    weights_hash = weights.hashed()
    with atomic_folder(folder) as temporary:
        index.vectors.write(temporary)
        hashed = [path for path in sorted(temporary.rglob("*")) if path.is_file()]
        index.table.write(temporary / _TABLE)
        if composer.vocabulary is not None:
            (temporary / _WORDS).parent.mkdir()
            (temporary / _WORDS).write_text("\n".join(composer.vocabulary) + "\n", encoding="utf-8")
            hashed.append(temporary / _WORDS)
        hashed.append(temporary / _TABLE)
        if copy_weights:
            weights.copy_into(temporary, inside)
        kept = None if copy_weights or weights.path is None else str(weights.path)
        files = {str(path.relative_to(temporary)): _quick_hash(path) for path in hashed}
        manifest = _manifest(
            index, index.vectors, composer, weights, weights=weights_hash, weights_path=kept, files=files
        )
        write_json(temporary / _MANIFEST, manifest.model_dump(mode="json"), indent=2)


def _manifest(index: ImageIndex, vectors: Vectors, composer: Composer, network: Weights, **written: Any) -> Manifest:
    """The manifest of an index; `written` are the entries that depend on the folder."""
    return Manifest(
        format=FORMAT,
        family=composer.family,
        vision_head_width=network.head_widths[0],
        text_head_width=network.head_widths[1],
        composition=network.composition,
        image_side=image_side_hash(composer, network),
        pretrained=network.pretrained,
        root=str(index.root),
        whole=index.whole_folder,
        target=index.target_shape,
        kind=vectors.kind,
        wanted_kind=index.settings.kind,
        wanted_recall=index.settings.recall,
        candidates=vectors.candidates,
        recall=vectors.recall,
        **written,
    )


def read_manifest(folder: Path) -> Manifest:
    """Reads `index.json` and checks the hashes of the files. Raises InputError if it is no index or is damaged."""
    if not holds_index(folder):
        raise InputError(f"{folder}: is no index (no {_MANIFEST} there); make one with: spn4cir index")
    content = read_json(folder / _MANIFEST)
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found not in _READ:
        known = " and ".join(map(str, _READ))
        raise InputError(f"{folder}: is an index of format {found}, this version reads {known}; {_REMEDY}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{folder / _MANIFEST}: {first_problem(error)}; {_REMEDY}") from None
    _check_names(folder, manifest)
    for name, wanted in manifest.files.items():
        _check_file(folder / name, wanted, file_hash if manifest.format == 1 else _quick_hash)
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Raises InputError if the manifest names a file that is not one of an index, or lacks one that will be read."""
    strange = (name for name in manifest.files if Path(name).parts[:1] not in _FIRST_PARTS or ".." in Path(name).parts)
    if (name := next(strange, None)) is not None:
        raise InputError(f"{folder / _MANIFEST}: names '{name}', which is no file of an index; {_REMEDY}")
    below = (path for name in VECTOR_FILES for path in (folder / name, *(folder / name).rglob("*")) if path.is_file())
    needed = {_TABLE, *(path.relative_to(folder).as_posix() for path in below)}
    if lacking := sorted(needed - manifest.files.keys()):
        raise InputError(f"{folder / _MANIFEST}: has no hash of {lacking[0]}; {_REMEDY}")


def _quick_hash(path: Path) -> str:
    """The sha256 of a file; of a large one, that of its size and of parts of it."""
    size = path.stat().st_size
    if size <= _HASHED_WHOLE:
        return file_hash(path)
    digest = sha256(str(size).encode())
    with path.open("rb") as stream:
        for place in range(_PARTS):
            stream.seek((size - _PART) * place // (_PARTS - 1))
            digest.update(stream.read(_PART))
    return digest.hexdigest()


def _check_file(path: Path, wanted: str, hashed: Callable[[Path], str]) -> None:
    """Raises InputError if a file of the index is missing or damaged."""
    if not path.is_file():
        raise InputError(f"{path}: is missing; {_REMEDY}")
    if (found := hashed(path)) != wanted:
        raise InputError(f"{path}: is damaged (sha256 {found[:12]}, expected {wanted[:12]}); {_REMEDY}")


def read_index(folder: Path, manifest: Manifest) -> ImageIndex:
    """Reads the images and their targets. Raises InputError if the files are not those of an index."""
    try:
        vectors = _read_vectors(folder, manifest)
        if vectors.dim != manifest.target[-1]:
            raise ValueError(f"vectors of {vectors.dim} numbers, where {_MANIFEST} states {manifest.target[-1]}")
        table = ImageTable.read(folder / _TABLE, vectors.next_id)
        if table.vector_count != len(vectors):
            raise ValueError(f"{table.vector_count} vectors in {_TABLE}, and {len(vectors)} in the index")
    except (RuntimeError, pa.ArrowException, KeyError, OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"{folder}: its files are not those of an index ({reason}); {_REMEDY}") from None
    return ImageIndex(table, vectors, manifest.target, Path(manifest.root), manifest.whole)


def _read_vectors(folder: Path, manifest: Manifest) -> Vectors:
    tokens = prod(manifest.target[:-1])
    if manifest.format == 1:
        return Vectors.read_earlier(folder, tokens)
    settings = KindSettings(manifest.wanted_kind, manifest.wanted_recall)
    return Vectors.read(folder, manifest.kind, tokens, settings, (manifest.candidates or 0, manifest.recall or 0.0))


def open_network(
    folder: Path, manifest: Manifest, checkpoint: Path | None, device: torch.device
) -> tuple[Composer, Weights]:
    """Opens the network that an index was made with, or another one with the same image side.

    Args:
        folder: the index.
        manifest: the manifest of the index.
        checkpoint: file of the weights or name of a pretrained network; None: the copy in the folder, else the file or
            the pretrained network that was used.
        device: where the network runs.

    Raises:
        InputError: the weights are missing, or encode images differently from those of the index.
    """
    place = checkpoint or (Path(manifest.pretrained) if manifest.pretrained else None)
    if place is not None and pretrained_name(place) is not None:
        composer, named = load_weights(place, manifest.family, Options(), device, manifest.composition)
        check_image_side(composer, named, folder, manifest.weights, manifest.image_side)
        return composer, named
    weights = find_weights(
        folder, manifest.weights, manifest.weights_path, manifest.head_widths, manifest.composition, checkpoint
    )
    options = _network_options(folder, manifest)
    composer = load_network(weights.path, manifest.family, options, device, manifest.composition)
    check_image_side(composer, weights, folder, manifest.weights, manifest.image_side)
    return composer, weights


def _network_options(folder: Path, manifest: Manifest) -> Options:
    """The options to open the network of an index with; the tokenizer is the folder's, if it contains one."""
    vision, text = manifest.head_widths
    tokenizer = str((folder / _WORDS).parent) if _WORDS in manifest.files else None
    return Options(tokenizer, vision_head_width=vision, text_head_width=text)


def check_network(folder: Path, manifest: Manifest, composer: Composer, weights: Weights) -> None:
    """Raises InputError for a network that encodes images differently from the one that an index was made with."""
    check_image_side(composer, weights, folder, manifest.weights, manifest.image_side)
    if weights.head_widths != manifest.head_widths:
        raise InputError(
            f"{folder}: was made with head widths {manifest.head_widths}, not {weights.head_widths} (image, text); "
            "give the same"
        )
