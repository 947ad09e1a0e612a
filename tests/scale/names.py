"""Names in the workspace; importing them imports no network."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATASET = "scale"
# The family that learns from the data set's own images, and the one that learns from the pool.
OWN, POOLED = "zs", "zs_cc"
# Images or queries of a batch of `match`, `bank` and `train`.
BATCH = 256
