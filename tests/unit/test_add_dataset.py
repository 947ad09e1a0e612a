"""add-dataset: the link, the model folders, the settings, and what it says."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.composers import COMPOSERS
from spn4cir.config.defaults import BY_FAMILY, SHARED
from spn4cir.config.load import load_params
from spn4cir.datasets import LAYOUTS
from spn4cir.errors import InputError
from spn4cir.projects import add_dataset as adding
from spn4cir.projects.add_benchmark import add_benchmark
from spn4cir.projects.fit_settings import misfits
from spn4cir.projects.inspect_folder import Contents
from spn4cir.projects.models import PLACEHOLDER, UNICOM_ORIGIN
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.layouts import change, draw, write_cirr, write_fashioniq, write_folder
from tests.helpers.pools import write_part_files

ROOT = Path(__file__).parents[2]


def add_dataset(*arguments: Any, **options: Any) -> str:
    """Adds a data set, and returns the report as the command prints it."""
    return adding.add_dataset(*arguments, **options).report


@pytest.fixture
def project(tmp_path) -> Path:
    """A pipeline's root with the local models of demo_cirr; a repository of git."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for place in ("captioner/model.safetensors", "captioner/deep/x.json", "encoder/unicom.pt", "stage1/clip/c.json"):
        file = folder / "data" / "models" / "demo_cirr" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(place)
    (folder / "data" / "models" / "demo_cirr" / "captioner" / ".gitignore").write_text("/model.safetensors")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    return write_cirr(tmp_path / "images", train_groups=3)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def state(project: Path) -> tuple[dict[str, bytes], list[str]]:
    links = [f"{p} -> {p.readlink()}" for p in sorted((project / "data").rglob("*")) if p.is_symlink()]
    return {name: content for name, content in tree(project).items() if not name.startswith(".git/")}, links


def test_one_step_links_copies_models_and_settings(project, images):
    add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert (project / "data" / "raw" / "mine").readlink() == images
    params = load_params(project / "params.yaml")
    assert params.datasets["mine"] == params.datasets["demo_cirr"]
    for section in ("models", "dedup", "caption", "triplets", "bank", "validate_"):
        assert getattr(params, section)["mine"] == getattr(params, section)["demo_cirr"]
    files = tree(project / "data" / "models" / "mine")
    assert {place: content for place, content in files.items() if PLACEHOLDER not in place} == {
        place: place.encode()
        for place in ("captioner/model.safetensors", "captioner/deep/x.json", "encoder/unicom.pt", "stage1/clip/c.json")
    }


def test_a_second_run_changes_nothing_and_says_the_same(project, images):
    first = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    before = state(project)
    assert add_dataset(project, "mine", "cirr", images, "demo_cirr") == first
    assert state(project) == before


def test_the_published_settings_are_the_default(project, tmp_path):
    root = write_fashioniq(tmp_path / "fashion", suffix=".jpg")
    report = add_dataset(project, "mine", "fashioniq", root, None)
    params = load_params(project / "params.yaml")
    assert params.triplets["mine"] == params.triplets["fiq"]
    assert "settings of fiq" in report


def test_a_data_set_that_params_names_gets_the_link_and_the_model_folders(project, images):
    text = (project / "params.yaml").read_text()
    report = add_dataset(project, "cirr", "cirr", images, None)
    assert (project / "params.yaml").read_text() == text
    models = project / "data" / "models" / "cirr"
    assert (project / "data" / "raw" / "cirr").is_symlink()
    assert sorted(tree(models)) == [
        f"{kind}/{PLACEHOLDER}"
        for kind in ("baselines", "captioner", "encoder", "rerank", *(f"stage1/{name}" for name in sorted(COMPOSERS)))
    ]
    assert "llava-hf/llava-1.5-7b-hf" in (models / "captioner" / PLACEHOLDER).read_text()
    assert "Put FP16-ViT-L-14.pt here" in (models / "encoder" / PLACEHOLDER).read_text()
    assert f"put {UNICOM_ORIGIN} into {models / 'encoder'}: models.cirr.encoder in params.yaml names it" in report
    assert "captioner:" not in report, "the hub serves it"


def test_a_model_file_that_is_there_stays(project, images):
    own = project / "data" / "models" / "mine" / "encoder" / "unicom.pt"
    own.parent.mkdir(parents=True)
    own.write_text("my own")
    add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert own.read_text() == "my own"


