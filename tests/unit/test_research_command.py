"""The command line of `make research`, and the processor that its page names."""

import shutil
import sys
from pathlib import Path

import pytest

from demo.research import __main__ as command
from demo.research.rows import read_table
from spn4cir.errors import InputError
from spn4cir.projects.apply_recipe import apply_recipe, write_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings in the current folder, in which the command makes no experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Research", _Untouched)
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


class _Untouched:
    def __init__(self, *_: object) -> None:
        raise SystemExit("the settings were accepted")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "1 two"], "got '1 two'"),
        (["--seeds", "-1"], "expected"),
        (["--seeds", str(1 << 32)], "from 0 to 4294967295"),
        (["--draw", "0"], "a number from 1, got '0'"),
        (["--draw", "b"], "a number from 1, got 'b'"),
    ],
)
def test_wrong_numbers_end_with_a_message(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["research", *arguments])
    with pytest.raises(SystemExit) as end:
        command._arguments()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_seed_that_is_named_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["research", "--seeds", "3, 1 3", "--draw", "2"])
    asked = command._arguments()
    assert (asked.seeds, asked.draw) == ((3, 1), 2)


def test_a_page_of_stored_results_keeps_the_processor_of_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in which nothing ran, or only another draw, does not claim the runs for its own processor."""
    page, times = tmp_path / "research.md", tmp_path / "research.json"
    monkeypatch.setattr(command, "OUT", page)
    monkeypatch.setattr(command, "TIMES", times)
    assert command._machine().startswith("Processor: ")
    page.write_text("# Page\n\nProcessor: of another machine, 2 cores; 100 experiments took 80 minutes.\n")
    command._note(2, 3, 5.0)
    assert "of another machine" in command._machine()
    command._note(1, 4, 7.0)
    command._note(1, 6, 2.2)
    assert command._machine().endswith("; 10 experiments took 9 minutes.")


@pytest.mark.parametrize(("dataset", "family"), [("demo_fiq", "clip"), ("demo_cirr", "zs")])
def test_settings_that_are_not_the_published_ones_are_refused(
    dataset: str, family: str, params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row `paper` would have the settings of another recipe."""
    write_recipe(params, apply_recipe(params.read_text(), "params.yaml", "plus", dataset, family))
    monkeypatch.setattr(sys, "argv", ["research"])
    line = rf"data set {dataset}, family {family}: .* run: spn4cir recipe paper --dataset {dataset} --family {family}$"
    with pytest.raises(InputError, match=line) as refused:
        command.main()
    assert "\n" not in str(refused.value)
    assert f"match.{dataset}.window.{family}" in str(refused.value)
    other = next(name for name in read_table().datasets if name != dataset)
    monkeypatch.setattr(sys, "argv", ["research", "--datasets", other])
    with pytest.raises(SystemExit, match="accepted"):
        command.main()


@pytest.mark.usefixtures("params")
def test_the_published_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["research"])
    with pytest.raises(SystemExit, match="accepted"):
        command.main()


@pytest.mark.usefixtures("params")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--rows", "zs near"], "ROWS: 'zs near' is a trial, .* give DRAW=2"), (["--rows", "nera"], "'nera' is unknown")],
)
def test_a_row_that_cannot_be_run_is_named(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["research", *arguments])
    with pytest.raises(InputError, match=said):
        command.main()


@pytest.mark.usefixtures("params")
def test_a_trial_runs_on_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["research", "--rows", "zs near", "--draw", "2"])
    with pytest.raises(SystemExit, match="accepted"):
        command.main()
