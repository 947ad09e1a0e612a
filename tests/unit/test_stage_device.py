"""The device of a stage: that of the settings, or a free GPU of a list."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spn4cir import gpu_locks
from spn4cir.config.machine import Machine, RaySettings
from spn4cir.errors import InputError
from spn4cir.images.ray_cluster import RayCluster
from stages.common import Job
from stages.device import reserve_gpus, stage_device
from stages.image_workers import image_workers
from tests.helpers.params import published_params


@pytest.fixture(autouse=True)
def _two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two GPUs, of which a visible order may be set; locks in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu_locks, "_held", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"uuid-{number}"))
    yield
    for stream in gpu_locks._held.values():
        stream.close()


def job(**machine: object) -> Job:
    params = published_params()
    return Job(params.model_copy(update={"machine": params.machine.model_copy(update=machine)}))


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_free_gpu_of_the_list_is_locked(tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage_device(job(device=device, devices=(1,))) == torch.device("cuda", 1)
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["GPU-uuid-1.lock"]
    assert capsys.readouterr().out == "machine.devices: this stage uses cuda:1\n"


@pytest.mark.parametrize(("device", "devices"), [("cpu", (0, 1)), ("auto", None), ("cuda:1", None)])
def test_without_a_list_or_on_the_cpu_nothing_is_locked(
    tmp_path: Path, device: str, devices: tuple[int, ...] | None
) -> None:
    expected = "cuda" if device == "auto" else device
    assert stage_device(job(device=device, devices=devices)) == torch.device(expected)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("begin", [stage_device, lambda job: reserve_gpus(job, 2)])
def test_a_list_without_a_gpu_is_reported(
    begin: Callable[[Job], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    begin(job(device="auto", devices=(0, 1)))
    assert capsys.readouterr().err == "machine.devices: torch finds no GPU; this stage runs on the cpu\n"


def test_processes_of_a_training_see_the_gpus_that_were_taken_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    reserve_gpus(job(device="cpu", devices=(0, 1)), 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    reserve_gpus(job(device="auto", devices=(1, 0)), 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-uuid-0,GPU-uuid-1"
    with pytest.raises(InputError, match=r"3 GPUs are needed, but the list has 2"):
        reserve_gpus(job(device="auto", devices=(1, 0)), 3)


def test_a_part_of_a_gpu_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable does not know it by `GPU-` and a UUID; the older form of its name contains slashes."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-a/1/0")
    reserve_gpus(job(devices=(0,)), 1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-GPU-a/1/0"
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["MIG-GPU-a_1_0.lock"]


@pytest.mark.parametrize(("machine", "lines"), [({"processes": 2}, 1), ({}, 0), ({"processes": 2, "device": "cpu"}, 0)])
def test_a_stage_that_uses_one_gpu_of_several_prints_it(
    capsys: pytest.CaptureFixture[str], machine: dict[str, object], lines: int
) -> None:
    image_workers(job(**machine))
    assert (
        capsys.readouterr().err.count("images are encoded on one GPU, set machine.engine: ray to encode on all")
        == lines
    )


def ray(address: str | None, gpus: float) -> dict[str, object]:
    return {"engine": "ray", "ray": RaySettings(address=address, cpus_per_worker=1, gpus_per_worker=gpus)}


def test_a_ray_that_the_stage_starts_has_a_free_gpu_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workers, device = image_workers(job(devices=(1,), **ray(None, 0.5)))
    assert workers == RayCluster(None, 1, 0.5, "GPU-uuid-1")
    assert device.type == "cuda"
    assert [path.name for path in tmp_path.rglob("*.lock")] == ["GPU-uuid-1.lock"]
    assert capsys.readouterr().out == "machine.devices: this stage uses cuda:1\n"
    assert stage_device(job(devices=(0, 1))) == torch.device("cuda", 1), "the stage's own network is on the same GPU"


@pytest.mark.parametrize(
    ("address", "gpus", "devices", "said"),
    [
        (None, 1, None, ""),
        (None, 0, (0, 1), ""),
        ("auto", 0, (0, 1), ""),
        ("auto", 1, (0, 1), "machine.devices: no effect on Ray at 'auto', which assigns its own GPUs\n"),
    ],
)
def test_other_clusters_have_the_gpus_that_they_find(
    address: str | None,
    gpus: float,
    devices: tuple[int, ...] | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers, _ = image_workers(job(devices=devices, **ray(address, gpus)))
    assert workers == RayCluster(address, 1, gpus)
    assert not (tmp_path / "cache").exists()
    assert capsys.readouterr().err == said


@pytest.fixture
def stages_running() -> Iterator[Callable[[], tuple[int, int]]]:
    """Starts a process that has the device of a stage, as each stage of a queue is one; returns its id and its GPU."""
    started: list[int] = []

    def start() -> tuple[int, int]:
        reading, writing = os.pipe()
        if not (process := os.fork()):
            try:
                os.write(writing, str(stage_device(job(devices=(0, 1))).index).encode())
                signal.pause()
            finally:
                os._exit(1)
        started.append(process)
        return process, int(os.read(reading, 1))

    yield start
    for process in started:
        end(process)


def end(process: int) -> None:
    """Kills a process that this one started, unless it has ended."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_stages_that_run_at_one_time_have_gpus_of_their_own_until_they_are_killed(
    stages_running: Callable[[], tuple[int, int]],
) -> None:
    (first, one), (_, other) = stages_running(), stages_running()
    assert {one, other} == {0, 1}
    end(first)
    assert stage_device(job(devices=(0, 1))) == torch.device("cuda", one)


def test_a_gpu_that_is_absent_is_refused() -> None:
    with pytest.raises(InputError, match=r"^machine\.devices: GPU 2 is requested but 2 CUDA devices are available"):
        stage_device(job(devices=(0, 2)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"devices": []}, "at least 1 item"),
        ({"devices": [-1]}, "greater than or equal to 0"),
        ({"devices": [0, 1, 0]}, r"devices \[0, 1, 0\] lists a GPU twice; list it once"),
        ({"device": "cuda:1", "processes": 2}, r"device is 'cuda:1' and processes is 2; set device to auto or cuda"),
        ({"device": "cuda:1", "devices": [0]}, r"device is 'cuda:1' and devices lists GPUs; set device to auto"),
    ],
)
def test_lists_that_mean_nothing_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Machine.model_validate(published_params().machine.model_dump() | changes)
