"""Every command and program of README.md and docs/ is run here, is what a named test runs, or says what it needs."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown.extensions.toc import slugify
from ruamel.yaml import YAML
from typer.testing import CliRunner

import spn4cir
from spn4cir.cli import app
from spn4cir.config.base import Settings
from spn4cir.config.load import load_params
from spn4cir.config.params import Params
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.blocks import ROOT, WRITTEN, Block, blocks, inline_commands
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw, write_cirr, write_fashioniq, write_table
from tests.helpers.pools import write_part_files
from tests.helpers.published import write_published

SHELL = ("bash", "console")
LANGUAGES = {*SHELL, "python", "text", "yaml", "json", "csv", "mermaid", "nginx"}
# Blocks that another test runs, or the same commands in other places: the page, how the block begins ("" for all of
# the page's), and the test.
COVERED = (
    ("own-data.md", "", "tests/pipeline/test_own_data.py::test_the_walk_through_own_data_runs_as_written"),
    ("new-family.md", "", "tests/conformance/test_new_family.py::test_the_toy_trains_from_end_to_end"),
    (
        "beyond.md",
        "dvc exp run -S defaults.filter",
        "tests/pipeline/test_dag.py::test_a_filter_reruns_its_pair_from_there",
    ),
    (
        "circo.md",
        "dvc exp run -S 'demo/",
        "tests/pipeline/test_dag.py::test_a_benchmark_is_drawn_and_scored_once_it_is_named",
    ),
    (
        "experiments.md",
        "git commit",
        "tests/unit/test_demo_reports.py::test_a_lock_that_a_run_changed_is_to_be_committed",
    ),
    ("experiments.md", "dvc exp run -S", "tests/pipeline/test_dag.py::test_a_temperature_reruns_its_pair_alone"),
    (
        "experiments.md",
        "git checkout",
        "tests/pipeline/test_experiments.py::test_what_this_machine_changed_is_committed_first",
    ),
    ("experiments.md", "dvc exp", "tests/pipeline/test_experiments.py::test_a_sweep_is_run_compared_and_plotted"),
    ("experiments.md", "import csv", "tests/unit/test_other_readers.py::test_tensorboard_reads_every_figure"),
    ("experiments.md", "import wandb", "tests/unit/test_other_readers.py::test_weights_and_biases_reads_every_figure"),
    ("scores.md", "import pandas", "tests/unit/test_other_readers.py::test_pandas_reads_the_scores"),
    ("experiments.md", "spn4cir runs", "tests/pipeline/test_experiments.py::test_a_sweep_is_run_compared_and_plotted"),
    ("remotes.md", "dvc remote", "tests/pipeline/test_sharing.py::test_a_clone_pulls_and_reruns_nothing"),
    ("remotes.md", "dvc push", "tests/pipeline/test_sharing.py::test_a_clone_pulls_and_reruns_nothing"),
    (
        "remotes.md",
        "dvc pull validate",
        "tests/pipeline/test_sharing.py::test_a_clone_without_raw_data_works_on_from_what_it_pulls",
    ),
    ("tables.md", "dvc exp run", "tests/pipeline/test_own_data.py::test_a_table_trains_and_scores_as_its_page_says"),
    ("search.md", "make serve", "tests/unit/test_documentation.py::test_make_serve_serves_what_the_demo_makes"),
    ("search.md", "spn4cir serve", "tests/unit/test_serving_command.py::test_a_free_port_is_claimed_and_given_back"),
    ("annotate.md", "make serve", "tests/unit/test_documentation.py::test_make_serve_serves_what_the_demo_makes"),
    ("annotate.md", "spn4cir serve", "tests/unit/test_serving_command.py::test_a_file_to_annotate_is_continued"),
    (
        "annotate.md",
        "spn4cir check-data",
        "tests/unit/test_serving_annotations.py::test_the_file_is_checked_and_scored_as_it_is",
    ),
    ("commands.md", "spn4cir serve", "tests/unit/test_serving_command.py::test_a_free_port_is_claimed_and_given_back"),
    (
        "commands.md",
        "spn4cir train",
        "tests/pipeline/test_train.py::test_one_command_trains_on_annotations_and_what_it_prints_works",
    ),
    (
        "vector-database.md",
        "",
        "tests/unit/test_vector_export.py::test_the_page_finds_in_the_database_what_the_retriever_finds",
    ),
    ("mteb.md", "", "tests/unit/test_mteb.py::test_the_page_runs_and_its_figures_are_ours"),
    ("search.md", "$ curl", "tests/unit/test_serving_api.py::test_health_and_names"),
)
BLOCKS = blocks()


def covering(block: Block) -> str | None:
    """The test that runs the block."""
    found = [test for page, start, test in COVERED if page == block.page and block.first.startswith(start)]
    return found[0] if found else None


def is_run(block: Block) -> bool:
    """Whether this file runs it."""
    runs = block.language in (*SHELL, "python") and block.page not in WRITTEN
    return runs and block.mark is None and covering(block) is None


def test_every_block_names_its_language():
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []


def test_a_class_with_its_file_is_defined_there():
    """A page that names a class and, in parentheses, a module means a class of that module."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = [pair for page in pages for pair in re.findall(r"`([A-Z]\w+)` \(`([\w/]+\.py)`\)", page.read_text())]
    assert len(named) > 3
    for name, path in named:
        assert re.search(rf"^ *class {name}\b", (ROOT / path).read_text(), re.MULTILINE), f"{name} in {path}"


