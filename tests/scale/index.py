"""Indexes the images of the workspace's pool: run in the workspace, as the stages are."""

import sys
from pathlib import Path

from spn4cir import Retriever
from spn4cir.datasets.cc3m import Cc3m


def main(weights: Path, pool: Path, out: Path) -> None:
    """Indexes the members of the pool's tars, by their paths, and writes the index."""
    images = Cc3m(pool, None, "error").images()
    retriever = Retriever.from_checkpoint(weights, workers=2).index([image.path for image in images])
    retriever.save(out, weights=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
