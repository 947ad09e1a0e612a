"""`make scale`: what is measured again after an interruption, and the page of its results."""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.memory import INTERVAL, watched
from tests.scale.growth import PRODUCTS, StepCost
from tests.scale.page import render
from tests.scale.pool import FILES, TARS, dependents
from tests.scale.run import measure_again, measure_size
from tests.scale.steps import Step
from tests.scale.store import Costs

SIZES = (30_000, 100_000)


def appending(name: str) -> Step:
    """A step that adds a megabyte to the data, and a line to a file that shows how often it ran."""
    script = f"echo {name} >> ran; head -c 1000000 /dev/zero > data/{name}"
    return Step((name,), lambda project: ["sh", "-c", script])


def failing(name: str) -> Step:
    return Step((name,), lambda project: ["sh", "-c", "echo the reason; exit 3"])


@pytest.fixture
def make() -> tuple[Callable[[Path, int], None], list[int]]:
    """A function that makes an empty workspace, and the sizes that it made."""
    made: list[int] = []

    def empty(place: Path, images: int) -> None:
        made.append(images)
        (place / "project" / "data").mkdir(parents=True)

    return empty, made


def test_a_step_that_failed_is_repeated_and_the_steps_before_it_are_not(tmp_path, make, capsys) -> None:
    empty, made = make
    place, results = tmp_path / "work", tmp_path / "costs.json"
    with pytest.raises(SystemExit, match="exit 3 failed in"):
        measure_size(100, Costs.read(results), place, [appending("first"), failing("second")], empty)
    assert "the reason" in capsys.readouterr().err
    assert Costs.read(results).steps(100) == {"first"}
    measure_size(100, Costs.read(results), place, [appending("first"), appending("second")], empty)
    (first,), (second,) = (Costs.read(results).of(name) for name in ("first", "second"))
    assert made == [100]
    assert not place.exists()
    assert first.disk == second.disk == pytest.approx(1, abs=0.01)


def test_a_size_whose_workspace_is_gone_is_measured_from_the_start(tmp_path, make) -> None:
    empty, made = make
    costs = Costs.read(tmp_path / "costs.json")
    measure_size(100, costs, tmp_path / "work", [appending("first")], empty)
    measure_size(100, costs, tmp_path / "work", [appending("first")], empty)
    assert made == [100]
    measure_size(100, costs, tmp_path / "work", [appending("first"), appending("second")], empty)
    assert made == [100, 100]
    assert [cost.step for cost in costs.sizes[100]] == ["first", "second"]


def stored(path: Path, steps: dict[str, float]) -> Costs:
    """Costs of steps whose seconds are a power of the images."""
    costs = Costs.read(path)
    for images in SIZES:
        found = [StepCost(step, images, (images / 1000) ** power, 300.0, 1.0) for step, power in steps.items()]
        costs.add(images, found, "a machine")
    return costs


def test_the_page_has_the_growth_the_faults_and_the_projection(tmp_path) -> None:
    costs = stored(tmp_path / "stages.json", {"dedup": 1.0, "bank": 1.5, PRODUCTS[0]: 2.0})
    lines = render(costs, Costs.read(tmp_path / "none.json")).splitlines()
    assert "| step | 30,000 images: s | 100,000 images: s | exponent | last |" in lines
    assert "| dedup | 30.0 | 100.0 | 1.00 | 1.00 |" in lines
    assert [line for line in lines if line.startswith("- ")] == [
        "- bank: the exponent of its seconds is 1.50, more than 1.1."
    ]
    assert "| step | CC3M, 3 M images: time | CC3M, 3 M images: memory | CC3M, 3 M images: disk" in "\n".join(lines)
    assert "| dedup | 50 min | 300 MB | 1 MB | 28 h | 300 MB | 1 MB |" in lines
    assert "Machine (30,000, 100,000 images): a machine." in lines
    assert "## DVC with many files" not in lines


def test_a_step_is_measured_again_after_the_one_that_it_needs(tmp_path, make) -> None:
    empty, made = make
    costs = Costs.read(tmp_path / "stages.json")
    costs.add(100, [StepCost(step, 100, 1e6, 300.0, 7.0) for step in ("first", "second")], "a machine")
    second = replace(appending("second"), needs=(appending("first"),))
    measure_again([second], 100, costs, tmp_path / "work", empty)
    read = Costs.read(tmp_path / "stages.json")
    assert made == [100]
    assert not (tmp_path / "work").exists()
    assert [cost.seconds == 1e6 for cost in read.sizes[100]] == [True, False]
    assert read.of("second")[0].disk == pytest.approx(1, abs=0.01)
    lines = render(read, Costs.read(tmp_path / "none.json")).splitlines()
    assert "Machine (100 images): a machine." in lines
    (again,) = (line for line in lines if line.startswith("Machine of"))
    assert again.startswith("Machine of `second`, measured again alone (100 images): ")
    read.drop(100)
    assert not Costs.read(tmp_path / "stages.json").again


def test_the_page_of_one_size_says_that_growth_is_unknown(tmp_path) -> None:
    costs = Costs.read(tmp_path / "stages.json")
    costs.add(30_000, [StepCost("dedup", 30_000, 30.0, 300.0, 1.0)], "a machine")
    lines = render(costs, Costs.read(tmp_path / "none.json")).splitlines()
    assert [line for line in lines if line.startswith("- ")] == ["- unknown: growth needs two sizes."]


def test_the_page_shows_the_arithmetic_for_a_million_image_files(tmp_path) -> None:
    pools = stored(tmp_path / "dvc.json", {f"{FILES}: status": 1.0})
    pools.add(1_000_000, [StepCost(f"{TARS}: status", 1_000_000, 3.0, 300.0, 0.0)], "a machine")
    lines = render(Costs.read(tmp_path / "none.json"), pools).splitlines()
    assert f"- {FILES}: status: 100.0 s for 100,000 images x 10^1.00 = 17 min for 1,000,000." in lines
    assert f"| {TARS}: status |  |  | 3.0 |  |" in lines
    assert "where `last` is above 1.1," in "\n".join(lines)


def test_the_stages_that_depend_on_the_pool_are_those_of_the_pipeline() -> None:
    assert {"caption", "triplets", "report"} <= set(dependents())
    assert "bank" not in dependents()


def test_pages_of_descendants_that_end_during_a_sample_count_once() -> None:
    sizes = itertools.cycle([100.0, 0.0])
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True
    ) as root:
        assert root.stdout is not None
        root.stdout.readline()
        with watched(root.pid, lambda process: 100.0 if process.pid == root.pid else next(sizes)) as peaks:
            time.sleep(5 * INTERVAL)
        os.killpg(root.pid, signal.SIGKILL)
    assert peaks("all") == 100
