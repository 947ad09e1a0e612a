"""The device and the dtype that the settings ask for."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spn4cir.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is cuda if available, else cpu.

    On cuda, TensorFloat-32 is switched off for the whole process: by default cuDNN's convolutions round to
    TensorFloat-32 (10 bits of mantissa) on Ampere and later. A device with a number, as in `cuda:1`, becomes the
    process's current one, so that libraries that name no device use it too.

    Raises InputError when the name is unknown or its device is not on this machine.
    """
    device = _find_device(name)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        if device.index is not None:
            torch.cuda.set_device(device)
    return device


def gpu_identifier(number: int) -> str:
    """The name of a GPU in CUDA_VISIBLE_DEVICES that does not depend on the variable: `GPU-` and its UUID.

    A part of a GPU (MIG) keeps the name by which the variable chooses it, as in `MIG-` and the UUID of the part.

    Args:
        number: the number that torch gives the GPU in this process.

    Raises:
        InputError: there is no GPU of that number.
    """
    if number >= (found := torch.cuda.device_count()):
        raise InputError(
            f"machine.devices: GPU {number} is requested but {found} CUDA devices are available, counted from 0; "
            "remove it from the list, or check CUDA_VISIBLE_DEVICES"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if visible[0].startswith("MIG-"):
        return visible[number]
    return f"GPU-{torch.cuda.get_device_properties(number).uuid}"


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"machine.device: {name!r} is not a device; use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InputError(
            f"machine.device: {name!r} is requested but {found} CUDA devices are available; use auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"machine.device: {name!r} is requested but not available on this machine; use auto or cpu")
    return device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is float16 on cuda, else float32.

    Raises InputError when the name is unknown.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise InputError(f"dtype: {name!r} is unknown; use auto, {', '.join(known)}")
    return known[name]


def peak_memory(device: torch.device) -> float:
    """The peak memory so far, in MB: of torch on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def memory_errors(label: str, batch_size: int, remedy: str | None = None) -> Iterator[None]:
    """Turns a full GPU into an InputError that names the setting to change.

    Args:
        label: the name of the work, as the progress shows it.
        batch_size: the batch size of the settings.
        remedy: the change of a setting that saves memory; None: a lower batch size.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"{label}: a batch does not fit into the GPU's memory; {remedy or f'lower batch_size ({batch_size})'} of "
            "this stage in params.yaml, or free the GPU"
        ) from None
