"""The device of a stage's process, and the GPUs of the processes that it starts."""

import os
import sys
from collections.abc import Sequence

import torch

from spn4cir.device import choose_device, gpu_identifier
from spn4cir.gpu_locks import take_gpus
from stages.common import Job


def stage_device(job: Job) -> torch.device:
    """Returns the device that the settings choose; with `machine.devices`, a GPU of that list that no other run uses.

    The GPU is taken until the process ends. If the list has no free GPU, the stage waits and prints which processes use
    them. The list has no effect on a device other than cuda, which is printed if the device is `auto`.

    Raises InputError if a device of the settings is not on this machine.
    """
    machine = job.params.machine
    device = choose_device(machine.device)
    if machine.devices is None or device.type != "cuda":
        _report_no_gpu(job, device)
        return device
    ((number, _),) = take_listed(machine.devices, 1).items()
    return choose_device(f"cuda:{number}")


def reserve_gpus(job: Job, count: int) -> None:
    """Takes GPUs of `machine.devices` for the processes that this one starts, which see these GPUs alone.

    The GPUs are taken until this process ends. Without the list, or on a device other than cuda, nothing is taken.

    Args:
        job: the settings.
        count: number of GPUs.

    Raises:
        InputError: the list is too short, or names a GPU that is not on this machine.
    """
    machine = job.params.machine
    if machine.devices is None:
        return
    device = choose_device(machine.device)
    if device.type == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take_listed(machine.devices, count).values())
    _report_no_gpu(job, device)


def _report_no_gpu(job: Job, device: torch.device) -> None:
    """Prints that a list of GPUs has no effect, unless the settings name another device."""
    machine = job.params.machine
    if machine.devices is not None and machine.device == "auto" and device.type != "cuda":
        print(f"machine.devices: torch finds no GPU; this stage runs on the {device.type}", file=sys.stderr)


def take_listed(numbers: Sequence[int], count: int) -> dict[int, str]:
    """Takes free GPUs of a list until this process ends, and prints which; waits while too few are free.

    Args:
        numbers: the list, as torch counts GPUs.
        count: number of GPUs.

    Returns:
        The name of each of them in CUDA_VISIBLE_DEVICES, by its number.

    Raises:
        InputError: the list is too short, or names a GPU that is not on this machine.
    """
    gpus = {number: gpu_identifier(number) for number in numbers}
    taken = {number: gpus[number] for number in sorted(take_gpus(gpus, count))}
    print(f"machine.devices: this stage uses {', '.join(f'cuda:{number}' for number in taken)}", flush=True)
    return taken
