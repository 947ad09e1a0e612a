"""A cluster of one process: what it gets and returns is pickled, as on the way to other machines."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from spn4cir.images.workers import ImageBatch


class OneProcessCluster:
    """`spn4cir.images.workers.Cluster` without Ray; `batches` are the paths of each batch that it got."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[tuple[Path, ...]] = []

    def map_files(self, function: Callable[[Path], Any], paths: Sequence[Path], label: str) -> Iterator[Any]:
        yield from map(_copied(function), paths)

    def map_batches(
        self,
        prepare: Callable[[ImageBatch], Any],
        load: Callable[[torch.device], Callable[[Any], Any]],
        batches: Sequence[ImageBatch],
        label: str,
    ) -> Iterator[Any]:
        compute = _copied(load)(self.device)
        self.batches = [batch.paths for batch in batches]
        for batch in batches:
            yield _copied(compute(_copied(_copied(prepare)(_copied(batch)))))


def _copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))
