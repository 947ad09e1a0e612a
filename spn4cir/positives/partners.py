"""Partners of images, windows of their ranks, and the file that contains them; does not import torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64
from numpy import ndarray

from spn4cir.errors import InputError, first_line
from spn4cir.files import atomic_file
from spn4cir.types import Gallery

Ranks = tuple[int, int]
# Whole numbers are ranks; floats are shares of the images.
Window = Ranks | tuple[float, float]

_SCHEMA = pa.schema(
    {
        "reference": pa.string(),
        "target": pa.string(),
        "rank": pa.int64(),
        "similarity": pa.float32(),
        "window_start": pa.int64(),
        "window_end": pa.int64(),
    }
)


@dataclass(frozen=True)
class Partners:
    """The partners of every image in one window, by reference and then by rank.

    Attributes:
        window: [lo, hi) of ranks; None for any other image.
        reference: rows of the images.
        target: rows of their partners.
        rank: rank of the target among the images by similarity to the reference, which has rank 0.
        similarity: cosine similarity of reference and target.
    """

    window: Ranks | None
    reference: Int64[ndarray, " pairs"]
    target: Int64[ndarray, " pairs"]
    rank: Int64[ndarray, " pairs"]
    similarity: Float32[ndarray, " pairs"]


@dataclass(frozen=True, slots=True)
class Partner:
    """One row of the partners file."""

    reference_name: str
    target_name: str
    rank: int
    similarity: float


def is_shares(window: Window) -> bool:
    """Returns whether a window is given as shares of the images; otherwise, its ends are ranks."""
    return isinstance(window[1], float)


def ranks_of(window: Window | None, images: int) -> Ranks | None:
    """Returns the ranks of a window.

    A share s of n images is the rank s * n, rounded to the nearest whole number (a half is rounded up), and at least 1:
    rank 0 is the image itself.

    Args:
        window: [lo, hi) of ranks, which are returned unchanged, or of shares; None for any other image.
        images: number of images.
    """
    if window is None or not is_shares(window):
        return window  # type: ignore[return-value]
    lo, hi = (max(1, math.floor(share * images + 0.5)) for share in window)
    return lo, hi


def write_partners(found: Sequence[Partners], gallery: Gallery, path: Path) -> None:
    """Writes the partners of all windows as one parquet file, atomically.

    The columns are reference and target (names), rank, similarity, window_start and window_end. The last two are ranks,
    also for a window of shares, and null for no window.
    """
    names = pa.array(gallery.names, pa.string())
    tables = [pa.table(_columns(partners, names), schema=_SCHEMA) for partners in found]
    with atomic_file(path) as temporary:
        pq.write_table(pa.concat_tables([_SCHEMA.empty_table(), *tables]), temporary)


def _columns(partners: Partners, names: pa.StringArray) -> dict[str, pa.Array]:
    pairs = len(partners.rank)
    start, end = partners.window or (None, None)
    return {
        "reference": names.take(pa.array(partners.reference)),
        "target": names.take(pa.array(partners.target)),
        "rank": pa.array(partners.rank),
        "similarity": pa.array(partners.similarity),
        "window_start": pa.repeat(pa.scalar(start, pa.int64()), pairs),
        "window_end": pa.repeat(pa.scalar(end, pa.int64()), pairs),
    }


def read_partners(path: Path, window: Window | None) -> tuple[Partner, ...]:
    """Reads the partners of one window, in the order of the file.

    The shares of a window refer to the number of references in the file, because every image has partners in each
    window.

    Raises InputError if the file is absent, is not a partners file, or contains no partners of the window.
    """
    try:
        table = pq.read_table(path)
        if table.schema.names != _SCHEMA.names:
            found = ", ".join(table.schema.names)
            raise InputError(f"{path}: is not a file of partners (columns {found}); run the match stage again")
        table = table.cast(_SCHEMA)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the match stage") from None
    except (pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: is not a file of partners ({reason}); run the match stage again") from None
    images = pc.count_distinct(table["reference"]).as_py()
    start, end = ranks_of(window, images) or (None, None)
    chosen = table.filter(pc.and_(_equals(table["window_start"], start), _equals(table["window_end"], end)))
    if not len(chosen):
        asked = list(window) if window else "null"
        raise InputError(f"{path}: contains no partners of window {asked}; run the match stage again")
    columns = (chosen[name].to_pylist() for name in ("reference", "target", "rank", "similarity"))
    return tuple(map(Partner, *columns))


def _equals(column: pa.ChunkedArray, value: int | None) -> pa.ChunkedArray:
    return pc.is_null(column) if value is None else pc.equal(column, value)


def random_pairs(names: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Returns a pair for each image: the image as reference, and a uniformly drawn other image as target.

    Args:
        names: the images, each once.
        seed: determines the draw, together with the number of images.

    Raises InputError for fewer than two images.
    """
    if len(names) < 2:
        raise InputError(f"pairs: {len(names)} images, but a pair needs two; choose more parts of the pool")
    drawn = np.random.default_rng(seed).integers(len(names) - 1, size=len(names))
    drawn += drawn >= np.arange(len(names))  # skips the image itself
    return [(name, names[target]) for name, target in zip(names, drawn.tolist(), strict=True)]
