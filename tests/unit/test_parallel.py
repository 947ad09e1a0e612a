"""The group of one process, its device, and the reason that is printed where one of several processes fails."""

import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed.run
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousConnectionError

import spn4cir.parallel.group
import stages.checkpoint
import stages.train
import stages.training
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.parallel import ALONE, Group
from spn4cir.parallel.launch import _reason, launch, start_processes, trains_alone
from spn4cir.parallel.worker import device_name
from spn4cir.training.bank_targets import BankTargets, divides_bank
from stages.common import Job
from stages.training import GlobalBatch
from tests.conftest import CPU
from tests.helpers.stub import stage2

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda:0")


def test_one_process_exchanges_nothing() -> None:
    rows = torch.rand(3, 2)
    assert ALONE.part(5) == slice(0, 5)
    assert ALONE.gather(rows) is ALONE.sum(rows) is ALONE.maximum(rows) is rows
    assert ALONE.from_first(lambda: 7) == 7
    ALONE.sum_gradients([nn.Parameter(rows)])
    assert not torch.distributed.is_initialized()


def test_the_parts_of_a_batch_are_equal_and_in_order() -> None:
    assert [Group(rank, 3).part(12) for rank in range(3)] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    with pytest.raises(AssertionError):
        Group(0, 3).part(10)


def test_gradients_are_added_up_in_buckets_of_one_number_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spn4cir.parallel.group, "_BUCKET_VALUES", 5)
    gradients = [torch.zeros(2), torch.zeros(3), torch.zeros(1), torch.zeros(9), torch.zeros(1, dtype=torch.float16)]
    buckets = list(spn4cir.parallel.group._buckets(gradients))
    assert [[each.numel() for each in bucket] for bucket in buckets] == [[2, 3], [1], [9], [1]]


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the second process of two, on a machine with two GPUs."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize(("asked", "device"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu")])
def test_each_process_has_a_gpu_of_its_own(asked: str, device: str) -> None:
    assert device_name(asked) == device


@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:1", "cpu"])
def test_one_process_has_the_device_of_the_settings(asked: str) -> None:
    assert device_name(asked) == asked


@pytest.mark.usefixtures("second_of_two")
def test_more_processes_than_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"^machine\.processes: 2 processes need as many GPUs, .* has 1; lower"):
        device_name("auto")


@pytest.mark.usefixtures("second_of_two")
def test_one_gpu_for_several_processes_is_refused() -> None:
    with pytest.raises(InputError, match=r"^machine\.device: cuda:0 is one GPU, and machine\.processes is 2; set"):
        device_name("cuda:0")


def failure(exitcode: int, recorded: str = "", timestamp: int = 5) -> ProcessFailure:
    found = ProcessFailure(0, 1, exitcode, "/no/such/file")
    found.timestamp = timestamp
    if recorded:
        found.message = {"message": recorded}  # type: ignore[assignment]
    return found


LOST = "LostProcess: [gloo] Connection closed by peer"
GLOO = (
    "LostProcess: [/__w/gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]:7. This is typically caused by "
    "a remote worker crashing. Check the logs of the remote worker for more details."
)


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        ([failure(1, LOST, 1), failure(1, "InputError: a: b", 9)], "a: b"),
        ([failure(1, "InputError: second", 9), failure(1, "InputError: first", 2)], "first"),
        ([failure(1, LOST, 1), failure(-signal.SIGKILL, timestamp=9)], "process 1 of the training was killed (SIGKILL"),
        ([failure(-signal.SIGTERM, timestamp=1), failure(3, timestamp=9)], "process 1 of the training ended with stat"),
        ([failure(1, LOST)], "process 0 lost another process of the training ([gloo] Connection closed by peer); run"),
        ([failure(1, GLOO)], "process 0 lost another process of the training (Connection closed by peer [::1]:7); run"),
    ],
)
def test_the_reason_is_that_of_the_process_that_failed_by_itself(failures: list[Any], reason: str) -> None:
    assert _reason(dict(enumerate(failures))).startswith(reason)


def test_a_batch_that_the_processes_cannot_divide_is_named() -> None:
    GlobalBatch("train.d.f.batch_size", 12).check_division(3)
    expected = r"^train\.d\.f\.batch_size: 16 triplets cannot be divided among 3 processes \(machine\.proc"
    with pytest.raises(InputError, match=expected):
        GlobalBatch("train.d.f.batch_size", 16).check_division(3)


