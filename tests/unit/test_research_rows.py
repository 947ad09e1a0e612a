"""The rows of `make research`: their settings, commands and keys."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from demo.research.keys import Keys
from demo.research.rows import ROWS_FILE, STAGE1, command, drawing, read_table, run_name
from demo.settings import DemoParams
from spn4cir.config.load import load_params
from spn4cir.errors import InputError
from spn4cir.projects.named_recipes import recipe_settings, setting_path
from tests.helpers.research import make_table

ROOT = Path(__file__).parents[2]
TABLE = read_table()
KEYS = Keys(TABLE)
TRAINED = [name for name, row in TABLE.rows.items() if row.of is None]


def changed(arguments: list[str], folder: Path) -> tuple[Path, Path]:
    """The two files of params after the changes of a command, which DVC's own parser reads."""
    settings = get_main_parser().parse_args(arguments[1:]).set_param
    places = (ROOT / "params.yaml", ROOT / "demo/params.yaml")
    root, demo = (Path(shutil.copy(place, folder / f"{number}.yaml")) for number, place in enumerate(places))
    prefix = "demo/params.yaml:"
    apply_overrides(root, [each for each in settings if not each.startswith(prefix)])
    if of_demo := [each.removeprefix(prefix) for each in settings if each.startswith(prefix)]:
        apply_overrides(demo, of_demo)
    return root, demo


@pytest.mark.parametrize("run", TRAINED)
def test_a_command_gives_the_settings_of_its_row(run: str, tmp_path: Path) -> None:
    """Of all settings, the command changes those of the row, its data sets and its seed."""
    datasets = list(TABLE.datasets)
    arguments = command(TABLE, run, 7, 1, datasets)
    assert not get_main_parser().parse_args(arguments[1:]).tmp_dir, "a clone of its own is its workspace"
    root, _ = changed(arguments, tmp_path)
    after = load_params(root)
    assert (after.seed, after.run.submit, after.run.models) == (7, (), (TABLE.rows[run].family,))
    assert list(after.run.datasets) == datasets
    for dataset in datasets:
        wanted = KEYS.params(run, dataset)
        for section in ("train", "triplets", "checkpoint", "bank", "validate_", "adjust", "shortcuts"):
            assert getattr(after, section)[dataset] == getattr(wanted, section)[dataset]


def test_a_draw_changes_the_seed_and_the_sizes_of_its_data_sets_alone(tmp_path: Path) -> None:
    _, demo = changed(command(TABLE, "paper", 1, 2, ["demo_fiq"]), tmp_path)
    before, after = (YAML(typ="safe").load(path) for path in (ROOT / "demo/params.yaml", demo))
    DemoParams.model_validate(after)
    own = before["draw"]["demo_fiq"]
    assert after["draw"]["demo_fiq"]["seed"] != own["seed"]
    own.update(TABLE.datasets["demo_fiq"].draw, seed=after["draw"]["demo_fiq"]["seed"])
    assert after == before


def test_the_first_draw_has_the_seed_of_the_demo() -> None:
    changed = drawing(TABLE, ["demo_fiq"], 1)
    assert changed == {("draw", "demo_fiq", key): value for key, value in TABLE.datasets["demo_fiq"].draw.items()}


def test_experiments_have_names_of_their_own() -> None:
    names = [run_name(run, seed, draw) for run in TRAINED for seed in (1, 11) for draw in (1, 2)]
    assert len(set(names)) == len(names)


def test_every_row_makes_the_same_steps() -> None:
    for dataset, data in TABLE.datasets.items():
        for run in TRAINED:
            family = TABLE.rows[run].family
            assert TABLE.settings(run, dataset)["train", dataset, family, "epoch_steps"] == data.steps[family]


def test_settings_of_another_answer_belong_to_the_run() -> None:
    """A row that is another answer of a run is computed in it, so the run has its settings."""
    table = make_table(hubs={"of": "paper", "answer": "hubness", "settings": {"validate.batch_size": 8}})
    assert table.answers("paper") == {"paper": None, "hubs": "hubness"}
    assert table.settings("paper", "demo_fiq")["validate", "demo_fiq", "clip", "batch_size"] == 8
    assert ("validate", "demo_fiq", "clip", "batch_size") not in table.settings("control", "demo_fiq")


def test_a_row_with_a_recipe_has_the_settings_of_its_file() -> None:
    settings = make_table(improved={"recipe": "plus", "settings": {"train.tau": 0.5}}).settings("improved", "demo_fiq")
    for key, value in recipe_settings("plus", "clip").items():
        assert settings[setting_path(key, "demo_fiq", "clip")] == value
    assert settings["train", "demo_fiq", "clip", "tau"] == 0.5


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"of": "absent", "answer": STAGE1}, "'absent' is not a row"),
        ({"of": "paper"}, "give both"),
        ({"family": "blip"}, "no entry for its family"),
        ({"epochs": 3}, "rows.new.epochs"),
    ],
)
def test_a_wrong_row_is_named(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = YAML(typ="safe").load(ROWS_FILE)
    content["rows"]["new"] = {"means": "new", **row}
    with (tmp_path / "rows.yaml").open("w") as stream:
        YAML().dump(content, stream)
    with pytest.raises(InputError, match=said):
        read_table(tmp_path / "rows.yaml")


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"row 'new' for demo_fiq: train.demo_fiq.clip.lrr: unknown key"):
        Keys(make_table(new={"settings": {"train.lrr": 1}})).params("new", "demo_fiq")


def test_a_key_depends_on_what_the_ranks_come_from() -> None:
    table = make_table(warm={"settings": {"train.tau": 0.5}}, same={"settings": {}})
    keys = Keys(table)
    first = keys.key("paper", "demo_fiq", 1, 1)
    assert keys.key("same", "demo_fiq", 1, 1) == first
    assert Keys(table).key("paper", "demo_fiq", 1, 1) == first
    others = [("warm", "demo_fiq", 1, 1), ("paper", "demo_cirr", 1, 1), ("paper", "demo_fiq", 2, 1)]
    others.append(("paper", "demo_fiq", 1, 2))
    assert len({first, *(keys.key(*each) for each in others)}) == 5