def test_the_named_tests_are_there_and_still_needed():
    for page, start, test in COVERED:
        path, name = test.split("::")
        defined = ast.walk(ast.parse((ROOT / path).read_text()))
        assert name in {each.name for each in defined if isinstance(each, ast.FunctionDef)}, test
        assert any(block.page == page and block.first.startswith(start) for block in BLOCKS), (page, start)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A workspace with everything that the pages name: settings, checkpoints, images, and data sets in `~`."""
    folder = tmp_path_factory.mktemp("typed")
    home = folder / "home"
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    write_fashioniq(home / "fashion-iq")
    write_cirr(home / "cirr")
    write_circo(home / "circo")
    write_genecis(home / "genecis")
    write_table(home / "tables")
    write_part_files(home / "cc3m", (0, 64, 128, 192))
    for number in range(12):
        draw(home / "images" / f"{number}.png", number)
    shutil.copytree(home / "images", folder / "images")
    for number, name in enumerate(("dress.png", "new/hat.png", "images/old.png")):
        draw(folder / name, 100 + number)
    write_checkpoint(folder / "best.pt", 2)
    write_checkpoint(folder / "newer.pt")
    write_published(home / "bert" / "blip.pt", "blip").rename(folder / "blip.pt")
    (folder / "other-texts.json").write_text('{"shows two of them": ["is a pair"]}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.chdir(folder)
        for name in ("metrics", "a", "b"):
            type_in(f"spn4cir validate --layout fashioniq --root ~/fashion-iq --checkpoint best.pt --json {name}.json")
        yield folder


def type_in(command: str) -> None:
    """Runs a command: those of `spn4cir` in this process, others in a shell."""
    words = shlex.split(command, comments=True)
    if words[0] != "spn4cir":
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True)
        return
    done = CliRunner().invoke(
        app, [str(Path(word).expanduser()) if word.startswith("~") else word for word in words[1:]]
    )
    assert done.exit_code == 0, f"{command}\n{done.output}"


@pytest.mark.parametrize("block", list(filter(is_run, BLOCKS)), ids=str)
def test_what_is_neither_covered_nor_marked_runs_unchanged(place, block):
    if block.language == "python":
        exec(compile(block.text, str(block), "exec"), {"__name__": "typed"})
        return
    for command in block.commands():
        type_in(command)


COMMANDS = [(str(block), each) for block in BLOCKS if block.language in SHELL for each in block.commands()]


@pytest.mark.parametrize("program", ["spn4cir", "make", "dvc", "pytest", "pip"])
def test_commands_that_are_not_run_here_are_such_that_exist(program):
    """Options and arguments are the real parser's; targets, stages, keys and files are there."""
    check = {"spn4cir": parse, "make": find_target, "dvc": find_stages, "pytest": find_tests, "pip": find_extras}
    named = [(place, words) for place, each in COMMANDS if (words := shlex.split(each, comments=True))[0] == program]
    assert named
    for where, words in named:
        check[program](where, words[1:])


