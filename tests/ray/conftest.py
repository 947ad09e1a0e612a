"""A real Ray cluster on this machine: a head and a second raylet with one core each, and others that tests kill."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch

from spn4cir.images.ray_cluster import RayCluster
from tests.ray.functions import NODE

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token to the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),  # the workers import functions of the tests
    "OMP_NUM_THREADS": "1",
}
_SECONDS = 120
os.environ.update(_ENVIRONMENT)


class Nodes:
    """The raylets of a cluster; all their files are in one folder with a short path, because it contains sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str) -> None:
        """Starts a raylet with one core, the first of them as the head."""
        options = ["--address", self.address] if self.address else self._head()
        sizes = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", f'--resources={{"{name}": 1}}']
        log = self.folder / f"{name}.log"
        command = [Path(sys.executable).with_name("ray"), "start", "--block", *options, *sizes]
        environment = {**os.environ, NODE: name}
        with log.open("wb") as stream:
            started = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._started.append(started)
        _wait(lambda: b"will now block" in log.read_bytes(), log)

    def _head(self) -> list[str]:
        with closing(socket.create_server(("", 0))) as server:
            port = server.getsockname()[1]
        self.address = f"{_own_address()}:{port}"
        return ["--head", f"--port={port}", f"--temp-dir={self.folder}", "--include-dashboard=false"]

    def stop(self) -> None:
        """Kills all processes of the cluster and removes their files."""
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in part for part in process.info["cmdline"] or ()):
                process.kill()
        for started in self._started:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _own_address() -> str:
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _wait(happened: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while not happened():
        assert time.monotonic() < until, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    import ray

    found = Nodes(Path(tempfile.mkdtemp(prefix="r", dir="/tmp")))
    try:
        found.start("head")
        found.start("second")
        yield found
    finally:
        ray.shutdown()
        found.stop()


@pytest.fixture
def cluster(nodes: Nodes) -> RayCluster:
    """The cluster of both raylets; the network of a worker has one thread, as that of this process."""
    torch.set_num_threads(1)
    return RayCluster(nodes.address, 1, 0)