def test_the_layout_is_the_one_asked(project, tmp_path):
    root = write_fashioniq(tmp_path / "fashion")
    add_dataset(project, "mine", "fashioniq", root, "demo_cirr")
    params = load_params(project / "params.yaml")
    assert params.datasets["mine"].layout == "fashioniq"
    assert params.datasets["demo_cirr"].layout == "cirr"


def test_the_report_counts_and_says_what_to_type(project, images):
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert "training    18 triplets, 18 images" in report
    assert "validation  12 val queries" in report
    assert "test        54 queries" in report
    for line in (
        "dvc add data/models/mine",
        "git add params.yaml data/raw/mine data/pool/mine data/models/mine.dvc data/models/.gitignore",
        "set run.datasets: [mine] and run.submit: [mine] (add-dataset --run does so), then: dvc repro",
        "dvc exp run -S 'run.datasets=[mine]' -S 'run.submit=[mine]'",
    ):
        assert line in report


def test_a_layout_without_a_test_server_says_so(project, tmp_path):
    report = add_dataset(project, "mine", "fashioniq", write_fashioniq(tmp_path / "fiq"), "demo_fiq")
    assert "test        none to submit (layout fashioniq has no test server)\n" in report


def test_without_a_test_split_nothing_is_submitted(project, images):
    (images / "cirr" / "captions" / "cap.rc2.test1.json").unlink()
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert "test        none to submit" in report
    assert "cap.rc2.test1.json: no such file" in report
    assert "-S 'run.submit=[]'" in report


def test_settings_that_do_not_fit_a_small_folder_are_replaced(project, images):
    """The report of a second run is the same."""
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    for line in (
        "match.mine.window.{clip,tgcir}: [0.4, 0.8] instead of [400, 800], which begins beyond the 18 training images",
        "train.mine.{clip,tgcir,blip,blip2}.batch_size: 8 instead of 64, which exceeds the 18 annotated training",
        "checkpoint.mine.zs.train.batch_size: 4 instead of 32, which exceeds half of the 18 images that triplets are",
    ):
        assert f"  settings    {line}" in report
    params = load_params(project / "params.yaml")
    assert params.match["mine"].window["tgcir"] == (0.4, 0.8)
    assert params.train["mine"]["clip"].batch_size == 8
    assert params.checkpoint["mine"]["zs"].train.batch_size == 4
    assert params.train["mine"]["zs_cc"].batch_size == 64, "of the pool's images"
    assert misfits(params, "mine", Contents(18, 18, {}, 0, None, "")) == []


def test_settings_of_a_known_data_set_are_reported_and_stay(project, images):
    before = (project / "params.yaml").read_text()
    report = add_dataset(project, "cirr", "cirr", images, None)
    assert "- set match.cirr.window.{clip,tgcir}: [0.4, 0.8] instead of [10000, 15000], which begins beyond" in report
    assert "  settings " not in report
    assert (project / "params.yaml").read_text() == before


def test_a_missing_image_is_reported_and_the_rest_counted(project, images, capsys):
    next(images.rglob("train-0-0-img3.png")).unlink()
    next(images.rglob("dev-0-0-img3.png")).unlink()
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert "training    16 triplets" in report
    assert "validation  10 val queries; 1 images are missing" in report
    assert "with datasets.mine.missing: error the pipeline will stop:" in report
    assert "left out 2 of 18 triplets" in capsys.readouterr().err


def test_a_link_to_a_folder_further_down_is_reported(project, images, tmp_path):
    shutil.move(images / "dev", tmp_path / "elsewhere")
    (images / "dev").symlink_to(tmp_path / "elsewhere")
    image = next((images / "train").rglob("*.png"))
    shutil.move(image, tmp_path / "one.png")
    image.symlink_to(tmp_path / "one.png")
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert f"{images / 'dev'}: a link to a folder further down; DVC does not see" in report
    assert str(image) not in report, "DVC follows links to files"


def test_data_that_lie_in_place_need_no_link(project):
    root = write_cirr(project / "data" / "raw" / "mine")
    report = add_dataset(project, "mine", "cirr", root, "demo_cirr")
    assert not (project / "data" / "raw" / "mine").is_symlink()
    assert "dvc add data/raw/mine" in report


def test_a_relative_path_is_linked_as_an_absolute_one(project, images, monkeypatch):
    monkeypatch.chdir(project)
    add_dataset(Path(), "mine", "cirr", Path("../images"), "demo_cirr")
    assert Path("data/raw/mine").readlink() == images


