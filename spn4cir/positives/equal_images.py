"""Groups of equal images by digests of their content."""

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

DIGEST_BYTES = 32


def group_equal(digests: bytes | bytearray) -> tuple[Int64[ndarray, " kept"], Int64[ndarray, " images"]]:
    """Returns the positions of the first image of each group, ascending, and the group of every image.

    Args:
        digests: a digest of `DIGEST_BYTES` for each image, one after another.
    """
    found = np.frombuffer(digests, f"S{DIGEST_BYTES}")
    _, first, group = np.unique(found, return_index=True, return_inverse=True)
    kept = np.sort(first)
    return kept, np.searchsorted(kept, first[group])
