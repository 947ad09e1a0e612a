"""`make scale` at the smallest size: the drawn data set and its settings suit the stages."""

from pathlib import Path

import pytest

from tests.pipeline.conftest import ENVIRONMENT
from tests.scale.run import measure_size
from tests.scale.steps import STEPS
from tests.scale.store import Costs
from tests.scale.workspace import make_workspace

_IMAGES = 300
_STEPS = ("dedup", "caption", "match", "triplets")


def test_the_first_stages_run_on_the_drawn_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])
    steps = [step for step in STEPS if step.stage in _STEPS]
    costs = Costs.read(tmp_path / "costs.json")
    measure_size(_IMAGES, costs, tmp_path / "work", steps, make_workspace)
    assert [cost.step for cost in costs.sizes[_IMAGES]] == [name for step in steps for name in step.names]
    assert all(cost.seconds > 0 for cost in costs.sizes[_IMAGES])
    assert costs.of("triplets of the pool")[0].disk > 0
