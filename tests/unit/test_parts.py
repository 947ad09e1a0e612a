"""Data sets of several parts of which some are on disk: FashionIQ's categories, GeneCIS's tasks."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.config.load import load_params
from spn4cir.config.params import BenchmarkSettings, Dataset
from spn4cir.datasets import find_parts, open_benchmark, open_layout
from spn4cir.datasets.records import Missing
from spn4cir.errors import InputError
from spn4cir.projects import add_dataset as adding
from spn4cir.projects.add_benchmark import add_benchmark
from spn4cir.projects.check import check_data
from spn4cir.projects.check_lines import check_lines
from tests.helpers.benchmarks import write_genecis
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import write_fashioniq

ROOT = Path(__file__).parents[2]
OBJECTS = ("focus_object", "change_object")


def add_dataset(*arguments: Any, **options: Any) -> str:
    """Adds a data set, and returns the report as the command prints it."""
    return adding.add_dataset(*arguments, **options).report


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_fashioniq(tmp_path / "whole")


@pytest.fixture
def dresses(tmp_path: Path) -> Path:
    """Returns a folder with only the files of category dress."""
    root = write_fashioniq(tmp_path / "dresses")
    for path in [p for p in root.rglob("*") if p.is_file() and "dress" not in p.name]:
        path.unlink()
    return root


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """The tasks whose images are COCO's."""
    root = write_genecis(tmp_path / "genecis")
    for path in (root / "genecis").glob("*_attribute.json"):
        path.unlink()
    shutil.rmtree(root / "VG_100K_all")
    return root


def test_named_categories_are_read_in_the_data_sets_order(whole: Path) -> None:
    layout = open_layout("fashioniq", whole, "error", {"categories": ("toptee", "dress")})
    assert [split.name for split in layout.evaluation_splits()] == ["dress", "toptee"]
    assert {triplet.category for triplet in layout.training_triplets()} == {"dress", "toptee"}
    assert [image.noun for image in layout.caption_images("split")] == ["dress"] * 6 + ["toptee"] * 6
    labels = [f"{split.split} {split.category}" for split in layout.annotated_splits()]
    assert labels == ["train dress", "train toptee", "val dress", "val toptee", "test dress", "test toptee"]
    scores = {"dress": {"recall_at10": 10.0, "recall_at50": 50.0}, "toptee": {"recall_at10": 30.0, "recall_at50": 90.0}}
    assert layout.summarise(scores)["average_recall"] == (20.0 + 70.0) / 2


def test_all_are_the_default_and_need_no_word(whole: Path, tmp_path: Path) -> None:
    for options in ({}, {"categories": ("dress", "shirt", "toptee")}):
        layout = open_layout("fashioniq", whole, "error", options)
        assert layout.protocol.parts == {}
        assert len(layout.evaluation_splits()) == 3
    assert layout.official["train triplets"] == 18_000
    assert len(open_benchmark("genecis", write_genecis(tmp_path / "g"), "error").evaluation_splits()) == 4


def test_a_folder_of_one_category(dresses: Path) -> None:
    layout = open_layout("fashioniq", dresses, "error", {"categories": ("dress",)})
    found = check_data(layout, 0)
    assert found.is_whole
    assert found.checked == 18
    assert found.totals == {"val dress images": (6, 3_817)}
    assert len(layout.training_triplets()) == 6


def test_the_object_tasks_alone(objects: Path) -> None:
    layout = open_benchmark("genecis", objects, "error", {"tasks": ("change_object", "focus_object")})
    assert [split.name for split in layout.evaluation_splits()] == list(OBJECTS)
    assert check_data(layout, 0).is_whole
    scores = {task: {f"recall_subset_at{k}": float(k * n) for k in (1, 2, 3)} for n, task in enumerate(OBJECTS, 1)}
    assert layout.summarise(scores)["average_recall_subset_at2"] == 3.0


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("fashioniq", {"categories": ("skirt",)}, "categories: 'skirt' is not known; choose from: dress, shirt, topt"),
        ("fashioniq", {"categories": ()}, "categories: names none; choose from: dress, shirt, toptee"),
        ("genecis", {"tasks": ("objects",)}, "tasks: 'objects' is not known; choose from: focus_attribute, change"),
        ("genecis", {"categories": ("dress",)}, "layout genecis takes no 'categories'; leave it out"),
        ("fashioniq", {"tasks": ("focus_object",)}, "layout fashioniq takes no 'tasks'; leave it out"),
    ],
)
def test_names_that_are_not_known(
    whole: Path, objects: Path, layout: str, options: dict[str, Any], message: str
) -> None:
    root = whole if layout == "fashioniq" else objects
    with pytest.raises(InputError) as raised:
        open_benchmark(layout, root, "error", options).evaluation_splits()
    assert message in str(raised.value)


