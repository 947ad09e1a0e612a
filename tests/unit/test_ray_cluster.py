"""The settings of the engine, and what works without Ray. The tests with a cluster are in tests/ray."""

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from spn4cir.config.load import parse_params
from spn4cir.config.params import Params
from spn4cir.errors import InputError
from spn4cir.images import ray_cluster
from spn4cir.images.decoding import pixel_digest
from spn4cir.images.processes import map_in_processes
from spn4cir.images.ray_cluster import RayCluster, workers_of
from tests.helpers.layouts import draw

ROOT = Path(__file__).parents[2]
CLUSTER = "{address: auto, cpus_per_worker: 2, gpus_per_worker: 0.5}"


def params(engine: str, ray: str) -> Params:
    text = (ROOT / "params.yaml").read_text()
    return parse_params(text.replace("engine: local", f"engine: {engine}").replace("ray: null", f"ray: {ray}"), "p")


def test_the_settings_describe_the_workers() -> None:
    assert workers_of(params("local", CLUSTER).machine) == 2
    assert workers_of(params("ray", CLUSTER).machine) == RayCluster("auto", 2, 0.5)


@pytest.mark.parametrize(
    ("ray", "message"),
    [
        ("null", "engine ray needs the key ray, as in ray: {address: auto, cpus_per_worker: 1, gpus_per_worker: 0}"),
        ("{address: 'ray://a:1', cpus_per_worker: 1, gpus_per_worker: 0}", "Ray Data does not work through ray://"),
        ("{address: a, cpus_per_worker: 1, gpus_per_worker: 0}", "expected auto, HOST:PORT, or null"),
        ("{address: auto, cpus_per_worker: 0, gpus_per_worker: 0}", "machine.ray.cpus_per_worker"),
        ("{address: auto, cpus_per_worker: 1, gpus_per_worker: 2}", "machine.ray.gpus_per_worker"),
    ],
)
def test_wrong_settings_are_named(ray: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("{", r"\{")):
        params("ray", ray)


def test_local_work_does_not_import_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of value None cannot be imported."""
    monkeypatch.setitem(sys.modules, "ray", None)
    workers = workers_of(params("local", "null").machine.model_copy(update={"workers": 0}))
    path = draw(tmp_path / "a.png", 1)
    assert list(map_in_processes(pixel_digest, [path], workers, "x")) == [pixel_digest(path)]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"engine is ray, but Ray cannot be imported \(.*; run pip install .*\[ray\]"):
        list(map_in_processes(pixel_digest, [Path("a.png")], RayCluster("auto", 1, 0), "x"))


def test_an_address_without_a_server_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for it; a socket that is bound, and does not listen, is no server."""
    monkeypatch.setattr(ray_cluster, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(InputError, match=f"^Ray at '{address}': cannot be reached .*; start it"):
            list(map_in_processes(pixel_digest, [Path("a.png")], RayCluster(address, 1, 0), "x"))


def test_an_address_whose_name_no_host_can_have_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(InputError, match=r"^Ray at 'a\.\.b:1': cannot be reached .*; start it"):
        list(map_in_processes(pixel_digest, [Path("a.png")], RayCluster("a..b:1", 1, 0), "x"))


@pytest.mark.parametrize("before", [None, "0,1"])
@pytest.mark.parametrize("gpus", [None, "GPU-a"])
def test_only_a_ray_that_is_started_sees_its_gpus(
    before: str | None, gpus: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process may need the others by their numbers."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    seen = []

    def init(**options: object) -> None:
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        raise RuntimeError("ends here")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=SimpleNamespace(RayError=RuntimeError))
    monkeypatch.setattr(ray_cluster, "_ray", lambda: fake)
    with pytest.raises(InputError, match="ends here"):
        list(map_in_processes(pixel_digest, [Path("a.png")], RayCluster(None, 1, 1, gpus), "x"))
    assert seen == [gpus or before]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_a_cluster_that_ray_finds_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be another one than the user thinks of."""
    room = {"CPU": 1}
    fake = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: None,
        get_runtime_context=lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"),
        nodes=lambda: [{"Alive": alive, "Resources": room} for alive in (True, False, True)],
        data=SimpleNamespace(
            DataContext=SimpleNamespace(get_current=lambda: SimpleNamespace(execution_options=SimpleNamespace()))
        ),
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setattr(ray_cluster, "_ray", lambda: fake)
    assert RayCluster("auto", 1, 0)._connected() is fake
    assert capsys.readouterr().err == "Ray at 'auto': uses the cluster at 10.0.0.1:6379, machines: 2\n"