@pytest.mark.parametrize("place", [".", "docs", "data/raw"])
def test_from_a_folder_of_the_project_the_commands_find_its_root(project, images, monkeypatch, place):
    """A project whose path has a space, in a folder of a larger repository; relative paths are those from here."""
    inner = project / "apps" / "my shop"
    inner.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "data", ".gitignore"):
        (project / name).rename(inner / name)
    (inner / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(inner / place)
    relative = os.path.relpath(images)
    added = call("add-dataset", "mine", "--layout", "cirr", "--path", relative, "--like", "demo_cirr")
    assert (inner / "data" / "raw" / "mine").readlink() == images
    assert "mine" in load_params(inner / "params.yaml").datasets
    root = os.path.relpath(inner)
    assert (f"Next:\n  cd {root}\n  dvc add" in added) == (place != ".")
    assert "ok: all " in call("check-data", "mine", "--workers", "0")
    benchmark = write_genecis(project.parent / "genecis")
    called = call("add-dataset", "other", "--layout", "genecis", "--path", str(benchmark), "--no-check")
    assert (f"Next:\n  cd {root}\n  git add" in called) == (place != ".")


def call(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "1st", "ä", "-a", "true", "NaN", "a.b", "a@b"])
def test_a_name_that_yaml_or_dvc_would_misread_is_refused(project, images, name):
    before = state(project)
    with pytest.raises(InputError, match="is not a valid name"):
        add_dataset(project, name, "cirr", images, "demo_cirr")
    assert state(project) == before


def test_a_place_that_is_taken_is_refused(project, images, tmp_path):
    write_cirr(project / "data" / "raw" / "folder")
    (project / "data" / "raw" / "link").symlink_to(tmp_path / "nowhere")
    before = state(project)
    with pytest.raises(InputError, match="a folder or a file is there already"):
        add_dataset(project, "folder", "cirr", images, "demo_cirr")
    with pytest.raises(InputError, match=r"a link to .*nowhere is there already"):
        add_dataset(project, "link", "cirr", images, "demo_cirr")
    assert state(project) == before


def test_a_place_that_git_ignores_is_refused(project, images):
    (project / "data" / "raw").mkdir()
    (project / "data" / "raw" / ".gitignore").write_text("/demo_cirr\n")
    before = state(project)
    with pytest.raises(InputError, match="git ignores this place"):
        add_dataset(project, "demo_cirr", "cirr", images, None)
    assert state(project) == before


@pytest.mark.parametrize(
    ("name", "layout", "like", "message"),
    [
        ("mine", "coco", None, f"layout 'coco' is not known; choose one of: {', '.join(LAYOUTS)}"),
        (
            "mine",
            "cirr",
            "nobody",
            r"datasets.nobody is not set \(data sets there: demo_fiq, demo_cirr, demo_emoji, fiq, cirr\)",
        ),
        ("fiq", "cirr", None, "data set 'fiq' has layout fashioniq, not cirr"),
        ("mine", "fashioniq", None, r"captions/cap.dress.train.json: no such file; check the path"),
    ],
)
def test_what_is_not_known_or_does_not_fit_is_refused(project, images, name, layout, like, message):
    before = state(project)
    with pytest.raises(InputError, match=message):
        add_dataset(project, name, layout, images, like)
    assert state(project) == before
    assert not (project / "data" / "raw").exists()


def test_a_folder_that_is_not_there_is_refused(project, tmp_path):
    before = state(project)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        add_dataset(project, "mine", "cirr", tmp_path / "nowhere", "demo_cirr")
    assert state(project) == before


def test_a_folder_without_the_training_annotations_is_refused(project, images):
    (images / "cirr" / "captions" / "cap.rc2.train.json").unlink()
    with pytest.raises(InputError, match=r"the annotation files of train are absent \(all of: train\).*--root alone"):
        add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert not (project / "data" / "raw" / "mine").exists()


def test_a_folder_without_training_triplets_is_refused(project, images):
    change(images / "cirr" / "captions" / "cap.rc2.train.json", lambda triplets: [])
    with pytest.raises(InputError, match="no training triplet"):
        add_dataset(project, "mine", "cirr", images, "demo_cirr")


def test_elsewhere_than_in_the_root_it_is_refused(images, tmp_path):
    with pytest.raises(
        InputError, match=r"params.yaml: no such file; run add-dataset in the pipeline's folder, which has"
    ):
        add_dataset(tmp_path, "mine", "cirr", images, None)
    assert not (tmp_path / "data").exists()


def test_the_data_are_only_read(project, images):
    draw(images / "notes" / "extra.png", 5)
    before = tree(images)
    add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert tree(images) == before


