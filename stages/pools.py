"""The pool of a data set: further images without annotations, in `data/pool/<dataset>`."""

from spn4cir.config.params import of_dataset
from spn4cir.datasets.cc3m import Cc3m
from stages.common import DATA, Job


def open_pool(job: Job) -> Cc3m:
    """Opens the data set's pool, restricted to the parts that its settings name."""
    settings = of_dataset(job.params.datasets, job.dataset, "datasets")
    return Cc3m(DATA / "pool" / job.dataset, settings.pool, settings.missing)
