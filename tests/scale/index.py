"""Indexes the images of the workspace's pool: run in the workspace, as the stages are."""

import sys
from pathlib import Path

from spn4cir import Retriever
from spn4cir.images.tars import member_names


def main(weights: Path, pool: Path, out: Path) -> None:
    """Indexes the members of the pool's tars, by their paths, and writes the index."""
    paths = (tar / name for tar in sorted(pool.rglob("*.tar")) for name in member_names(tar))
    retriever = Retriever.from_checkpoint(weights, workers=2).index(paths)
    retriever.save(out, weights=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