def test_a_pool_is_linked_counted_and_takes_the_placeholders_place(project, images, tmp_path):
    pool = write_part_files(tmp_path / "cc3m")
    add_dataset(project, "mine", "cirr", images, "demo_cirr")
    place = project / "data" / "pool" / "mine"
    assert [file.name for file in place.iterdir()] == [PLACEHOLDER]
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr", pool)
    assert "  pool        6 images" in report
    assert place.readlink() == pool
    add_dataset(project, "mine", "cirr", images, "demo_cirr")  # a pool stays
    assert place.readlink() == pool
    other = write_part_files(tmp_path / "other")
    with pytest.raises(InputError, match="another pool is there already"):
        add_dataset(project, "mine", "cirr", images, "demo_cirr", other)


def test_a_pool_that_is_none_is_refused_before_anything_is_written(project, images, tmp_path):
    before = state(project)
    with pytest.raises(InputError, match="no such folder; give the root of a CC3M pool"):
        add_dataset(project, "mine", "cirr", images, "demo_cirr", tmp_path / "absent")
    assert state(project) == before


def test_a_folder_of_images_alone_is_for_recipes_that_need_no_annotations(project, tmp_path):
    for number in range(8):
        draw(tmp_path / "shop" / "new" / f"{number}.png", number)
    report = add_dataset(project, "mine", "folder", tmp_path / "shop", "demo_cirr")
    assert "training    0 triplets, 8 images" in report
    assert "validation  no annotated queries: some of the generated triplets are held out" in report
    assert "set run.datasets: [mine], run.submit: [] and run.models: [zs] (add-dataset --run does so), then:" in report
    assert "match.mine.window" not in report, "zs draws any other image"
    assert "dvc exp run -S 'run.datasets=[mine]' -S 'run.submit=[]' -S 'run.models=[zs]'" in report
    assert "settings    train.mine.zs.batch_size: 2 instead of 64, which exceeds half of the 8 images" in report
    assert "train.mine.clip.batch_size" not in report
    assert load_params(project / "params.yaml").datasets["mine"].options == {}


def test_the_lists_of_run_are_set(project, images):
    """Benchmarks are left out, as nothing trains their weights then; a second run changes nothing."""
    text = (project / "params.yaml").read_text()
    assert text.count("  benchmarks: []\n") == 1
    (project / "params.yaml").write_text(
        text.replace("  benchmarks: []\n", "  benchmarks: [{name: circo, weights: demo_cirr}]   # remark\n")
    )
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr", chosen=True)
    changed = (project / "params.yaml").read_text()
    run = load_params(project / "params.yaml").run
    assert (run.datasets, run.models, run.submit, run.benchmarks) == (("mine",), ("clip",), ("mine",), ())
    assert "  benchmarks: []   # remark\n" in changed
    assert report.splitlines()[-2:] == ["  dvc repro", "After a change of a model file: dvc add that folder again."]
    before = state(project)
    assert add_dataset(project, "mine", "cirr", images, "demo_cirr", chosen=True) == report
    assert state(project) == before


def test_a_folder_of_images_alone_is_run_with_the_families_that_need_no_annotations(project, tmp_path):
    for number in range(8):
        draw(tmp_path / "shop" / f"{number}.png", number)
    add_dataset(project, "mine", "folder", tmp_path / "shop", "demo_cirr", chosen=True)
    run = load_params(project / "params.yaml").run
    assert (run.datasets, run.models, run.submit) == (("mine",), ("zs",), ())


def test_the_entries_contain_what_differs_from_the_defaults(project, images):
    """The new entries have the lines of the other data set's, but for values that do not fit the folder."""
    add_dataset(project, "mine", "cirr", images, "demo_cirr")
    written = YAML(typ="safe").load(project / "params.yaml")
    assert "mine" not in written["defaults"]
    for section in (*SHARED, *BY_FAMILY):
        if section not in ("benchmarks", "match", "checkpoint", "train"):
            assert written[section]["mine"] == written[section]["demo_cirr"]
    assert written["validate"]["mine"]["clip"] == {}
    assert written["train"]["mine"]["clip"] == written["train"]["demo_cirr"]["clip"] | {"batch_size": 8}


def test_annotations_are_set_by_their_path_from_the_folder(project, tmp_path):
    root = write_folder(tmp_path / "shop")
    report = add_dataset(project, "mine", "folder", root, None, annotations=root / "triplets.csv")
    assert "settings of fiq" in report
    assert "training    30 triplets, 31 images" in report
    assert "validation  10 val queries" in report
    assert "run.models" not in report
    assert load_params(project / "params.yaml").datasets["mine"].annotations == "triplets.csv"
    before = state(project)
    assert add_dataset(project, "mine", "folder", root, None) == report
    assert state(project) == before
    with pytest.raises(InputError, match=r"datasets.mine.annotations is triplets.csv, not b.csv; change it there"):
        add_dataset(project, "mine", "folder", root, None, annotations=root / "b.csv")


