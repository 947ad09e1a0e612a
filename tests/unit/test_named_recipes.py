"""The named recipes, and the command that writes one into `params.yaml`."""

import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.composers import COMPOSERS
from spn4cir.config.load import load_params, parse_merged, published_file
from spn4cir.errors import InputError
from spn4cir.projects import named_recipes
from spn4cir.projects.apply_recipe import apply_recipe, changed_settings
from spn4cir.projects.named_recipes import PUBLISHED, recipe_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
SETTINGS = parse_merged(TEXT, "params.yaml")[1].values
NAMES = list(named_recipes._read())
OWN = """
paper:
  all: {train.negatives: bank, train.bank_samples: null}
sampled:
  all: {train.bank_samples: 64}
  blip2: {train.bank_samples: 16}
both:
  all: {train.negatives: batch, train.bank_samples: 64}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes.yaml").write_text(OWN)
    monkeypatch.setattr(named_recipes, "RECIPES_FILE", tmp_path / "recipes.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the current folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["recipe", *arguments])


@pytest.mark.parametrize("dataset", SETTINGS["train"])
def test_the_published_recipe_is_what_params_contains(dataset: str) -> None:
    changes, kept = changed_settings(SETTINGS, "params.yaml", PUBLISHED, dataset, list(SETTINGS["train"][dataset]))
    assert (changes, kept) == ((), ())


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_decides_only_what_the_published_one_names(name: str) -> None:
    for family in COMPOSERS:
        assert recipe_settings(name, family).keys() == recipe_settings(PUBLISHED, family).keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dataset", ["demo_fiq", "demo_cirr", "fiq", "cirr"])
def test_every_recipe_is_valid_for_every_family(name: str, dataset: str) -> None:
    apply_recipe(TEXT, "params.yaml", name, dataset, None)


@pytest.mark.usefixtures("own")
def test_a_family_adds_to_what_all_have_and_the_rest_is_published() -> None:
    assert recipe_settings("sampled", "clip") == {"train.negatives": "bank", "train.bank_samples": 64}
    assert recipe_settings("sampled", "blip2") == {"train.negatives": "bank", "train.bank_samples": 16}


@pytest.mark.usefixtures("own")
def test_the_command_sets_the_keys_and_keeps_the_rest(project: Path) -> None:
    done = run("sampled", "--dataset", "fiq", "--family", "clip")
    assert done.exit_code == 0, done.output
    assert "train.fiq.clip.bank_samples: null -> 64" in done.output
    assert "dvc exp run -S 'run.datasets=[fiq]' -S 'run.models=[clip]'" in done.output
    line = "    clip: {tau: 0.02, lr: 2.0e-5, batch_size: 256, epochs: 3}"
    start = TEXT.index("\n  fiq:\n", TEXT.index("\ntrain:\n"))
    assert (project / "params.yaml").read_text() == TEXT[:start] + TEXT[start:].replace(
        line, line.replace("}", ", bank_samples: 64}"), 1
    )


@pytest.mark.usefixtures("own")
def test_another_recipe_takes_back_the_keys_of_the_one_before(project: Path) -> None:
    run("both", "--dataset", "fiq", "--family", "clip")
    run("sampled", "--dataset", "fiq", "--family", "clip")
    train = load_params(project / "params.yaml").train["fiq"]["clip"]
    assert (train.negatives, train.bank_samples) == ("bank", 64)
    done = run(PUBLISHED, "--dataset", "fiq", "--family", "clip")
    assert "train.fiq.clip.bank_samples: 64 -> null" in done.output
    assert load_params(project / "params.yaml") == load_params(ROOT / "params.yaml")
    assert "nothing is written" in run(PUBLISHED, "--dataset", "fiq", "--family", "clip").output


@pytest.mark.parametrize("dataset", ["demo_fiq", "demo_cirr", "demo_emoji", "fiq", "cirr"])
def test_the_published_recipe_takes_back_plus(dataset: str, project: Path) -> None:
    """The windows and templates of the data sets differ, and each gets its own again."""
    assert run("plus", "--dataset", dataset, "--family", "clip").exit_code == 0
    changed = load_params(project / "params.yaml")
    assert changed.match[dataset].window["clip"] == (1, 20)
    run(PUBLISHED, "--dataset", dataset, "--family", "clip")
    assert load_params(project / "params.yaml") == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("family", ["clip", None])
@pytest.mark.parametrize("dataset", ["demo_fiq", "fiq"])
def test_the_published_recipe_takes_back_plus_in_a_clone(
    dataset: str, family: str | None, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone of the repository, the published params.yaml is the one that `plus` edited.

    The file is byte for byte the one before, so that DVC runs nothing again.
    """
    monkeypatch.setattr(published_file, "__defaults__", (project / "spn4cir",))
    assert published_file() == project / "params.yaml"
    chosen = ("--dataset", dataset, *(("--family", family) if family else ()))
    assert run("plus", *chosen).exit_code == 0
    assert (project / "params.yaml").read_text() != TEXT
    assert run(PUBLISHED, *chosen).exit_code == 0
    assert (project / "params.yaml").read_text() == TEXT


