"""Export of the vectors of an index to a parquet file, for a vector database."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32
from numpy import ndarray

from spn4cir.checkpoints.hub_folder import package_version
from spn4cir.errors import InputError
from spn4cir.files import atomic_file, check_outside
from spn4cir.replace_folder import read_unreplaced
from spn4cir.search.index import ImageIndex
from spn4cir.search.index_folder import Manifest, read_index, read_manifest

METADATA = "spn4cir"
# Numbers of a row group: 64 MB of float32.
GROUP_NUMBERS = 16 << 20


@dataclass(frozen=True)
class VectorMetadata:
    """Metadata of the exported vectors, stored as JSON under the key `spn4cir` of the file's schema.

    Attributes:
        family: family of the network.
        weights: sha256 of the network's weights.
        image_side: sha256 of their image side; None for an index of an earlier version.
        dim: dimension of a vector.
        tokens: number of vectors of an image; the score of a query is its largest product with them.
        images: number of rows.
        normalised: whether the vectors have unit norm; always true.
        metric: the metric between a query and a vector.
        version: version of the package that wrote the file.
    """

    family: str
    weights: str
    image_side: str | None
    dim: int
    tokens: int
    images: int
    normalised: bool
    metric: str
    version: str


def export_vectors(folder: Path, out: Path) -> VectorMetadata:
    """Writes one row an image, sorted by name, with `name`, `path`, `digest` and `vector`, in row groups of 64 MB.

    `vector` is a list of `dim` float32, or for a network with several tokens a list of `tokens` such lists. Neither
    the weights nor the images are read.

    Args:
        folder: the index, written by `spn4cir index`.
        out: the parquet file to write.

    Raises:
        InputError: the index is damaged or contains no image, or the file is in the index or cannot be written.
    """
    check_outside(out, folder)
    manifest, index = read_unreplaced(folder, partial(_read, folder))
    if index.vectors is None or not len(index):
        raise InputError(f"{folder}: contains no image; index some first")
    vectors, names = index.vectors, index.names
    metadata = VectorMetadata(
        family=manifest.family,
        weights=manifest.weights,
        image_side=manifest.image_side,
        dim=vectors.dim,
        tokens=vectors.tokens,
        images=len(names),
        normalised=True,
        metric="inner product",
        version=package_version(),
    )
    schema = _schema(metadata)
    rows = max(1, GROUP_NUMBERS // (metadata.tokens * metadata.dim))
    with atomic_file(out) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(names), rows):
            writer.write_batch(_batch(index, names[start : start + rows], schema))
    return metadata


def _read(folder: Path) -> tuple[Manifest, ImageIndex]:
    manifest = read_manifest(folder)
    return manifest, read_index(folder, manifest)


def _schema(metadata: VectorMetadata) -> pa.Schema:
    vector = pa.list_(pa.float32(), metadata.dim)
    fields = {
        "name": pa.string(),
        "path": pa.string(),
        "digest": pa.string(),
        "vector": vector if metadata.tokens == 1 else pa.list_(vector, metadata.tokens),
    }
    return pa.schema(fields, metadata={METADATA: json.dumps(asdict(metadata))})


def _batch(index: ImageIndex, names: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    images = [index.table[name] for name in names]
    targets = index.require_vectors().targets(np.array([image.vector for image in images], np.int64))
    columns = [
        pa.array(names),
        pa.array([image.path for image in images]),
        pa.array([image.digest.hex() for image in images]),
        _lists(targets, schema.field("vector").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _lists(targets: Float32[ndarray, "images tokens dim"], kind: pa.DataType) -> pa.Array:
    """Fixed-size lists of one or two levels over the numbers, without a copy."""
    tokens, dim = targets.shape[1:]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(targets.reshape(-1)), type=pa.list_(pa.float32(), dim))
    return vectors if tokens == 1 else pa.FixedSizeListArray.from_arrays(vectors, type=kind)