def test_annotations_elsewhere_are_out_of_dvcs_sight(project, tmp_path):
    root = write_folder(tmp_path / "shop")
    file = (root / "triplets.csv").rename(tmp_path / "a.csv")
    report = add_dataset(project, "mine", "folder", root, "demo_fiq", annotations=file)
    assert f"{file} is outside {root}: DVC does not see when it changes" in report
    assert load_params(project / "params.yaml").datasets["mine"].annotations == str(file)


def test_other_layouts_have_no_annotations(project, images, tmp_path):
    before = state(project)
    with pytest.raises(InputError, match="layout cirr takes no 'annotations'; leave it out"):
        add_dataset(project, "mine", "cirr", images, "demo_cirr", annotations=tmp_path / "a.csv")
    assert state(project) == before


def test_the_check_is_reported_and_refuses_nothing(project, images):
    (images / "dev" / "dev-0-0-img0.png").write_bytes(b"")
    report = add_dataset(project, "mine", "cirr", images, "demo_cirr")
    assert "images      0 missing, 1 broken of 84 images; lost: val 2 of 12 queries and 1 of 12 gallery" in report
    assert "by name: spn4cir check-data mine" in report
    assert (project / "data" / "raw" / "mine").is_symlink()
    assert "images      " not in add_dataset(project, "mine", "cirr", images, "demo_cirr", check=False)


def test_a_benchmark_is_linked_and_gets_settings_alone(project, tmp_path):
    """Next to nothing is made; a second run changes nothing, and the run that is proposed can be read."""
    folder = write_circo(tmp_path / "circo")
    report = add_benchmark(project, "mine", "circo", folder, None)
    assert (project / "data" / "raw" / "mine").readlink() == folder
    params = load_params(project / "params.yaml")
    assert params.benchmarks["mine"] == params.benchmarks["circo"]
    assert "mine" not in params.datasets
    assert not (project / "data" / "models" / "mine").exists()
    for line in (
        "validation  6 val queries",
        "test        4 queries",
        "images      ok: all 60 images are there and can be decoded",
        "git add params.yaml data/raw/mine",
        "run.benchmarks: [{name: mine, weights: DATASET}]",
        "dvc exp run -S 'run.benchmarks=[{name:mine,weights:DATASET}]' benchmark",
    ):
        assert line in report
    before = state(project)
    assert add_benchmark(project, "mine", "circo", folder, None) == report
    assert state(project) == before


def test_a_benchmark_that_lacks_images_is_reported(project, tmp_path, capsys):
    folder = write_genecis(tmp_path / "genecis")
    (folder / "val2017" / "000000000002.jpg").unlink()
    report = add_benchmark(project, "genecis", "genecis", folder, None)
    assert (
        "3 focus_attribute, 3 change_attribute, 2 focus_object, 2 change_object queries; 2 images are missing" in report
    )
    assert "test        none to submit" in report
    assert "by name: spn4cir check-data genecis" in report


@pytest.mark.parametrize(
    ("name", "layout", "like", "message"),
    [
        ("mine", "circo", "nobody", "benchmarks.nobody is not set"),
        ("mine", "genecis", "circo", "benchmark 'mine' has layout circo, not genecis"),
        ("demo_cirr", "circo", None, "'demo_cirr' is a data set and a benchmark"),
        ("a b", "circo", None, "'a b' is not a valid name"),
    ],
)
def test_a_benchmark_that_will_not_do_writes_nothing(project, tmp_path, name, layout, like, message):
    before = state(project)
    with pytest.raises(InputError, match=message):
        add_benchmark(project, name, layout, write_circo(tmp_path / "circo"), like)
    assert state(project) == before


def test_a_file_of_a_family_that_does_not_run_is_not_asked_for(project, tmp_path, capsys):
    """Without annotations, zs runs: it needs the encoder, and no stage-1 file. Other files are reported once."""
    for number in range(8):
        draw(tmp_path / "shop" / f"{number}.png", number)
    (tmp_path / "shop" / "notes.txt").touch()
    report = add_dataset(project, "mine", "folder", tmp_path / "shop", None)
    assert "put FP16-ViT-L-14.pt of the releases of github.com/deepglint/unicom into" in report
    assert "fiq_stage1.pt" not in report
    assert capsys.readouterr().err.count("passed over 1 file") == 1
