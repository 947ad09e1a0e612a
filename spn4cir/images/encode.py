"""Images through a network in batches: in this process, or on the workers of a cluster."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from spn4cir.device import memory_errors
from spn4cir.images.preprocess import ImageFiles, Preprocess, batch_rows, image_batches
from spn4cir.images.workers import ImageBatch, Workers


class ImageNetwork(Protocol):
    """A network that reads preprocessed images."""

    @property
    def preprocess(self) -> Preprocess:
        """Converts a decoded image to the network's input."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the names and parameters; see `torch.nn.Module.named_parameters`."""

    def to(self, device: torch.device) -> Self:
        """Moves the network to a device; see `torch.nn.Module.to`."""


Network = TypeVar("Network", bound=ImageNetwork)
Result = TypeVar("Result")
# Returns the result of a batch, on the CPU, from the network, the images on its device, and the row of the first image.
Encode = Callable[[Network, Float[Tensor, "batch 3 size size"], int], Result]


def encoded_batches(
    network: Network,
    encode: Encode[Network, Result],
    paths: Sequence[Path],
    batch_size: int,
    workers: Workers,
    device: torch.device,
    label: str,
    first: int | None = None,
) -> Iterator[Result]:
    """Yields the result of `encode` for each batch of images, in order, without gradients.

    A cluster computes the same batches as this process, so that its results differ only as its devices round
    differently.

    Args:
        network: the network; moved to `device`, unless a cluster computes.
        encode: a function at the top level of a module, or a `partial` of one.
        paths: the images.
        batch_size: images per batch.
        workers: processes that decode images, where 0 decodes in this one; or a cluster.
        device: device of the network; ignored by a cluster.
        label: name of the work, for messages.
        first: number of images in the first batch; None: `batch_size`.

    Raises:
        InputError: an image cannot be decoded, or a batch does not fit into the GPU's memory.
    """
    if isinstance(workers, int):
        compute = _loaded(network, encode, label, batch_size, device)
        row = 0
        for images in image_batches(paths, network.preprocess, batch_size, workers, first):
            yield compute(images, row)
            row += len(images)
    else:
        rows = batch_rows(len(paths), batch_size, first)
        batches = [ImageBatch(tuple(paths[part.start : part.stop]), part.start) for part in rows]
        load = partial(_on_worker, on_cpu(network), encode, label, batch_size)
        yield from workers.map_batches(partial(_crops, network.preprocess), load, batches, label)


def _loaded(
    network: Network, encode: Encode[Network, Result], label: str, batch_size: int, device: torch.device
) -> Callable[[Tensor, int], Result]:
    """Returns the function that encodes preprocessed images, with the network on its device."""
    network = network.to(device)

    def compute(images: Tensor, row: int) -> Result:
        with torch.inference_mode(), memory_errors(label, batch_size):
            return encode(network, images.to(device, non_blocking=True), row)

    return compute


def _on_worker(
    network: Network, encode: Encode[Network, Result], label: str, batch_size: int, device: torch.device
) -> Callable[[tuple[UInt8[Tensor, "batch 3 size size"], int]], Result]:
    """Returns the function that encodes cropped images, on a worker of a cluster."""
    compute = _loaded(network, encode, label, batch_size, device)
    normalise = network.preprocess.normalise
    return lambda cropped: compute(normalise(cropped[0]), cropped[1])


def _crops(preprocess: Preprocess, batch: ImageBatch) -> tuple[UInt8[Tensor, "batch 3 size size"], int]:
    files = ImageFiles(batch.paths, preprocess)
    return torch.stack([files[place] for place in range(len(files))]), batch.rest


def on_cpu(network: Any) -> Any:
    """Returns the network if it is on the CPU, else a copy there: workers may have other devices."""
    on_cpu = all(parameter.device.type == "cpu" for _, parameter in network.named_parameters())
    return network if on_cpu else copy.deepcopy(network).to(torch.device("cpu"))
