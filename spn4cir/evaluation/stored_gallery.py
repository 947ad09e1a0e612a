"""Stored features of the images that queries are ranked over, which every network with equal frozen weights reads."""

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from spn4cir.composers.encoding import EncodedGallery, encode_batches, reference_mask
from spn4cir.composers.feature_files import (
    FeatureFiles,
    RowShapes,
    describe_features,
    differing_keys,
    read_rows,
    size_in_bytes,
)
from spn4cir.composers.protocol import Composer, ImageFeatures
from spn4cir.errors import InputError
from spn4cir.images.workers import Workers
from spn4cir.types import EvaluationSplit, Gallery

# The number type in which networks are scored: another one would change scores.
_DTYPE = "float32"


def union_gallery(splits: Sequence[EvaluationSplit]) -> Gallery:
    """All references and gallery images of the splits, each name once."""
    paths = {name: path for split in splits for name, path in split.places.items()}
    return Gallery(tuple(paths), tuple(paths.values()))


def images_to_encode(splits: Sequence[EvaluationSplit]) -> tuple[Gallery, frozenset[int]]:
    """All images of the splits, each once, and the rows of the queries' references, whose features are kept.

    Raises InputError if there is no split.
    """
    require_queries(splits)
    gallery = union_gallery(splits)
    return gallery, frozenset(gallery.index[triplet.reference_name] for split in splits for triplet in split.triplets)


def require_queries(splits: Sequence[EvaluationSplit]) -> None:
    """Raises InputError if there is no split, so that a network has no queries to score by."""
    if not splits:
        raise InputError(
            "there is no query to score by: there are no annotations, and no generated triplets were held out; "
            "annotate some, or choose a family whose first stage learns from generated triplets (zs)"
        )


def store_gallery(
    composer: Composer,
    gallery: Gallery,
    references: Collection[int],
    batch_size: int,
    out: Path,
    work: Path,
    workers: Workers,
    device: torch.device,
) -> None:
    """Encodes every image of a gallery once and writes the features to the folder `out`.

    The batches are those of `encode_gallery`, so that the features are equal bit by bit.

    Args:
        composer: stage-1 network; moved to `device`, unless a cluster encodes.
        gallery: the images.
        references: rows of the images whose reference features are stored.
        batch_size: images per batch.
        out: folder of the features; written whole or not at all.
        work: folder of an interrupted run of the same encoding, or an empty one; at most one batch is lost.
        workers: processes that decode images, or a cluster.
        device: where the network runs; ignored by a cluster.

    Raises:
        InputError: an image cannot be decoded, or the disk has too little space.
    """
    keep = reference_mask(gallery, references)
    files = FeatureFiles(
        name="gallery",
        work=work,
        dtypes={"reference": _DTYPE, "target": _DTYPE},
        keep=keep,
        sizes_line=lambda shapes: _sizes_line(keep, shapes),
        space_remedy="free some space",
        range_remedy="the weights are broken: train or download them again",
    )

    def encode(done: int) -> Iterator[ImageFeatures]:
        return encode_batches(composer, gallery.paths, batch_size, workers, device, "encode gallery", done, keep)

    files.write(encode, lambda: _manifest(composer, gallery, keep))
    files.publish(out)


def open_gallery(
    folder: Path, composer: Composer, gallery: Gallery, references: Collection[int]
) -> EncodedGallery | None:
    """Opens stored features, mapped into memory; None if they are those of another network or of other images.

    What differs is reported on stderr.

    Args:
        folder: what `store_gallery` wrote.
        composer: the network; only its frozen weights and its preprocessing matter.
        gallery: the images.
        references: rows of the images whose reference features are needed.

    Raises:
        InputError: the folder does not contain such features, or a file is damaged.
    """
    keep = reference_mask(gallery, references)
    if differing := differing_keys(folder, _manifest(composer, gallery, keep)):
        print(f"{folder}: features of other {', '.join(differing)}; the images are encoded again", file=sys.stderr)
        return None
    kept = keep.nonzero()[:, 0]
    target, reference = (
        read_rows(folder / f"{part}.npy", rows, _DTYPE, "run dvc repro gallery again")
        for part, rows in (("target", len(keep)), ("reference", len(kept)))
    )
    return EncodedGallery(gallery, target, reference, kept)


def _manifest(composer: Composer, gallery: Gallery, keep: Bool[Tensor, " images"]) -> dict[str, Any]:
    names = [list(gallery.names), keep.nonzero()[:, 0].tolist()]
    return describe_features(composer, names, len(gallery)) | {"dtype": _DTYPE}


def _sizes_line(keep: Bool[Tensor, " images"], shapes: RowShapes) -> str:
    """The size of both parts, as a printed line."""
    references = int(keep.sum())
    sizes = {
        part: size_in_bytes(rows, shapes[part], _DTYPE) / 1e6
        for part, rows in (("reference", references), ("target", len(keep)))
    }
    return (
        f"targets as {_DTYPE} {sizes['target']:,.1f} MB, {references:,} reference rows as {_DTYPE} "
        f"{sizes['reference']:,.1f} MB"
    )
