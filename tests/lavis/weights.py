"""Weights that both environments draw equally, so the golden files contain none. Imports only NumPy."""

import json
import zlib
from collections.abc import Iterable

import numpy as np

TEMPERATURE = 0.07
EMBEDDINGS = ("_token", "_tokens", "pos_embed", "_embeddings.weight")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the float32 values of one tensor, which depend only on its name and shape.

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
    """Returns the state dict of a golden file, from its `names` and the JSON lists of its `shapes`."""
    return {
        str(name): weight(str(name), tuple(json.loads(str(shape)))) for name, shape in zip(names, shapes, strict=True)
    }