def test_a_data_set_without_published_values_keeps_what_depends_on_it(project: Path) -> None:
    """Its windows fit the number of its own images; the other keys of the recipe have one published value."""
    (project / "params.yaml").write_text(TEXT.replace("  fiq: {", "  shop: {").replace("\n  fiq:\n", "\n  shop:\n"))
    run("plus", "--dataset", "shop", "--family", "clip")
    done = run(PUBLISHED, "--dataset", "shop", "--family", "clip")
    assert "match.shop.window.clip: kept; no value is published for shop" in done.output
    changed = load_params(project / "params.yaml")
    assert changed.match["shop"].window["clip"] == (1, 20)
    assert changed.train["shop"]["clip"].false_negatives is None


def test_a_value_that_is_not_the_default_is_written(project: Path) -> None:
    """Without the key, this entry would have another value."""
    assert "hardness: 0.0, false_negatives: null" in TEXT
    (project / "params.yaml").write_text(TEXT.replace("false_negatives: null,", "false_negatives: {above: 0.5},", 1))
    assert load_params(project / "params.yaml").train["fiq"]["clip"].false_negatives is not None
    run(PUBLISHED, "--dataset", "fiq", "--family", "clip")
    assert load_params(project / "params.yaml").train["fiq"]["clip"].false_negatives is None
    assert load_params(project / "params.yaml").train["cirr"]["clip"].false_negatives is not None


@pytest.mark.usefixtures("own")
def test_without_a_family_all_families_of_the_data_set_change(project: Path) -> None:
    run("sampled", "--dataset", "cirr")
    train = load_params(project / "params.yaml").train["cirr"]
    assert {name: each.bank_samples for name, each in train.items()} == dict.fromkeys(COMPOSERS, 64) | {"blip2": 16}


@pytest.mark.usefixtures("own")
def test_a_dry_run_writes_nothing(project: Path) -> None:
    done = run("sampled", "--dataset", "demo_fiq", "--dry-run")
    assert "would change" in done.output
    assert "bank_samples: null -> 64" in done.output
    assert (project / "params.yaml").read_text() == TEXT


@pytest.mark.usefixtures("own")
def test_what_dvc_repro_runs_needs_no_choice(project: Path) -> None:
    assert run("sampled", "--dataset", "demo_fiq", "--family", "clip").output.endswith("  dvc repro\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("best", "--dataset", "fiq"), "recipe 'best' is unknown; choose one of: paper, plus"),
        (("plus", "--dataset", "mine"), "train.mine is not set"),
        (("plus", "--dataset", "fiq", "--family", "vit"), "train.fiq has no entry for family 'vit'"),
    ],
)
def test_a_wrong_name_is_answered_with_one_line(arguments: tuple[str, ...], said: str, project: Path) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_family_without_an_entry_in_another_section_is_named(project: Path) -> None:
    old, new = "demo_emoji: {window: {clip: [400, 800], zs: null}", "demo_emoji: {window: {clip: [400, 800]}"
    assert old in TEXT
    (project / "params.yaml").write_text(TEXT.replace(old, new))
    done = run("plus", "--dataset", "demo_emoji")
    assert done.exit_code == 1
    assert "match.demo_emoji.window.zs is not set; add it, or choose other families with --family" in done.output
    assert run("plus", "--dataset", "demo_emoji", "--family", "clip").exit_code == 0


def test_outside_a_project_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("plus", "--dataset", "fiq")
    assert done.exit_code == 1
    assert "there is no project" in done.output


@pytest.mark.usefixtures("own")
def test_a_recipe_that_contradicts_the_settings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        named_recipes, "_read", lambda: {"paper": {"all": {"train.tau": 0.02}}, "wrong": {"all": {"train.tau": -1}}}
    )
    with pytest.raises(InputError, match=r"train.fiq.clip.tau"):
        apply_recipe(TEXT, "params.yaml", "wrong", "fiq", "clip")
