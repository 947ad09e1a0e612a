"""Weights that both environments draw alike, so that the golden files need hold no weights. NumPy alone is imported."""

import json
import zlib
from collections.abc import Iterable

import numpy as np

TEMPERATURE = 0.07
EMBEDDINGS = ("_token", "_tokens", "pos_embed", "_embeddings.weight")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 values of one tensor, from its name and shape alone.

    Embeddings have unit variance, matrices and kernels one over their fan-in, biases a standard deviation of 0.1, norm
    weights the same around 1; a scalar is the temperature. `RandomState` is used because its stream is frozen.
    """
    if not shape:
        return np.array(TEMPERATURE, dtype=np.float32)
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith(EMBEDDINGS):
        return values.astype(np.float32)
    if len(shape) == 1:
        return (float(name.endswith("weight")) + 0.1 * values).astype(np.float32)
    return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def state(names: Iterable[str], shapes: Iterable[str]) -> dict[str, np.ndarray]:
    """The state dict of a golden file: its `names`, and its `shapes` as the JSON lists that stand beside them."""
    return {
        str(name): weight(str(name), tuple(json.loads(str(shape)))) for name, shape in zip(names, shapes, strict=True)
    }
