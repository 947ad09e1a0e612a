"""Averages of the weights before and after training: the best on val is written, the trained weights among them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from spn4cir.errors import InputError
from spn4cir.training.averaging import copied, keep_best_share
from spn4cir.training.figures import write_figures
from tests.helpers.stub import stage2
from tests.unit.test_trainer import Killed, assert_same, talkative, trainer

TAU = {"learn_tau": True, "tau": 0.1}


def compared(shares: list[float], wanted: float) -> tuple[list[dict[str, float]], Tensor]:
    """Compares averages of 0 and 10 by their distance from a wanted value."""
    parameter = nn.Parameter(torch.zeros(3))
    before, after = copied([parameter]), [torch.full((3,), 10.0)]

    def evaluate() -> dict[str, float]:
        return {"near": -abs(float(parameter.detach()[0]) - wanted), "other": 1.0}

    rows = keep_best_share([parameter], before, after, shares, evaluate, "near")
    return rows, parameter.detach()


def test_the_best_average_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    rows, kept = compared([1.0, 0.7, 0.5], 6.5)
    torch.testing.assert_close(kept, torch.full((3,), 7.0))
    assert [(row["share"], row["kept"], row["other"]) for row in rows] == [(1.0, 0, 1.0), (0.7, 1, 1.0), (0.5, 0, 1.0)]
    assert [row["score"] for row in rows] == pytest.approx([-3.5, -0.5, -1.5])
    assert [row["near"] for row in rows] == [row["score"] for row in rows]
    assert capsys.readouterr().out == (
        "averaging: near -3.50 with 1, -0.50 with 0.7, -1.50 with 0.5 of the trained weights: 0.7 is kept\n"
    )


def test_the_first_of_equal_scores_is_kept() -> None:
    """So the trained weights stay unless an average is strictly better."""
    rows, kept = compared([1.0, 0.5], 7.5)
    assert [row["kept"] for row in rows] == [1, 0]
    assert torch.equal(kept, torch.full((3,), 10.0))


def distance(wanted: Tensor) -> Any:
    """A score that is best at the wanted weights."""
    return lambda composer: {"score": -float((composer.text_side.weight.detach() - wanted).norm())}


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_the_best_share_is_written_as_the_best(tmp_path: Path) -> None:
    """The score is best at a quarter of the way of the best epoch; the last weights stay as they were trained."""
    plain = trainer(tmp_path / "1", lambda composer: {"score": 1.0}, **TAU).fit()
    trained = weights(tmp_path / "1" / "best.pt")
    start = talkative().text_side.weight.detach()
    quarter = start + 0.25 * (trained["text_side.weight"] - start)
    first = iter([1.0, 0.0, 0.0, 0.0])

    def score(composer: Any) -> dict[str, float]:
        return {"score": found} if (found := next(first, None)) is not None else distance(quarter)(composer)

    history = trainer(tmp_path / "2", score, averaging=[0.5, 0.25], **TAU).fit()
    assert (history.steps, history.best_epoch) == (plain.steps, plain.best_epoch)
    assert [(row["share"], row["kept"]) for row in history.averaging] == [(1.0, 0), (0.5, 0), (0.25, 1)]
    assert history.best_score == history.averaging[-1]["score"]
    best = weights(tmp_path / "2" / "best.pt")
    torch.testing.assert_close(best["text_side.weight"], quarter)
    torch.testing.assert_close(best["temperature"], 0.1 + 0.25 * (trained["temperature"] - 0.1))
    assert torch.equal(best["image_side.weight"], trained["image_side.weight"])
    assert_same(weights(tmp_path / "1" / "last.pt"), weights(tmp_path / "2" / "last.pt"))


def test_the_trained_weights_are_always_compared(tmp_path: Path) -> None:
    """The score grows with the distance from the start, so the trained weights have the best one."""
    start = talkative().text_side.weight.detach().clone()

    def away(composer: Any) -> dict[str, float]:
        return {"score": float((composer.text_side.weight.detach() - start).norm())}

    trainer(tmp_path / "1", away).fit()
    history = trainer(tmp_path / "2", away, averaging=[0.5]).fit()
    assert [row["share"] for row in history.averaging] == [1.0, 0.5]
    assert_same(weights(tmp_path / "1" / "best.pt"), weights(tmp_path / "2" / "best.pt"))


def test_averaged_weights_of_the_steps_are_averaged_with_the_start(tmp_path: Path) -> None:
    """With a moving average, share 1 is the moving average, as it was scored and written."""
    trainer(tmp_path / "1", lambda composer: {"score": 1.0}, ema=0.9).fit()
    trainer(tmp_path / "2", lambda composer: {"score": 1.0}, ema=0.9, averaging=[0.5]).fit()
    assert_same(weights(tmp_path / "1" / "best.pt"), weights(tmp_path / "2" / "best.pt"))


@pytest.mark.parametrize("call", [2, 4, 5, 6])
def test_a_killed_run_compares_the_same_averages(tmp_path: Path, call: int) -> None:
    """The run is killed in the evaluation of an epoch or of an average (the fifth call is the first average)."""
    wanted = talkative().text_side.weight.detach() * 0.99
    settings = {"averaging": [0.3, 0.6], "ema": 0.9, **TAU}
    whole = trainer(tmp_path / "1", distance(wanted), **settings).fit()
    calls: list[int] = []

    def score(composer: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return distance(wanted)(composer)

    with pytest.raises(Killed):
        trainer(tmp_path / "2", score, **settings).fit()
    assert trainer(tmp_path / "2", distance(wanted), **settings).fit() == whole
    for name in ("best.pt", "last.pt"):
        assert_same(weights(tmp_path / "1" / name), weights(tmp_path / "2" / name))


def test_the_scores_are_a_file_beside_the_scores_of_the_epochs(tmp_path: Path) -> None:
    """The folder has no such file without averages."""
    for name, changes in (("on", {"averaging": [0.5]}), ("off", {})):
        history = trainer(tmp_path / name, **changes).fit()
        write_figures(history, tmp_path / f"figures-{name}", tmp_path / f"speed-{name}")
    assert json.loads((tmp_path / "figures-on" / "scores" / "averaging.json").read_text()) == [
        {"share": 1.0, "score": 1.0, "kept": 1},
        {"share": 0.5, "score": 1.0, "kept": 0},
    ]
    assert not (tmp_path / "figures-off" / "scores" / "averaging.json").exists()


def test_without_validation_averages_are_refused_before_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="averaging chooses by validation scores"):
        trainer(tmp_path, None, averaging=[0.5]).fit()  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shares", [[], [0.0], [0.5, 1.5], [-1]])
def test_shares_are_above_0_and_at_most_1(shares: list[float]) -> None:
    with pytest.raises(ValidationError, match="averaging"):
        stage2(averaging=shares)
