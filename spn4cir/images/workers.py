"""Who does the work on many images: processes of this machine, or a cluster of machines."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


class ImageBatch(NamedTuple):
    """The images of one call.

    Attributes:
        paths: the files.
        rest: what else the call reads, such as the position of the first image.
    """

    paths: tuple[Path, ...]
    rest: Any = None


class Cluster(Protocol):
    """Machines that share the work on many images; `spn4cir.images.ray_cluster` is the implementation.

    Results have the order of the inputs. Functions and batches are pickled, and the machines share a file system.

    Attributes:
        device: kind of device of the networks on its workers.
    """

    @property
    def device(self) -> "torch.device":
        """Kind of device of the networks on its workers."""

    def map_files(self, function: Callable[[Path], Result], paths: Sequence[Path], label: str) -> Iterator[Result]:
        """Yields the function's result for each path; see `spn4cir.images.processes.map_in_processes`."""

    def map_batches(
        self,
        prepare: Callable[[ImageBatch], Prepared],
        load: Callable[["torch.device"], Callable[[Prepared], Result]],
        batches: Sequence[ImageBatch],
        label: str,
    ) -> Iterator[Result]:
        """Yields the result of a network for each batch.

        Args:
            prepare: decodes a batch, on any processor core.
            load: returns the function that calls the network; called once on each worker, with its device.
            batches: the images.
            label: name of the work, for messages.

        Raises:
            InputError: a step raised it, or the cluster cannot do the work.
        """


# The number of processes of this machine that decode images (0 decodes in the calling process), or a cluster.
Workers = int | Cluster
