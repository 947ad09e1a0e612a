"""Where a stage decodes and encodes images: on this machine, or on a cluster."""

import torch

from spn4cir.images.ray_cluster import workers_of
from spn4cir.images.workers import Workers
from stages.common import Job
from stages.device import stage_device


def image_workers(job: Job) -> tuple[Workers, torch.device]:
    """Returns the workers of the settings, and the kind of device of the networks that encode there."""
    workers = workers_of(job.params.machine)
    return workers, stage_device(job) if isinstance(workers, int) else workers.device
