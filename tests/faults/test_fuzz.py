"""Changed files are refused in one way only: by the error whose message is for the user."""

import json
import os
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spn4cir.config.load import parse_params
from spn4cir.datasets import open_benchmark
from spn4cir.errors import InputError
from tests.faults.annotation_cases import FIELDS, Field, put
from tests.faults.fuzz import CORPUS, answer, fuzz_slice, in_child, mutated, run
from tests.faults.params_cases import changed, leaves, settings_of_a_pair
from tests.faults.places import WRITERS, edit, spoil
from tests.faults.targets import TARGETS, Target, outcome

SECONDS = 30.0
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


# The fuzzer forks, and the child of a process with threads, as pytest is after other tests, can wait for ever.
IN_CHILD = pytest.mark.skip(reason="runs only as a program of its own: python -m tests.faults.fuzz --minutes 1")


@IN_CHILD
@pytest.mark.parametrize("path", findings(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_finding_of_the_fuzzer_is_mended(path: Path, tmp_path: Path) -> None:
    target = next(each for each in TARGETS if each.name.replace(" ", "-") == path.parent.name)
    assert answer(target, tmp_path, path.read_bytes()) == ""


@IN_CHILD
def test_no_reader_raises_another_error() -> None:
    found = {row.fault: list(finding) for row, finding in run(SECONDS, seed=1) if finding}
    assert found == {}


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


@IN_CHILD
def test_the_fuzzer_finds_a_fault_and_keeps_its_input(tmp_path: Path) -> None:
    def fails(content: bytes) -> None:
        if b"9" in content:
            raise KeyError("x")
        if content != b"1":
            raise InputError("not 1")

    target = Target("toy", lambda _: [b"1"], lambda _: fails)
    found = fuzz_slice(target, tmp_path, [b"1"], 0.3, seed=1)
    (how,) = found.findings
    assert how.startswith("KeyError at ")
    assert b"9" in found.findings[how]
    assert found.tried > 10
    assert len(found.fresh) == 1


@IN_CHILD
@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")])
def test_a_crash_of_the_reader_is_a_finding(number: signal.Signals, name: str, tmp_path: Path) -> None:
    def crashes(_: bytes) -> None:
        os.kill(os.getpid(), number)

    target = Target("toy", lambda _: [b"1"], lambda _: crashes)
    assert answer(target, tmp_path, b"7").startswith(f"{name} at ")
    search = partial(fuzz_slice, target, tmp_path, [b"1"], 5, 1)
    assert in_child("toy", search, tmp_path).tried == 1


def test_a_changed_file_depends_on_the_seed_alone() -> None:
    def changes(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [mutated(b'{"a": 1}', [b"other"], rng) for _ in range(20)]

    assert changes(1) == changes(1) != changes(2)
