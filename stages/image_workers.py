"""Where a stage decodes and encodes images: on this machine, or on a cluster."""

import sys
from dataclasses import replace

import torch

from spn4cir.images.ray_cluster import RayCluster, workers_of
from spn4cir.images.workers import Workers
from stages.common import Job
from stages.device import stage_device, take_listed


def image_workers(job: Job) -> tuple[Workers, torch.device]:
    """Returns the workers of the settings, and the kind of device of the networks that encode there.

    With `machine.devices`, this process or the Ray that it starts has a free GPU of the list. If trainings use several
    GPUs but this stage one, this is printed.
    """
    machine = job.params.machine
    workers = workers_of(machine)
    if isinstance(workers, int):
        device = stage_device(job)
        if device.type == "cuda" and machine.processes > 1:
            fix = "set machine.engine: ray to encode on all"
            print(f"machine.processes: applies to trainings; images are encoded on one GPU, {fix}", file=sys.stderr)
        return workers, device
    return _on_own_gpu(job, workers), workers.device


def _on_own_gpu(job: Job, cluster: RayCluster) -> RayCluster:
    """Returns a Ray that is started on this machine with a free GPU of `machine.devices` as its only one.

    The GPU is taken until this process ends. A cluster at an address assigns its own GPUs, which is printed. Without
    the list, or if networks run on the CPU, the cluster is returned as it is.

    Raises InputError if the list names a GPU that is not on this machine.
    """
    machine = job.params.machine
    if machine.devices is None or not cluster.gpus_per_worker:
        return cluster
    if cluster.address is not None:
        print(f"machine.devices: no effect on Ray at '{cluster.address}', which assigns its own GPUs", file=sys.stderr)
        return cluster
    if not torch.cuda.is_available():
        return cluster  # Ray reports that no machine has room
    (name,) = take_listed(machine.devices, 1).values()
    return replace(cluster, visible_gpus=name)
