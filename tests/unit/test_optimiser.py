"""Learning rates follow their schedules; the temperature is learned and dropout is active if the settings say so."""

from copy import deepcopy
from math import cos, pi

import pytest
import torch
from torch import nn

from spn4cir.training.optimiser import MIN_TEMPERATURE, TrainingRun, set_dropout
from tests.helpers.stub import StubComposer, optimisation

CPU = torch.device("cpu")
STEPS = 4


def rates(schedule: dict[str, object], epochs: int, **changes: object) -> list[float]:
    """The rate of every step."""
    composer = StubComposer()
    settings = optimisation(lr=1.0, epochs=epochs, schedule=schedule, **changes)
    run = TrainingRun.begin(composer, settings, 1, STEPS, CPU)
    found = []
    for _ in range(epochs):
        for _ in range(STEPS):
            found.append(run.learning_rate())
            run.optimiser.zero_grad()
            run.step(composer.text_side.weight.sum() + composer.image_side.weight.sum())
        run.end_epoch()
    return found


def test_a_constant_rate_stays() -> None:
    assert rates({"name": "constant"}, 3) == [1.0] * 12


def test_decay_ends_at_the_epoch_that_is_set() -> None:
    """TG-CIR's rate is a tenth after 5 epochs, a hundredth after 10, and then constant."""
    found = rates({"name": "decay", "factor": 0.1, "every": 5, "until": 10}, 16)
    assert found[:: STEPS * 5] == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert found[5 * STEPS - 1] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(0.01)


def test_a_cosine_rises_again_beyond_its_period() -> None:
    """The rate follows (1 + cos(pi epoch / period)) / 2, one rate for each epoch."""
    found = rates({"name": "cosine", "epochs": 4}, 8)
    assert found[::STEPS] == pytest.approx([1.0, 0.853553, 0.5, 0.146447, 0.0, 0.146447, 0.5, 0.853553], abs=1e-6)
    assert len(set(found[:STEPS])) == 1


def test_one_cycle_peaks_after_so_many_epochs() -> None:
    found = rates({"name": "one_cycle", "peak": 1.5, "start": 0.01}, 4)
    assert found[0] == pytest.approx(0.01)
    assert max(found) == pytest.approx(1.0, rel=0.02)
    assert found.index(max(found)) in (5, 6)  # 1.5 epochs of 4 steps
    assert found[-1] < 0.01


def test_a_warmed_up_cosine_falls_to_zero_over_the_run() -> None:
    """16 steps, a quarter of them to warm up; then (1 + cos(pi t / 12)) / 2 at each step t."""
    found = rates({"name": "warmup_cosine", "warmup": 0.25}, 4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:] == pytest.approx([(1 + cos(pi * t / 12)) / 2 for t in range(12)])


@pytest.mark.parametrize("warmup", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_short_run_warms_up_too(warmup: float, steps: int) -> None:
    """The rate is above zero in each step, and zero after the last one."""
    settings = optimisation(epochs=1, schedule={"name": "warmup_cosine", "warmup": warmup}, lr=1.0)
    composer = StubComposer()
    run = TrainingRun.begin(composer, settings, 1, steps, CPU)
    for _ in range(steps):
        assert 0 < run.learning_rate() <= 1
        run.optimiser.zero_grad()
        run.step(composer.text_side.weight.sum() + composer.image_side.weight.sum())
    assert run.learning_rate() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_short_run_has_its_cycle_too(epochs: int, steps: int) -> None:
    """The rate rises and falls within the run; one or two steps are too few for a cycle."""
    settings = optimisation(epochs=epochs, schedule={"name": "one_cycle", "peak": 1.5, "start": 0.01}, lr=1.0)
    run = TrainingRun.begin(StubComposer(), settings, 2, steps, CPU)
    found = []
    for _ in range(epochs * steps):
        found.append(run.learning_rate())
        run.optimiser.step()
        if run.scheduler is not None:
            run.scheduler.step()
    if len(found) < 3:
        assert set(found) == {1.0}
    else:
        assert found[0] == pytest.approx(0.01)
        assert max(found[1:-1]) > 0.5
        assert found[-1] < 0.01


def test_towers_have_a_rate_of_their_own() -> None:
    run = TrainingRun.begin(StubComposer(), optimisation(lr=1e-4, backbone_lr=1e-5), 1, STEPS, CPU)
    assert [group["lr"] for group in run.optimiser.param_groups] == [1e-5, 1e-4]


@pytest.mark.parametrize("learn", [True, False])
def test_the_temperature_is_learned_where_asked(learn: bool) -> None:
    """The temperature starts at tau whatever the file contains, and decays like every trained tensor if learned."""
    composer = StubComposer()
    composer.temperature.data.fill_(0.5)
    run = TrainingRun.begin(composer, optimisation(tau=0.05, learn_tau=learn), 2, STEPS, CPU)
    assert float(composer.temperature.detach()) == pytest.approx(0.05)
    queries, targets = torch.eye(12)[:4], torch.eye(12)
    queries.requires_grad_()
    run.step(composer.contrast(queries, targets, torch.arange(4), composer.temperature))
    assert (float(composer.temperature.detach()) != pytest.approx(0.05)) == learn


def test_a_fixed_temperature_may_lie_below_the_bound_of_a_learned_one() -> None:
    composer = StubComposer()
    run = TrainingRun.begin(composer, optimisation(tau=MIN_TEMPERATURE / 2, learn_tau=False), 2, STEPS, CPU)
    run.step(composer.text_side.weight.square().sum())
    assert float(composer.temperature) == pytest.approx(MIN_TEMPERATURE / 2)


def test_a_learned_temperature_stays_positive() -> None:
    composer = StubComposer()
    run = TrainingRun.begin(composer, optimisation(tau=0.002, learn_tau=True, lr=1.0), 2, STEPS, CPU)
    run.step(composer.temperature * 3)
    assert float(composer.temperature.detach()) == pytest.approx(MIN_TEMPERATURE)


def test_dropout_leaves_batch_norm_frozen() -> None:
    composer = StubComposer()
    composer.trial = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
    set_dropout(composer, True, seed=1)
    assert composer.trial[0].training
    assert not composer.trial[1].training
    first = composer.trial[0](torch.ones(64))
    set_dropout(composer, True, seed=1)
    assert torch.equal(first, composer.trial[0](torch.ones(64)))
    set_dropout(composer, False, seed=1)
    assert torch.equal(composer.trial[0](torch.ones(64)), torch.ones(64))


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "one_cycle", "peak": 1.5, "start": 0.01},
        {"name": "cosine", "epochs": 4},
        {"name": "warmup_cosine", "warmup": 0.5},
    ],
)
def test_a_resumed_run_goes_on_with_its_schedule(schedule: dict[str, object]) -> None:
    def advance(run: TrainingRun, composer: StubComposer) -> None:
        for _ in range(STEPS):
            run.optimiser.zero_grad()
            run.step(composer.text_side.weight.square().sum())
        run.end_epoch()

    composers = [StubComposer(), StubComposer()]
    settings = optimisation(schedule=schedule)
    first, second = (TrainingRun.begin(composer, settings, 2, STEPS, CPU) for composer in composers)
    advance(first, composers[0])
    second.resume(deepcopy(first.state()))
    advance(first, composers[0])
    advance(second, composers[1])
    assert first.learning_rate() == second.learning_rate()
    assert torch.equal(composers[0].text_side.weight, composers[1].text_side.weight)
