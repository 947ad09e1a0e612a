"""Ray Data as the engine of the work on many images; Ray is imported when a cluster is used.

One row of a dataset is one batch, so that the batches, and the sums in a network, are those of one machine. An error of
a worker is a part of its row, and is raised when the row's turn comes: the first broken image is the one that is named.
"""

import logging
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spn4cir.config.machine import Machine
from spn4cir.errors import InputError, first_line
from spn4cir.extras import install_command
from spn4cir.images.ray_steps import DecodeStep, NetworkStep, Outcome, Row, is_seen, map_files
from spn4cir.images.workers import ImageBatch
from spn4cir.progress import say_once

if TYPE_CHECKING:
    import torch

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")

_FILES_PER_TASK = 64
# How often Ray repeats a batch whose worker or machine is lost. Its default, without end, would repeat an image that
# kills its process forever.
_RETRIES = 5
# How often the work is started again at the same batch after Ray gave up. It can give up before it has noticed that a
# machine is lost.
_RESTARTS = 2
_CONNECT_SECONDS = 10.0
# Read when Ray is imported. Workers of one machine map the tensors of the object store and do not copy them.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# The address of a Ray that is started on this machine, and the one of a cluster that Ray itself looks up.
_LOCAL, _AUTO = "local", "auto"
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster, as `machine.ray` describes it; see `spn4cir.images.workers.Cluster`.

    Attributes:
        address: `auto` or `host:port` of a cluster; None starts Ray on this machine.
        cpus_per_worker: processor cores of a worker, and threads of its network on a CPU.
        gpus_per_worker: GPUs of a worker that has a network, at most 1; below 1, several workers share a GPU.
        visible_gpus: CUDA_VISIBLE_DEVICES of a Ray that is started on this machine; None: that of this process.
    """

    address: str | None
    cpus_per_worker: int
    gpus_per_worker: float
    visible_gpus: str | None = None

    @property
    def device(self) -> "torch.device":
        """Kind of device of the networks on its workers."""
        import torch  # decoding needs no torch

        return torch.device("cuda" if self.gpus_per_worker else "cpu")

    def map_files(self, function: Callable[[Path], Result], paths: Sequence[Path], label: str) -> Iterator[Result]:
        """Yields the function's result for each path, in order. Raises InputError as `map_batches` does."""
        starts = range(0, len(paths), _FILES_PER_TASK)
        batches = [ImageBatch(tuple(paths[start : start + _FILES_PER_TASK])) for start in starts]
        if not batches:
            return
        step = DecodeStep(partial(map_files, function), Path.cwd())

        def start(rest: Sequence[ImageBatch]) -> Any:
            return _map(self._rows(rest), step, num_cpus=1, max_retries=_RETRIES)

        for results in _results(start, batches, label):
            yield from results

    def map_batches(
        self,
        prepare: Callable[[ImageBatch], Prepared],
        load: Callable[["torch.device"], Callable[[Prepared], Result]],
        batches: Sequence[ImageBatch],
        label: str,
    ) -> Iterator[Result]:
        """Yields the result of a network for each batch; the arguments are those of `Cluster.map_batches`.

        The network is copied to Ray's object store once, and workers of one machine read it there.

        Raises:
            InputError: a step raised it, Ray is not installed, the cluster cannot be reached, a worker does not see a
                file, or a batch lost its worker again and again.
        """
        if not batches:
            return
        ray = self._connected()
        step = DecodeStep(prepare, Path.cwd())
        with warnings.catch_warnings(action="ignore"):  # the tensors in the store are only read
            stored = ray.put(load)

        def start(rest: Sequence[ImageBatch]) -> Any:
            data = self._rows(rest)
            if self.gpus_per_worker:  # cores of any machine decode for the GPUs
                data = _map(data, step, num_cpus=1, max_retries=_RETRIES)
            arguments = [stored], str(self.device), self.cpus_per_worker, step, bool(self.gpus_per_worker)
            return _map(
                data,
                NetworkStep,
                fn_constructor_args=arguments,
                compute=ray.data.ActorPoolStrategy(min_size=1),
                num_cpus=self.cpus_per_worker,
                num_gpus=self.gpus_per_worker,
                max_task_retries=_RETRIES,
            )

        yield from _results(start, batches, label)

    def _rows(self, batches: Sequence[ImageBatch]) -> Any:
        """Returns a dataset with a row for each batch."""
        ray = self._connected()
        rows = [{"value": pickle.dumps(batch)} for batch in batches]
        return ray.data.from_items(rows, override_num_blocks=len(rows))

    def _connected(self) -> Any:
        """Returns Ray, after this process was connected to the cluster.

        Raises InputError if the cluster cannot be reached, or this machine has no room for a worker; other machines may
        join later.
        """
        ray = _ray()
        if not ray.is_initialized():
            _check_port(self.address)
            try:
                with _visible(self.visible_gpus):
                    ray.init(
                        address=self.address or _LOCAL,
                        logging_level="ERROR",
                        log_to_driver=False,
                        **({} if self.address else {"include_dashboard": False}),
                    )
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise InputError(f"{_named(self.address)}: cannot be used ({first_line(error)}); {_START}") from None
            if self.address == _AUTO:
                found, machines = ray.get_runtime_context().gcs_address, sum(node["Alive"] for node in ray.nodes())
                say_once(f"{_named(_AUTO)}: uses the cluster at {found}, machines: {machines}")
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        if not any(self._has_room(node["Resources"]) for node in ray.nodes() if node["Alive"]):
            wanted = f"cpus_per_worker {self.cpus_per_worker} and gpus_per_worker {self.gpus_per_worker:g}"
            line = f"{_named(self.address)}: no machine has room for {wanted} of machine.ray"
            if self.address is None:
                raise InputError(f"{line}; lower them")
            say_once(f"{line}; waiting until one joins")
        return ray

    def _has_room(self, resources: dict[str, float]) -> bool:
        return resources.get("CPU", 0) >= self.cpus_per_worker and resources.get("GPU", 0) >= self.gpus_per_worker


