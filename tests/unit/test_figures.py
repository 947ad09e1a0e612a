"""Figures of a run: complete, written during training, and equal for a resumed and an uninterrupted run."""

import copy
import csv
import re
import sys
from pathlib import Path

import pytest

from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.training.batches import BankSource
from spn4cir.training.figures import GROUPS, Figures, write_figures
from spn4cir.training.trainer import History
from tests.conftest import CPU
from tests.helpers.stub import stage2
from tests.unit.test_trainer import Killed, bank, killed_at, rows, trainer


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder outside of any repository."""
    monkeypatch.chdir(tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def contents(folder: Path) -> dict[str, str]:
    """All figures except those of speed, which differ in every run."""
    files = sorted(folder.rglob("*.tsv"))
    return {str(path.relative_to(folder)): path.read_text() for path in files if path.parent.name != "speed"}


def test_each_figure_is_a_file(tmp_path: Path) -> None:
    """Steps and epochs count from 1; `score` is the one that selects, `scores` contains the layout's own.

    Speed is in a folder of its own: beside the figures that a repeated run writes again.
    """
    history = History(
        steps=[{"step": 1, "epoch": 1, "loss": 0.5}, {"step": 2, "epoch": 1, "loss": 0.25}],
        epochs=[{"epoch": 1, "loss": 0.375, "score": 40.0, "learning_rate": 1e-5, "temperature": 0.02, "recall": 40.0}],
        speed=[{"images_per_second": 7.5, "memory_mb": 100.0}],
    )
    write_figures(history, tmp_path / "figures", tmp_path / "speed")
    expected = {
        "steps/loss": [("1", "0.5"), ("2", "0.25")],
        "epochs/loss": [("1", "0.375")],
        "epochs/score": [("1", "40.0")],
        "epochs/learning_rate": [("1", "1e-05")],
        "epochs/temperature": [("1", "0.02")],
        "scores/recall": [("1", "40.0")],
    }
    found = {str(path.relative_to(tmp_path / "figures")) for path in (tmp_path / "figures").rglob("*.tsv")}
    assert found == {f"{name}.tsv" for name in expected}
    beside = {"images_per_second": [("1", "7.5")], "memory_mb": [("1", "100.0")]}
    assert {path.name for path in (tmp_path / "speed").iterdir()} == {f"{name}.tsv" for name in beside}
    places = {tmp_path / "figures" / name: values for name, values in expected.items()}
    places |= {tmp_path / "speed" / name: values for name, values in beside.items()}
    for place, values in places.items():
        column = place.name
        rows = table(place.with_name(f"{column}.tsv"))
        assert rows == [{"step": step, column: value} for step, value in values]


def test_weights_that_were_not_trained_have_empty_groups(tmp_path: Path) -> None:
    write_figures(History(), tmp_path / "figures", tmp_path / "speed")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(GROUPS)
    assert not list(tmp_path.rglob("*.*"))


def test_a_run_is_watched_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of steps are written within an epoch; the loss and the scores of the epoch are written after it."""
    monkeypatch.setattr("spn4cir.training.trainer._CHECK_STEPS", 2)
    figures, seen = Figures(tmp_path / "live"), []
    place = tmp_path / "live" / "plots" / "metrics"

    def watch(history: History) -> None:
        figures.update(history)
        names = ("steps/loss.tsv", "epochs/score.tsv", "speed/memory_mb.tsv")
        seen.append(tuple(len(table(place / name)) if (place / name).is_file() else 0 for name in names))

    trainer(tmp_path / "work", batch_size=2, epochs=2, watch=watch).fit()
    assert seen[0] == (0, 0, 0)
    assert [steps for steps, *_ in seen] == [0, 2, 4, 5, 5, 7, 9, 10, 10]
    assert [epochs for _, epochs, _ in seen] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert seen[-1] == (10, 2, 2)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_run_has_the_figures_of_an_uninterrupted_one(tmp_path: Path, epoch: int) -> None:
    """No row is repeated or missing, neither in the live figures nor in those written at the end."""
    whole = trainer(tmp_path / "1", killed_at(0), watch=Figures(tmp_path / "live1").update).fit()
    with pytest.raises(Killed):
        trainer(tmp_path / "2", killed_at(epoch), watch=Figures(tmp_path / "live2").update).fit()
    done = epoch - 1
    again = trainer(
        tmp_path / "2",
        lambda c, n=[done]: {"score": float(n.append(1) or done + len(n) - 1)},
        watch=Figures(tmp_path / "live2").update,
    ).fit()
    assert contents(tmp_path / "live2") == contents(tmp_path / "live1")
    for name, history in (("a", whole), ("b", again)):
        write_figures(history, tmp_path / name, tmp_path / f"speed-{name}")
        assert len(table(tmp_path / f"speed-{name}" / "memory_mb.tsv")) == 4
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != {}


def test_watching_changes_no_weight(tmp_path: Path) -> None:
    """The files of a watched and an unwatched run are equal byte by byte."""
    trainer(tmp_path / "1").fit()
    trainer(tmp_path / "2", watch=Figures(tmp_path / "live").update).fit()
    for name in ("best.pt", "last.pt"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_images_per_second_counts_what_the_steps_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed is the number of unique images of the steps over the time of the steps, without scoring."""
    clock = iter(range(100))
    monkeypatch.setattr("spn4cir.training.trainer.time.perf_counter", lambda: 4 * next(clock))
    source = BankSource(rows(), bank(), stage2(), 1, CPU)
    read = [len(batch.inputs) for batch in source.batches(1)]
    history = trainer(tmp_path / "work", source=source, epochs=1).fit()
    assert history.speed[0]["images_per_second"] == sum(read) / 4
    assert 10 < history.speed[0]["memory_mb"] < 1e6


def test_speed_is_no_part_of_what_makes_histories_equal() -> None:
    history = History(steps=[{"step": 1, "epoch": 1, "loss": 1.0}])
    other = copy.deepcopy(history)
    other.speed.append({"images_per_second": 1.0, "memory_mb": 1.0})
    assert history == other
    other.steps[0]["loss"] = 2.0
    assert history != other


def test_without_dvclive_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training without a watch does not need the package."""
    monkeypatch.setitem(sys.modules, "dvclive.live", None)
    trainer(tmp_path / "work", epochs=1).fit()
    with pytest.raises(InputError, match=re.escape(f"dvclive is not installed; run {install_command('dvc')}")):
        Figures(tmp_path / "live")
