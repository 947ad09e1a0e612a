"""Pairs of images of a pool, where any other image may be the partner and no similarity is computed."""

from collections.abc import Sequence

import numpy as np

from spn4cir.errors import InputError


def random_pairs(names: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Each image as the reference with one other image as its target, drawn uniformly.

    Args:
        names: the images, each once.
        seed: decides the draw, which depends on the number of images alone besides.

    Raises InputError for fewer than two images.
    """
    if len(names) < 2:
        raise InputError(f"pairs: {len(names)} images, but a pair takes two; choose more parts of the pool")
    drawn = np.random.default_rng(seed).integers(len(names) - 1, size=len(names))
    drawn += drawn >= np.arange(len(names))  # passes over the image itself
    return [(name, names[target]) for name, target in zip(names, drawn.tolist(), strict=True)]