@pytest.mark.parametrize("stage", [stages.checkpoint, stages.train])
@pytest.mark.parametrize(("processes", "nodes", "expected"), [(7, None, 7), (4, "7", 28), (7, "1:4", 7)])
def test_a_stage_refuses_such_a_batch_before_it_starts_processes(
    stage: ModuleType, processes: int, nodes: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PET_NNODES is the number of machines, in a command that the prefix has started."""
    monkeypatch.setattr(stages.training, "start_processes", lambda *arguments: pytest.fail("processes were started"))
    if nodes is not None:
        monkeypatch.setenv("PET_NNODES", nodes)
        monkeypatch.setenv("SPN4CIR_LAUNCHED", "1")
    params = load_params(ROOT / "params.yaml")
    machine = params.machine.model_copy(update={"processes": processes})
    within = {"demo_fiq": {"clip": params.checkpoint["demo_fiq"]["clip"].model_copy(update={"source": "train"})}}
    job = Job(params.model_copy(update={"machine": machine, "checkpoint": within}), "demo_fiq", "clip")
    with pytest.raises(InputError, match=rf"demo_fiq\.clip\S*\.batch_size: \d+ triplets .* among {expected} processes"):
        stage.main(job)


@pytest.mark.parametrize(("nodes", "alone"), [(None, True), ("", True), ("1", True), ("2", False), ("1:4", False)])
def test_a_range_of_machines_is_not_one_machine(
    monkeypatch: pytest.MonkeyPatch, nodes: str | None, alone: bool
) -> None:
    monkeypatch.delenv("PET_NNODES", raising=False)
    if nodes is not None:
        monkeypatch.setenv("PET_NNODES", nodes)
    assert trains_alone() is alone


def divides(asked: Any, size: int = 2, device: torch.device = CPU, images: int = 9, **settings: Any) -> bool:
    return divides_bank(asked, torch.zeros(images, 4), stage2(**settings), Group(0, size), device)


def test_a_bank_is_divided_where_it_is_asked_for() -> None:
    assert divides("always")
    assert not divides("never")
    assert not divides("auto"), "on the CPU, the processes share the memory of the mapped file"
    assert not divides("always", size=1)
    assert not divides("always", size=2, images=1)


@pytest.mark.parametrize(("memory", "divided"), [(9 * 16 * 4, False), (9 * 16 * 4 - 4, True)])
def test_a_bank_is_divided_above_a_quarter_of_the_smallest_gpu(
    monkeypatch: pytest.MonkeyPatch, memory: int, divided: bool
) -> None:
    sizes = SimpleNamespace(total_memory=10 * memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: sizes)
    monkeypatch.setattr(Group, "maximum", lambda group, values: torch.maximum(values, torch.tensor(-memory)))
    assert divides("auto", device=CUDA) == divided
    assert not divides("auto", device=CUDA, bank_samples=3)


@pytest.mark.parametrize("settings", [{"bank_samples": 3}, {"false_negatives": {"above": 0.9}}], ids=str)
def test_settings_that_need_the_whole_bank_are_named(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(InputError, match=rf"^machine\.shard_bank: always .*, and {name} of stage 2 needs"):
        divides("always", **settings)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_the_rows_of_all_processes_are_the_bank(size: int) -> None:
    stored = torch.rand(9, 4)
    parts = [BankTargets.on(CPU, stored, Group(rank, size), True) for rank in range(size)]
    assert torch.equal(torch.cat([each.held for each in parts]), stored)
    assert all(torch.equal(each.held, stored[each.first : each.first + len(each.held)]) for each in parts)
    rows = torch.tensor([8, 0, 4])
    assert all(torch.equal(each.rows(rows), stored[rows]) for each in parts)


def test_a_prefix_with_an_open_quote_is_named() -> None:
    with pytest.raises(InputError, match=r"^machine\.launch: srun 'x: No closing quotation; correct its quotes"):
        launch("srun 'x", "stages.train", ())


@pytest.mark.parametrize(("level", "expected"), [(None, "ERROR"), ("INFO", "INFO")])
def test_the_command_of_a_prefix_has_the_level_of_messages_before_it_imports_torch(
    level: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The level has no effect after the import."""
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", level)
    (tmp_path / "prefix.sh").write_text(f"echo \"$@\" > '{tmp_path}/found'\n")
    launch(f"sh '{tmp_path}/prefix.sh'", "stages.train", ("fiq", "clip"))
    words = (tmp_path / "found").read_text().split()
    assert words == [
        *("env", "SPN4CIR_LAUNCHED=1", f"TORCH_CPP_LOG_LEVEL={expected}", sys.executable),
        *("-m", "stages.train", "fiq", "clip"),
    ]


@pytest.mark.parametrize(
    ("begun", "message"),
    [(True, r"^this machine lost another machine .*run the stage again"), (False, r"^the processes did not find each")],
)
def test_a_lost_machine_is_not_one_that_was_never_found(
    begun: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(asked: Any) -> None:
        if begun:
            (Path(asked.log_dir) / "run_x" / "attempt_0").mkdir(parents=True)
        raise RendezvousConnectionError("The connection to the C10d store has failed.")

    monkeypatch.setattr(torch.distributed.run, "run", run)
    for name in ("SPN4CIR_STARTED_BY", "OMP_NUM_THREADS", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(InputError, match=message):
        start_processes(1, "stages.train", ())
