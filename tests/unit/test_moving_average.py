"""The moving average of the trained weights: its values, and that what is scored is what is written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from spn4cir.errors import InputError
from spn4cir.training.moving_average import MovingAverage
from tests.helpers.stub import stage2
from tests.unit.test_trainer import assert_same, last, talkative, trainer


def averaged(values: list[float], decay: float) -> float:
    """The average of a parameter that starts at zero and then has the values."""
    parameter = nn.Parameter(torch.zeros(2))
    average = MovingAverage([parameter], decay)
    for value in values:
        parameter.data.fill_(value)
        average.update()
    with average.applied():
        return float(parameter.detach()[1])


def test_the_start_weighs_little_after_a_few_steps() -> None:
    """The decays are 1/10, 2/11, 3/12: the product is the weight of the start."""
    assert averaged([1.0] * 3, 0.999) == pytest.approx(1 - 1 / 10 * 2 / 11 * 3 / 12)


def test_the_decay_is_the_bound() -> None:
    """With decay 0.1 every update is 0.1 * average + 0.9 * value."""
    assert averaged([1.0, 2.0, 3.0], 0.1) == pytest.approx(0.9 * 3 + 0.09 * 2 + 0.009 * 1)


def test_the_weights_are_the_own_ones_again_after_an_error() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = MovingAverage([parameter], 0.5)
    parameter.data.fill_(1)
    average.update()
    with pytest.raises(InputError, match=r"0\.9"), average.applied():
        raise InputError(f"{float(parameter.detach()):.1f}")
    assert float(parameter.detach()) == 1


def test_averaged_weights_are_scored_and_written(tmp_path: Path) -> None:
    """Best and last weights are the scored ones: the average of the steps, not the weights that the next step reads."""
    scored: list[Tensor] = []

    def score(composer: Any) -> dict[str, float]:
        scored.append(composer.text_side.weight.detach().clone())
        return {"score": float(-abs(len(scored) - 2))}

    composer = talkative()
    history = trainer(tmp_path, score, composer=composer, ema=0.9).fit()
    assert history.best_epoch == 2
    best = torch.load(tmp_path / "best.pt", weights_only=True)["state_dict"]
    assert torch.equal(best["text_side.weight"], scored[1])
    assert torch.equal(last(tmp_path)["text_side.weight"], scored[3])
    assert not torch.equal(composer.text_side.weight, scored[3])


def test_the_average_changes_no_step(tmp_path: Path) -> None:
    """The losses and the weights that the steps read are those of a run without an average."""
    composers = [talkative(), talkative()]
    plain = trainer(tmp_path / "1", composer=composers[0]).fit()
    history = trainer(tmp_path / "2", composer=composers[1], ema=0.9).fit()
    assert history.steps == plain.steps
    assert torch.equal(composers[0].text_side.weight, composers[1].text_side.weight)
    assert not torch.equal(last(tmp_path / "1")["text_side.weight"], last(tmp_path / "2")["text_side.weight"])


def test_a_learned_temperature_is_averaged_too(tmp_path: Path) -> None:
    composer = talkative()
    history = trainer(tmp_path, composer=composer, ema=0.9, learn_tau=True).fit()
    written = float(last(tmp_path)["temperature"])
    assert written == pytest.approx(history.epochs[-1]["temperature"])
    assert written != pytest.approx(float(composer.temperature.detach()), rel=1e-6)


def test_a_finished_run_writes_its_average_again(tmp_path: Path) -> None:
    trainer(tmp_path, ema=0.9).fit()
    expected = last(tmp_path)
    (tmp_path / "last.pt").unlink()
    trainer(tmp_path, ema=0.9).fit()
    assert_same(last(tmp_path), expected)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_decay_is_between_0_and_1(decay: float) -> None:
    with pytest.raises(ValidationError, match="ema"):
        stage2(ema=decay)