def test_a_part_without_files_names_the_setting(dresses: Path, objects: Path) -> None:
    def message(work: Any) -> str:
        with pytest.raises(InputError) as raised:
            work()
        return str(raised.value)

    layout = open_layout("fashioniq", dresses, "skip")
    hint = (
        "no such file; add the absent parts, or choose the others: categories: [dress] in params.yaml, or "
        "--categories dress"
    )
    assert message(layout.training_triplets) == f"{dresses}/captions/cap.shirt.train.json: {hint}"
    assert message(layout.evaluation_splits) == f"{dresses}/captions/cap.shirt.val.json: {hint}"
    assert message(layout.annotated_splits) == f"{dresses}/captions/cap.shirt.train.json: {hint}"
    tasks = open_benchmark("genecis", objects, "error")
    assert message(tasks.annotated_splits) == (
        f"{objects}/genecis/focus_attribute.json: no such file; add the absent parts, or choose the others: "
        "tasks: [focus_object, change_object] in params.yaml, or --tasks focus_object,change_object"
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_category_that_lacks_a_caption_file_names_the_setting(whole: Path, split: str) -> None:
    path = whole / "captions" / f"cap.shirt.{split}.json"
    path.unlink()
    layout = open_layout("fashioniq", whole, "skip")
    read = layout.training_triplets if split == "train" else layout.evaluation_splits
    for work in (read, layout.annotated_splits):
        with pytest.raises(InputError) as raised:
            work()
        assert str(raised.value) == (
            f"{path}: no such file; add the absent parts, or choose the others: categories: [dress, toptee] in "
            "params.yaml, or --categories dress,toptee"
        )


def test_adding_where_a_category_lacks_a_caption_file_names_the_setting(project: Path, whole: Path) -> None:
    (whole / "captions" / "cap.shirt.train.json").unlink()
    with pytest.raises(InputError, match=r"categories: \[dress, toptee\] in params.yaml, or --categories dress,toptee"):
        add_dataset(project, "mine", "fashioniq", whole, None)
    assert not (project / "data" / "raw" / "mine").exists()


def test_no_setting_is_named_where_all_categories_lack_a_split(whole: Path) -> None:
    for path in (whole / "captions").glob("cap.*.train.json"):
        path.unlink()
    with pytest.raises(InputError) as raised:
        open_layout("fashioniq", whole, "error").training_triplets()
    assert str(raised.value) == (
        f"{whole}/captions/cap.dress.train.json: no such file; check the path, or the root folder and the layout"
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_skipping_all_images_of_a_category_names_the_setting(whole: Path, split: str) -> None:
    read = lambda layout: layout.training_triplets() if split == "train" else layout.evaluation_splits()  # noqa: E731
    first, *others = sorted((whole / "images").glob("shirt-*"))
    for path in others:
        path.unlink()
    first.rename(whole / "images" / f"shirt-{split}-0.png")
    read(open_layout("fashioniq", whole, "skip"))
    (whole / "images" / f"shirt-{split}-0.png").unlink()
    with pytest.raises(InputError, match=r"the images of 'shirt' are not on disk; .* --categories dress,toptee"):
        read(open_layout("fashioniq", whole, "skip"))


def test_check_data_names_the_setting_where_images_of_a_part_are_absent(whole: Path) -> None:
    for path in (whole / "images").glob("shirt-*"):
        path.unlink()
    found = check_data(open_layout("fashioniq", whole, "error"), 0)
    assert found.advice == (
        "most images of shirt cannot be used: add the absent parts, or choose the others: categories: [dress, toptee] "
        "in params.yaml, or --categories dress,toptee",
    )
    assert found.advice[0] in check_lines(found, whole=False)
    assert check_data(open_layout("fashioniq", whole, "error", {"categories": ("dress",)}), 0).advice == ()


@pytest.mark.parametrize("missing", ["error", "skip"])
def test_a_task_without_its_images_names_the_setting(tmp_path: Path, missing: Missing) -> None:
    root = write_genecis(tmp_path / "genecis")
    shutil.rmtree(root / "VG_100K_all")
    with pytest.raises(InputError) as raised:
        open_benchmark("genecis", root, missing).evaluation_splits()
    assert "the images of 'focus_attribute' are not on disk; " in str(raised.value)
    assert str(raised.value).endswith("or --tasks focus_object,change_object")
    assert "--tasks focus_object,change_object" in check_data(open_benchmark("genecis", root, missing), 0).advice[0]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_category_without_its_images_names_the_setting(whole: Path, split: str) -> None:
    """The annotations come whole, whatever images one has. A few that are absent are named themselves."""
    layout = lambda: open_layout("fashioniq", whole, "error")  # noqa: E731
    read = lambda: layout().training_triplets() if split == "train" else layout().evaluation_splits()  # noqa: E731
    images = sorted((whole / "images").glob("shirt-*"))
    (whole / "images" / f"shirt-{split}-0.png").unlink()
    with pytest.raises(InputError, match=rf"shirt-{split}-0"):
        read()
    for path in images:
        path.unlink(missing_ok=True)
    with pytest.raises(InputError) as raised:
        read()
    assert str(raised.value).endswith(
        "the images of 'shirt' are not on disk; add the absent parts, or choose the others: categories: "
        "[dress, toptee] in params.yaml, or --categories dress,toptee"
    )


def test_the_metrics_file_says_which(
    whole: Path, objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = str(write_checkpoint(tmp_path / "stage1.pt"))

    def protocol(layout: str, root: Path, *options: str) -> tuple[dict[str, Any], dict[str, int]]:
        arguments = ["--layout", layout, "--root", str(root), "--checkpoint", weights, "--json", "m.json"]
        result = CliRunner().invoke(app, ["validate", *arguments, "--workers", "0", *options])
        assert result.exit_code == 0, result.output
        content = json.loads(Path("m.json").read_text(encoding="utf-8"))
        return content["protocol"], content["counts"]["queries"]

    said, queries = protocol("fashioniq", whole, "--categories", "shirt,dress")
    assert said["categories"] == "dress, shirt"
    assert queries == {"dress": 6, "shirt": 6}
    assert "categories" not in protocol("fashioniq", whole)[0]
    said, queries = protocol("genecis", objects, "--tasks", ",".join(OBJECTS))
    assert said["tasks"] == "focus_object, change_object"
    assert list(queries) == list(OBJECTS)


def test_the_settings_hold_them() -> None:
    dataset = Dataset(layout="fashioniq", missing="error", pool=None, categories=["dress"])
    assert dataset.options == {"categories": ("dress",)}
    protocol = {"remove_reference": False, "capitalise": False, "batch_size": 4, "sheet_queries": 1}
    benchmark = {"layout": "genecis", "missing": "error", "query_text": "{condition}", "validate": protocol}
    assert BenchmarkSettings(**benchmark).options == {"query_text": "{condition}"}
    assert BenchmarkSettings(**benchmark, tasks=["focus_object"]).options["tasks"] == ("focus_object",)


def test_parts_are_found_where_some_are_absent(whole: Path, dresses: Path, objects: Path, tmp_path: Path) -> None:
    assert find_parts("fashioniq", dresses) == {"categories": ("dress",)}
    assert find_parts("genecis", objects) == {"tasks": OBJECTS}
    assert find_parts("fashioniq", whole) == find_parts("fashioniq", tmp_path / "none") == {}
    assert find_parts("cirr", whole) == {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_adding_writes_the_categories_that_are_there(project: Path, dresses: Path, whole: Path) -> None:
    """They are reported; a second run changes nothing; a copy of the data set's settings does not contain them."""
    said = add_dataset(project, "mine", "fashioniq", dresses, None)
    assert "  categories  only dress: written to datasets.mine.categories" in said.splitlines()
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert load_params(project / "params.yaml").datasets["mine"].categories == ("dress",)
    assert add_dataset(project, "mine", "fashioniq", dresses, None) == said
    assert (project / "params.yaml").read_text(encoding="utf-8") == text
    more = add_dataset(project, "other", "fashioniq", whole, "mine")
    assert "categories" not in more
    assert load_params(project / "params.yaml").datasets["other"].categories is None


def test_adding_under_a_name_that_exists_without_them(project: Path, dresses: Path) -> None:
    with pytest.raises(InputError) as raised:
        add_dataset(project, "fiq", "fashioniq", dresses, None)
    assert str(raised.value) == (
        "params.yaml: datasets.fiq.categories is None, not ['dress']; change it there, or choose another name"
    )


def test_adding_a_benchmark_writes_the_tasks(project: Path, objects: Path) -> None:
    said = add_benchmark(project, "mine", "genecis", objects, None)
    assert "  tasks       only focus_object, change_object: written to benchmarks.mine.tasks" in said.splitlines()
    assert load_params(project / "params.yaml").benchmarks["mine"].tasks == OBJECTS
    assert add_benchmark(project, "mine", "genecis", objects, None) == said
    add_benchmark(project, "one", "genecis", objects, None, settings={"tasks": ("focus_object",)})
    assert load_params(project / "params.yaml").benchmarks["one"].tasks == ("focus_object",)
