"""The device of a stage's process."""

import torch

from spn4cir.device import choose_device, gpu_identifier
from spn4cir.gpu_locks import take_gpus
from stages.common import Job


def stage_device(job: Job) -> torch.device:
    """Returns the device that the settings choose; with `machine.devices`, a GPU of that list that no other run uses.

    The GPU is taken until the process ends. If the list has no free GPU, the stage waits and prints which processes use
    them. The list has no effect on a device other than cuda.

    Raises InputError if a device of the settings is not on this machine.
    """
    machine = job.params.machine
    device = choose_device(machine.device)
    if machine.devices is None or device.type != "cuda":
        return device
    gpus = {number: gpu_identifier(number) for number in machine.devices}
    (number,) = take_gpus(gpus, 1)
    print(f"machine.devices: this stage uses cuda:{number}", flush=True)
    return choose_device(f"cuda:{number}")