def workers_of(machine: Machine) -> int | RayCluster:
    """Returns the workers that the settings describe: a number of processes, or a cluster."""
    if machine.engine == "local":
        return machine.workers
    assert machine.ray is not None, "the settings were checked"
    return RayCluster(machine.ray.address, machine.ray.cpus_per_worker, machine.ray.gpus_per_worker)


_START = "start it (ray start --head), correct machine.ray.address, or set machine.engine: local"


def _map(data: Any, step: Callable[[Row], Row] | type, **options: Any) -> Any:
    """Returns the dataset of the step's rows. Ray 2.60 announces that options such as `max_retries` will change."""
    with warnings.catch_warnings(action="ignore"):
        return data.map(step, **options)


def _named(address: str | None) -> str:
    return f"Ray at '{address}'" if address else "Ray on this machine"


def _ray() -> Any:
    """Returns Ray with its dataset library, quiet and without reports to its makers."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"machine.engine is ray, but Ray cannot be imported ({first_line(error)}); run {install_command('ray')}"
        ) from None
    for name in ("ray.data", "ray._private", "ray.util"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their errors are raised, and become one line
    return ray


@contextmanager
def _visible(gpus: str | None) -> Iterator[None]:
    """Sets CUDA_VISIBLE_DEVICES for the processes that start in the block, if it is not None."""
    before = os.environ.get(_VISIBLE)
    if gpus is not None:
        os.environ[_VISIBLE] = gpus
    try:
        yield
    finally:
        if gpus is not None:
            os.environ.pop(_VISIBLE)
            os.environ.update({} if before is None else {_VISIBLE: before})


def _check_port(address: str | None) -> None:
    """Raises InputError if no server listens at the address; Ray itself would wait for minutes."""
    if address is None or address == _AUTO:
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        raise InputError(f"{_named(address)}: cannot be reached ({first_line(error)}); {_START}") from None


class _GaveUp(Exception):
    """Ray ended the work on a dataset, because of its own processes or machines."""


def _results(start: Callable[[Sequence[ImageBatch]], Any], batches: Sequence[ImageBatch], label: str) -> Iterator[Any]:
    """Yields the value of each batch's row, in order. After Ray gave up, the batches that are left are started again.

    Args:
        start: makes the dataset of the batches' rows.
        batches: all batches.
        label: the name of the work, for errors.

    Raises the first error of a worker, and the errors of Ray as an InputError.
    """
    done = stopped = restarts = 0
    while done < len(batches):
        try:
            with closing(_values(start(batches[done:]), label)) as values:
                for value in values:
                    yield value
                    done += 1
        except _GaveUp as error:
            restarts, stopped = 0 if done > stopped else restarts, done
            if restarts == _RESTARTS:
                raise InputError(f"{label}: Ray gave up ({error}); run it again: finished work is kept") from None
            restarts += 1
            say_once(f"{label}: Ray gave up ({error}); {done}/{len(batches)} batches are done, starts the rest again")


def _values(data: Any, label: str) -> Generator[Any, None, None]:
    """Yields the value of each row of a dataset. Raises _GaveUp, or an InputError for an error of a worker."""
    from ray.exceptions import RayError, RayTaskError, UserCodeException

    try:
        with closing(iter(data.iter_rows())) as rows:
            for row in rows:
                outcome: Outcome = pickle.loads(row["value"])  # noqa: S301 - sent by this package's own processes
                if error := _error(outcome):
                    raise error
                yield outcome.value
    except RayError as error:
        if "No module named" in str(error):
            found = next(line for line in str(error).splitlines() if "No module named" in line)
            raise InputError(
                f"{label}: a worker of Ray cannot import the code ({found.strip()}); install the package and its "
                "extras on every machine of the cluster, under the same path"
            ) from None
        if isinstance(error, RayTaskError | UserCodeException):
            raise  # a fault of this code, with the worker's traceback
        raise _GaveUp(first_line(error)) from None


def _error(outcome: Outcome) -> Exception | None:
    """Returns the error of a worker; for a file that only the worker does not see, one that says so."""
    here = next((path for path in outcome.unseen if is_seen(path)), None)
    if here is None:
        return outcome.error
    return InputError(
        f"{here.absolute()}: the worker of Ray on {outcome.node} does not see this file; put the project's folder on "
        "a file system that every machine of the cluster mounts under the same path"
    )
