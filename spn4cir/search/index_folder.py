"""An index in a folder: FAISS's file, the pictures as parquet, what it was made with, and the weights if wanted."""

from math import prod
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from spn4cir.composers.protocol import Options
from spn4cir.config.base import first_problem
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder, check_hash, check_replaceable, file_hash, read_json, write_json
from spn4cir.search.catalogue import Catalogue
from spn4cir.search.index import Holdings
from spn4cir.search.index_weights import FILE, FOLDER, Weights
from spn4cir.search.vectors import Vectors

FORMAT: Literal[1] = 1
_MANIFEST, _VECTORS, _PICTURES, _WORDS = "index.json", "vectors.faiss", "pictures.parquet", "vocabulary/vocab.txt"
_OURS = {_MANIFEST, _VECTORS, _PICTURES, FILE, FOLDER, "vocabulary"}


class Manifest(BaseModel):
    """What `index.json` holds.

    Attributes:
        format: of the folder.
        family: of the network.
        vision_head_width: as it was given; null: the published one.
        text_head_width: the same of the text tower.
        weights: sha256 of the checkpoint.
        weights_path: where it lay; null: it is in the folder.
        root: the folder that names begin at.
        whole: whether everything in it is indexed, rather than a list of pictures.
        target: shape of a picture's targets.
        recall: of an approximate index; null: it is exact.
        files: sha256 of each other file but the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    family: str
    vision_head_width: int | None
    text_head_width: int | None
    weights: str
    weights_path: str | None
    root: str
    whole: bool
    target: tuple[int, ...]
    recall: float | None
    files: dict[str, str]


def check_index_place(folder: Path) -> None:
    """Refuses a place for an index where something else stands."""
    check_replaceable(folder, _OURS, "index")


def holds_index(folder: Path) -> bool:
    """Whether an index was written there."""
    return (folder / _MANIFEST).is_file()


def write_index(
    folder: Path,
    holdings: Holdings,
    weights: Weights,
    include: bool,
    family: str,
    widths: Options,
    vocabulary: tuple[str, ...] | None,
) -> None:
    """Writes the folder whole or not at all; an index that stood there is replaced.

    Args:
        folder: where.
        holdings: pictures and targets.
        weights: the network's file.
        include: whether it is copied into the folder.
        family: of the network.
        widths: its head widths as they were given.
        vocabulary: the words of its tokenizer, where no package ships them.

    Raises:
        InputError: nothing is indexed, the place holds something else or cannot be written, or the weights changed.
    """
    folder = folder.resolve()
    check_index_place(folder)
    if holdings.vectors is None:
        raise InputError(f"{folder}: nothing is indexed, so there is nothing to save; call index first")
    inside = weights.lies_in(folder)
    if inside and not include:
        raise InputError(f"{folder}: holds the weights itself; save with weights, or in another folder")
    sha256 = weights.hashed()
    with atomic_folder(folder) as temporary:
        holdings.vectors.write(temporary / _VECTORS)
        holdings.catalogue.write(temporary / _PICTURES)
        if vocabulary is not None:
            (temporary / _WORDS).parent.mkdir()
            (temporary / _WORDS).write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        if include:
            weights.copy_into(temporary, inside)
        manifest = Manifest(
            format=FORMAT,
            family=family,
            vision_head_width=widths.vision_head_width,
            text_head_width=widths.text_head_width,
            weights=sha256,
            weights_path=None if include else str(weights.path),
            root=str(holdings.root),
            whole=holdings.whole,
            target=holdings.target,
            recall=holdings.vectors.recall,
            files={
                name: file_hash(temporary / name)
                for name in (_VECTORS, _PICTURES, _WORDS)
                if (temporary / name).exists()
            },
        )
        write_json(temporary / _MANIFEST, manifest.model_dump(mode="json"), indent=2)


def read_manifest(folder: Path) -> Manifest:
    """What the folder holds. Raises InputError when it is no index, or one of another version, or damaged."""
    if not holds_index(folder):
        raise InputError(f"{folder}: is no index (no {_MANIFEST} there); make it with: spn4cir index")
    content = read_json(folder / _MANIFEST)
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise InputError(f"{folder}: is an index of format {found}, this version reads {FORMAT}; make it anew")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{folder / _MANIFEST}: {first_problem(error)}; make the index anew") from None
    for name, sha256 in manifest.files.items():
        check_hash(folder / name, sha256, "make the index again")
    return manifest


def read_holdings(folder: Path, manifest: Manifest) -> Holdings:
    """The targets and the pictures. Raises InputError for files that are of no index."""
    try:
        vectors = Vectors.read(folder / _VECTORS, prod(manifest.target[:-1]), manifest.recall)
        catalogue = Catalogue.read(folder / _PICTURES)
    except (RuntimeError, pa.ArrowException, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: its files are of no index ({reason}); make it anew") from None
    return Holdings(catalogue, vectors, manifest.target, Path(manifest.root), manifest.whole)


def check_network(folder: Path, manifest: Manifest, weights: Weights, widths: Options) -> None:
    """Refuses a network that is not the one that the targets of an index were made with."""
    weights.check(folder, manifest.weights)
    made_with = (manifest.vision_head_width, manifest.text_head_width)
    if made_with != (found := (widths.vision_head_width, widths.text_head_width)):
        raise InputError(f"{folder}: was made with head widths {made_with}, not {found} (image, text); name the same")


def vocabulary_folder(folder: Path, manifest: Manifest) -> str | None:
    """The folder with the network's words, as a tokenizer's; None where the network has its own."""
    return str((folder / _WORDS).parent) if _WORDS in manifest.files else None
