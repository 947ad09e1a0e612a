"""Changed files are refused in one way only: by the error whose message is for the user."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spn4cir.config.load import parse_params
from spn4cir.datasets import open_benchmark
from spn4cir.errors import InputError
from tests.faults.annotation_cases import FIELDS, Field, put
from tests.faults.fuzz import CORPUS, Worker, keep, run
from tests.faults.fuzz_child import Job
from tests.faults.mutations import mutated
from tests.faults.params_cases import changed, leaves, settings_of_a_pair
from tests.faults.places import WRITERS, edit, spoil
from tests.faults.readers import outcome
from tests.faults.targets import TARGETS

INPUTS = 500
NUMBERS = st.integers() | st.floats() | st.integers(10**30, 10**31)
TEXTS = st.text(max_size=8) | st.sampled_from(["\ud83d", "a\nb", "\0", "../x", "x" * 3_000])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FEW = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


def findings() -> list[Path]:
    return sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Worker(tmp_path_factory.mktemp("readers")) as worker:
        yield worker


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path, "tests.faults.toys", seconds=0.5, stuck=5) as worker:
        yield worker


@pytest.mark.parametrize("path", findings(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_finding_of_the_fuzzer_is_mended(worker: Worker, path: Path) -> None:
    name = next(each.name for each in TARGETS if each.name.replace(" ", "-") == path.parent.name)
    assert worker.answer(name, path.read_bytes()) == ""


@pytest.mark.parametrize("name", [each.name for each in TARGETS])
def test_no_reader_raises_another_error(worker: Worker, name: str) -> None:
    found = worker.ask(Job(name, INPUTS, seed=1))
    assert {how: keep(name, content) for how, content in found.findings.items()} == {}
    assert found.fresh >= 1  # a change is answered in another way than the whole file


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.mark.parametrize("field", FIELDS, ids=lambda each: f"{each.layout}-{each.path[-1]}")
@FEW
@given(value=VALUES)
def test_a_field_of_any_value(places: Path, field: Field, value: Any) -> None:
    root = places / field.layout
    if not root.is_dir():
        WRITERS[field.layout](root)
    whole = (root / field.file).read_bytes()
    try:
        edit(root / field.file, lambda content: put(content, field.path, value))
        error = outcome(lambda _: open_benchmark(field.layout, root, "error").annotated_splits(), b"")
    finally:
        spoil(root / field.file, whole)
    assert error is None or isinstance(error, InputError), repr(error)


@FEW
@given(path=st.sampled_from([path for path, _ in leaves(settings_of_a_pair())]), value=VALUES)
def test_a_setting_of_any_value(path: tuple[str, ...], value: Any) -> None:
    error = outcome(lambda text: parse_params(text.decode(), "params.yaml"), json.dumps(changed(path, value)).encode())
    assert error is None or isinstance(error, InputError), repr(error)
    assert len(str(error).splitlines()) == 1


def test_the_fuzzer_finds_a_fault_and_keeps_its_input(toys: Worker, tmp_path: Path) -> None:
    ((row, found),) = run(toys, ["has a fault"], inputs=500, seed=1)
    (how,) = found.findings
    assert how == "KeyError at toys.py:_has_fault"
    assert b"9" in found.findings[how]
    assert row.tried == 500
    assert 0 < row.tried - row.survived < 500
    assert found.fresh == 1
    assert keep("has a fault", found.findings[how], tmp_path).read_bytes() == found.findings[how]


def test_the_inputs_depend_on_the_seed_alone(toys: Worker, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Worker(tmp_path / "other", "tests.faults.toys") as again:
        found = [each.ask(Job("has a fault", 100, seed)) for seed in (1, 2) for each in (toys, again)]
    assert found[0] == found[1] != found[2] == found[3]


@pytest.mark.parametrize(
    ("name", "how"), [("crashes", "SIGSEGV at toys.py:_dies"), ("is killed", "SIGKILL at an unknown line")]
)
def test_a_crash_of_the_reader_is_a_finding_and_the_process_starts_again(toys: Worker, name: str, how: str) -> None:
    assert toys.answer(name, b"7") == how
    found = toys.ask(Job(name, 500, seed=1))
    assert list(found.findings) == [how]
    assert found.findings[how] != b"1"
    assert toys.answer(name, b"1") == ""


@pytest.mark.parametrize("name", ["waits", "waits without signals"])
def test_a_reader_that_does_not_end_is_a_finding(toys: Worker, name: str) -> None:
    assert toys.answer(name, b"7") == "SIGABRT at toys.py:_waits"


def test_a_reader_that_exhausts_the_memory_is_a_finding(toys: Worker) -> None:
    assert toys.answer("exhausts the memory", b"7") == "MemoryError at toys.py:_exhausts"


def test_a_target_that_does_not_open_is_no_finding(toys: Worker) -> None:
    with pytest.raises(RuntimeError, match=r"does not open: cannot be fuzzed: (.|\n)*ZeroDivisionError"):
        toys.answer("does not open", b"7")


def test_a_changed_file_depends_on_the_seed_alone() -> None:
    def changes(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [mutated(b'{"a": 1}', [b"other"], rng) for _ in range(20)]

    assert changes(1) == changes(1) != changes(2)