def parse(where: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    try:
        group.commands[words[0]].make_context(words[0], words[1:])
    except Exception as error:
        pytest.fail(f"{where}: spn4cir {shlex.join(words)}: {error}")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def find_target(where: str, words: list[str]) -> None:
    """Checks targets, and variables that are set, as in ANNOTATE=FILE."""
    variables = set(re.findall(r"\$\((\w+)\)", (ROOT / "Makefile").read_text()))
    assert {word.partition("=")[0] for word in words if "=" in word} <= variables, where
    assert {word for word in words if "=" not in word} <= targets(), where


@pytest.mark.parametrize("given", [[], ["ANNOTATE=my queries.csv"]])
def test_make_serve_serves_what_the_demo_makes(given):
    """The command that the target runs in the end, and the stage that makes what it needs."""
    make = ["make", "--no-print-directory", "-n", "serve", *given]
    shown = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    need, command = shown.splitlines()[-2:]
    words = shlex.split(command)
    parse("make serve", words[1:])
    assert words[words.index("data/raw/demo_fiq/images") + 1 :] == (["--annotate", "my queries.csv"] if given else [])
    _, _, wanted = need.partition("|| ")
    find_stages("make serve", shlex.split(wanted)[1:])
    run = load_params(ROOT / "params.yaml").run
    (dataset, family), path = wanted.split("@")[1].split("-"), Path(words[words.index("--checkpoint") + 1])
    assert path == Path("data/train", dataset, family, "best.pt")
    assert (dataset in run.datasets, family in run.models) == (True, True)
    assert words[words.index("--gallery") + 1] == f"data/raw/{dataset}/images"


@cache
def content(file: str) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe").load(ROOT / file)
    return values


@cache
def all_settings() -> dict[str, Any]:
    """The settings with the keys that an entry may leave to the defaults."""
    return load_params(ROOT / "params.yaml").model_dump(by_alias=True)


def find_stages(where: str, words: list[str]) -> None:
    """`dvc repro`, `pull` and `push` name stages; `-S` names keys."""
    stages = set(content("dvc.yaml")["stages"])
    if words[0] in ("repro", "pull", "push"):
        assert {word.split("@")[0] for word in words[1:] if not word.startswith("-")} <= stages, where
    if words[:2] == ["exp", "run"]:
        named = [
            word for before, word in pairwise(words[1:]) if before not in ("-S", "-n") and not word.startswith("-")
        ]
        assert set(named) <= stages, f"{where}: {named}"
    for file, added, key in re.findall(r"-S (?:([\w/.]+):)?(\+\+)?([\w.]+)=", " ".join(words)):
        value = all_settings() if added else content(file or "params.yaml")
        for part in key.replace(".flags.", ".fiq.").split("."):
            assert isinstance(value, dict), f"{where}: {key}"
            assert part in value, f"{where}: {key}"
            value = value[part]


def find_tests(where: str, words: list[str]) -> None:
    assert (ROOT / words[0]).exists(), where


def find_extras(where: str, words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if found := re.fullmatch(r"(?:\.|dist/spn4cir-(.*)-py3-none-any\.whl)\[(.*)\]", word):
            assert found[1] in (None, spn4cir.__version__), where
            assert set(found[2].split(",")) <= set(extras), where


def test_commands_in_sentences_exist():
    known = typer.main.get_command(app).commands
    for page, command in inline_commands():
        program, first = command.split()[:2]
        names = known if program == "spn4cir" else targets()
        assert first in names, f"{page}: {command}"
        if program == "spn4cir":
            options = {name for each in known[first].params for name in (*each.opts, *each.secondary_opts)}
            assert set(re.findall(r"--[a-z-]+", command)) <= options, f"{page}: {command}"


def test_programs_that_are_marked_compile_and_import_what_exists():
    for block in [each for each in BLOCKS if each.language == "python" and each.mark]:
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), str(block)


def test_links_of_the_readme_lead_somewhere():
    """Links of docs/ are checked when the site is built."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    for path, anchor in links:
        assert (ROOT / path).is_file(), path
        if anchor:
            titles = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
            assert anchor in {slugify(title, "-") for title in titles}, f"{path}#{anchor}"


def test_the_readme_stays_short():
    """What is longer is a page of docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_command_has_its_section():
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(typer.main.get_command(app).commands)
    helps = re.findall(r"<!-- help of (\S+) -->", (ROOT / "docs/commands.md").read_text())
    assert helps == headings


def fields(model: type[Settings]) -> Iterator[str]:
    """Returns the names of a model's fields and of nested ones, as in the file."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        yield from (below for each in settings_in(field.annotation) for below in fields(each))


def settings_in(annotation: object) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from settings_in(part)


def test_every_key_of_params_is_on_the_page_of_settings():
    named = set(re.findall(r"\w+", (ROOT / "docs/settings.md").read_text()))
    assert set(fields(Params)) - named == set()
