"""spn4cir train: the project that it makes, what it refuses before anything long begins, and that it continues."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.cli.recipe_models import check_generator, find_generator
from spn4cir.cli.training import _results
from spn4cir.config.load import load_params, published_file
from spn4cir.config.params import ServedCaptioner
from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import too_few_entry
from spn4cir.json_files import write_json
from spn4cir.positives import unicom
from spn4cir.projects.recipe import Generator, Model, Recipe
from spn4cir.projects.train_project import (
    annotations_changed,
    commit_run,
    is_project,
    make_project,
    name_of,
    note_annotations,
    reproduce,
    require_same,
    use_endpoints,
)
from tests.helpers.chat_server import MODEL, images_of, serve_chat
from tests.helpers.layouts import draw, write_folder

BASE = Model("open_clip:ViT-B-32/openai", {"open_clip": "ViT-B-32", "tag": "openai"})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of 40 images with 30 rows of train and 10 of val."""
    return write_folder(tmp_path / "my shop")


@pytest.fixture
def annotated(shop: Path) -> Recipe:
    return Recipe(shop, shop / "triplets.csv", "clip", BASE, None, "error", None)


@pytest.fixture
def generated(shop: Path, tmp_path: Path) -> Recipe:
    """A recipe with a captioner in a folder and an encoder; their files are never opened here."""
    (tmp_path / "llava").mkdir()
    (tmp_path / "llava" / "config.json").write_text('{"model_type": "llava"}')
    (tmp_path / "u.pt").touch()
    captioner = Model("llava", {"local": "."}, tmp_path / "llava")
    encoder = Model("u.pt", {"local": "u.pt"}, tmp_path / "u.pt")
    (shop / "triplets.csv").unlink()
    return Recipe(shop, None, "zs", BASE, Generator(captioner, encoder), "error", 2)


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True).stdout


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_project_of_annotated_images_is_committed_and_its_settings_fit(annotated: Recipe, tmp_path: Path) -> None:
    before = tree(annotated.folder)
    added = make_project(tmp_path / "p", "my_shop", annotated)
    assert added.contents.triplets == 30
    assert not [line for line in added.lines if "blip" in line or "zs" in line], "only the family that is trained"
    (fitted,) = (line for line in added.lines if "checkpoint.my_shop.clip." in line)
    assert "train.batch_size: 8 instead of 128, which exceeds the 30 annotated training triplets" in fitted
    assert tree(annotated.folder) == before
    params = load_params(tmp_path / "p" / "params.yaml")
    assert (params.run.datasets, params.run.models, params.run.submit) == (("my_shop",), ("clip",), ())
    assert params.datasets["my_shop"].annotations == "triplets.csv"
    assert params.models["my_shop"].captioner is params.models["my_shop"].encoder is None
    assert params.triplets["my_shop"]["clip"].source == "none"
    assert params.checkpoint["my_shop"]["clip"].source == "train"
    assert params.match["my_shop"].window["clip"] == (0.4, 0.8)
    assert params.train["my_shop"]["clip"].batch_size == params.checkpoint["my_shop"]["clip"].train.batch_size == 8
    assert params.train["my_shop"]["clip"].epochs == 3
    assert params.baselines["my_shop"].networks == ("open_clip:ViT-B-32/openai",)
    assert (tmp_path / "p/data/models/my_shop/baselines/PLACEHOLDER.md").is_file()
    assert git(tmp_path / "p", "status", "--porcelain") == ""
    names = git(tmp_path / "p", "ls-files").splitlines()
    assert {"dvc.yaml", "stages/train.py", "spn4cir/files.py", "data/raw/my_shop", ".dvc/config"} <= set(names)
    assert not [name for name in names if name.startswith("data/raw/my_shop/")]


def test_a_project_without_annotations_links_its_models(generated: Recipe, tmp_path: Path) -> None:
    make_project(tmp_path / "p", "shop", generated)
    params = load_params(tmp_path / "p" / "params.yaml")
    assert params.run.models == ("zs",)
    assert params.train["shop"]["zs"].epochs == params.checkpoint["shop"]["zs"].train.epochs == 2
    assert params.train["shop"]["zs"].batch_size <= 20
    models = tmp_path / "p" / "data" / "models" / "shop"
    assert (models / "captioner").readlink() == tmp_path / "llava"
    assert (models / "encoder" / "u.pt").readlink() == tmp_path / "u.pt"
    names = git(tmp_path / "p", "ls-files", "data/models/shop").splitlines()
    assert {"data/models/shop/captioner", "data/models/shop/encoder/u.pt"} <= set(names)
    assert "/data/models/shop/captioner/*" in (tmp_path / "p" / ".gitignore").read_text().splitlines()
    assert params.baselines["shop"].networks == (), "without annotated queries, there is nothing to score"
    assert (models / "baselines" / "PLACEHOLDER.md").is_file()


def test_a_local_base_network_is_a_baseline_of_the_project(annotated: Recipe, tmp_path: Path) -> None:
    """Its files are linked one by one: DVC does not look behind a link to a folder within a dependency."""
    (tmp_path / "net").mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / "net" / name).touch()
    recipe = replace(annotated, base=Model("local-dir:net", {"local": "."}, tmp_path / "net"))
    make_project(tmp_path / "p", "shop", recipe)
    assert load_params(tmp_path / "p" / "params.yaml").baselines["shop"].networks == ("local-dir:base",)
    baselines = tmp_path / "p/data/models/shop/baselines"
    names = {path.name: path.readlink() for path in (baselines / "base").iterdir()}
    assert names == {path.name: path for path in (tmp_path / "net").iterdir()}
    assert not (baselines / "PLACEHOLDER.md").exists()
    assert git(tmp_path / "p", "status", "--porcelain") == ""


def test_a_run_is_committed_alone_and_without_a_known_user(
    annotated: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    make_project(tmp_path / "p", "shop", annotated)
    commit_run(tmp_path / "p", "nothing")
    (tmp_path / "p" / "dvc.lock").touch()
    (tmp_path / "p" / "notes.txt").touch()
    commit_run(tmp_path / "p", "Train")
    assert git(tmp_path / "p", "log", "--format=%s").splitlines() == ["Train", "Add the data set shop"]
    assert git(tmp_path / "p", "status", "--porcelain") == "?? notes.txt\n"


def test_a_project_is_continued_with_the_same_arguments_only(annotated: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "p"
    make_project(out, "shop", annotated)
    assert is_project(out)
    require_same(out, "shop", annotated)
    other = write_folder(tmp_path / "other")
    for recipe, message in (
        (replace(annotated, folder=other, annotations=other / "triplets.csv"), r"is a project of .*my shop; give ano"),
        (replace(annotated, epochs=5), r"checkpoint\.shop\.clip\.train\.epochs is 100, not 5 as asked now"),
        (replace(annotated, annotations=None), r"datasets\.shop\.annotations is triplets\.csv, not None"),
        (replace(annotated, base=replace(BASE, setting={"local": "."})), r"models\.shop\.stage1\.clip is .*ViT-B-32"),
    ):
        with pytest.raises(InputError, match=message):
            require_same(out, "shop", recipe)
    text = (out / "params.yaml").read_text()
    (out / "params.yaml").write_text(text.replace("seed: 42", "seed: 43"))
    require_same(out, "shop", annotated)  # a setting that no argument names


def served_by(generated: Recipe, *urls: str, name: str = MODEL) -> Recipe:
    """The recipe with a captioner behind URLs."""
    assert generated.generator is not None
    captioner = Model(name, {"served": "captioner", "model": name}, urls=urls)
    return replace(generated, generator=replace(generated.generator, captioner=captioner))


def test_a_served_captioner_is_an_endpoint_of_the_project_and_may_move(generated: Recipe, tmp_path: Path) -> None:
    out, first = tmp_path / "p", served_by(generated, "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1")
    make_project(out, "shop", first)
    params = load_params(out / "params.yaml")
    assert params.models["shop"].captioner == ServedCaptioner(served="captioner", model=MODEL)
    assert params.machine.endpoints == {"captioner": ("http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1")}
    (file,) = (out / "data/models/shop/captioner").iterdir()
    assert f"The endpoint captioner of machine.endpoints serves {MODEL}; no files are needed" in file.read_text()
    before = (out / "params.yaml").read_text()
    use_endpoints(out, first)
    assert (out / "params.yaml").read_text() == before
    moved = served_by(generated, "http://127.0.0.1:11/v1")
    require_same(out, "shop", moved)
    use_endpoints(out, moved)
    changed = load_params(out / "params.yaml")
    assert changed.machine.endpoints == {"captioner": ("http://127.0.0.1:11/v1",)}
    assert changed.model_copy(update={"machine": params.machine}) == params
    with pytest.raises(InputError, match=r"models\.shop\.captioner is .*'model': 'writer-7b'"):
        require_same(out, "shop", served_by(generated, "http://127.0.0.1:11/v1", name="other"))
    with pytest.raises(InputError, match=r"models\.shop\.captioner is"):
        require_same(out, "shop", generated)


def test_a_served_captioner_is_asked_before_the_training(generated: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setattr(unicom, "load_unicom", lambda path: None)
    assert generated.generator is not None
    encoder = generated.generator.encoder.origin
    with serve_chat() as chat:
        found = find_generator(MODEL, (chat.url,), encoder, needed=True)
        assert found is not None
        check_generator(found)
        assert [len(images_of(body)) for body in chat.requests] == [1]
        other = find_generator("other", (chat.url,), encoder, needed=False)
        assert other is not None
        with pytest.raises(InputError, match=rf"finds no model 'other', .*it serves {MODEL}"):
            check_generator(other)


def test_the_epochs_of_a_continued_project_are_not_called_published(annotated: Recipe) -> None:
    """The project may have been made with --epochs."""
    assert annotated.lines()[0].endswith("; epochs as published")
    assert annotated.lines(continued=True)[0].endswith("; epochs as in the project's params.yaml")
    assert replace(annotated, epochs=2).lines(continued=True)[0].endswith("; epochs of each stage: 2")


def test_a_run_that_stops_is_one_line_after_the_reason(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    (tmp_path / "dvc.yaml").write_text("stages:\n  code:\n    cmd: 'false'\n")
    with pytest.raises(InputError, match=r"the run stopped, for the reason above; remove it, and give the same comma"):
        reproduce(tmp_path)


def test_changed_annotations_outside_of_the_folder_are_seen(annotated: Recipe, tmp_path: Path) -> None:
    """DVC does not watch them: without this, the results of the former annotations would be reported again."""
    table = tmp_path / "table.csv"
    shutil.move(annotated.folder / "triplets.csv", table)
    recipe, out = replace(annotated, annotations=table), tmp_path / "p"
    make_project(out, "shop", recipe)
    assert git(out, "status", "--porcelain") == ""
    assert not annotations_changed(out, recipe)
    table.write_text(table.read_text() + "mugs/3.png,mugs/5.png,is blue,train,\n")
    assert annotations_changed(out, recipe)
    note_annotations(out, recipe)
    assert not annotations_changed(out, recipe)


def test_stages_run_in_the_python_of_this_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another `python` may be first in PATH, also if the `dvc` of this installation is found."""
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 9\n")
    other.chmod(0o755)
    monkeypatch.setenv(
        "PATH", f"{other.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    (tmp_path / "dvc.yaml").write_text("stages:\n  code:\n    cmd: python -c 'import spn4cir' && touch ran\n")
    reproduce(tmp_path)
    assert (tmp_path / "ran").exists()


def test_a_forced_run_runs_a_stage_that_did_not_change(tmp_path: Path) -> None:
    """A crash left the first run a list of DVC that is empty: it is mended."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    (tmp_path / "dvc.yaml").write_text("stages:\n  code:\n    cmd: echo ran >> log\n    deps: [.dvc/config]\n")
    (tmp_path / ".dvc" / "tmp").mkdir()
    (tmp_path / ".dvc" / "tmp" / "rwlock").touch()
    for force in (False, False, True):
        reproduce(tmp_path, force=force)
    assert (tmp_path / "log").read_text() == "ran\n" * 2


@pytest.mark.parametrize("queries", [13, 50])
def test_the_results_say_that_few_queries_allow_no_conclusion(annotated: Recipe, tmp_path: Path, queries: int) -> None:
    table = tmp_path / "data" / "validate" / "shop" / "clip" / "queries.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.table({"reference": ["mugs/1.png"], "text": ["is red"]}), table)
    write_json(tmp_path / "metrics" / "shop" / "clip.json", {"recall_at1": 7.69, **too_few_entry(queries)})
    said = [line for line in _results(tmp_path, "shop", annotated) if "too few for a conclusion" in line]
    assert len(said) == (queries < 50)


@pytest.mark.parametrize("texts", [["", "is red"], ["", " "]])
def test_the_printed_search_has_a_text_or_none(annotated: Recipe, tmp_path: Path, texts: list[str]) -> None:
    table = tmp_path / "data" / "validate" / "shop" / "clip" / "queries.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.table({"reference": ["mugs/1.png", "mugs/2.png"], "text": texts}), table)
    write_json(tmp_path / "metrics" / "shop" / "clip.json", {"recall_at1": 7.69})
    (search,) = (line for line in _results(tmp_path, "shop", annotated) if line.startswith("  spn4cir search"))
    words = shlex.split(search)
    image, *text = words[words.index("--image") + 1 : words.index("--out")]
    expected = ("mugs/2.png", ["--text", "is red"]) if "is red" in texts else ("mugs/1.png", [])
    assert (image, text) == (str(annotated.folder / expected[0]), expected[1])


def only_queries(shop: Path) -> None:
    rows = list(csv.reader((shop / "triplets.csv").open(newline="")))
    with (shop / "triplets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *(row for row in rows[1:] if "val" in row)])


def break_image(shop: Path) -> None:
    next(shop.rglob("*.png")).write_bytes(b"cut")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_image, r"1 of 40 images are absent or cannot be decoded \(.*png\); replace or remove them, or leave"),
        (only_queries, r"has no row of train with its images, and family clip learns from"),
    ],
)
def test_data_that_cannot_be_trained_on_leave_nothing(annotated: Recipe, tmp_path: Path, change: Any, message) -> None:
    change(annotated.folder)
    with pytest.raises(InputError, match=message):
        make_project(tmp_path / "out" / "p", "shop", annotated)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_broken_images_are_left_out_on_request(annotated: Recipe, tmp_path: Path) -> None:
    break_image(annotated.folder)
    make_project(tmp_path / "p", "shop", replace(annotated, missing="skip"))
    assert load_params(tmp_path / "p" / "params.yaml").datasets["shop"].missing == "skip"


def test_empty_texts_are_counted(annotated: Recipe, tmp_path: Path) -> None:
    rows = list(csv.reader((annotated.folder / "triplets.csv").open(newline="")))
    rows[1][rows[0].index("text")] = " "
    with (annotated.folder / "triplets.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    added = make_project(tmp_path / "p", "shop", annotated)
    assert "  texts       triplets with an empty text, which is used as it is: train 1" in added.lines


def test_names_of_the_published_settings_get_a_prefix() -> None:
    params = load_params(published_file())
    for name in (*params.datasets, *params.benchmarks):
        assert name_of(Path(name)) == f"own_{name}"


def test_a_link_to_a_file_that_is_gone_is_a_broken_image(annotated: Recipe, tmp_path: Path) -> None:
    (annotated.folder / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"1 of \d+ images are absent or cannot be decoded \(gone.png\)"):
        make_project(tmp_path / "p", "shop", annotated)
    make_project(tmp_path / "p", "shop", replace(annotated, missing="skip"))


def test_too_few_images_are_refused(generated: Recipe, tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "few" / f"{number}.png", number)
    with pytest.raises(InputError, match="has 3 training images, expected 8 or more"):
        make_project(tmp_path / "p", "few", replace(generated, folder=tmp_path / "few"))


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("my shop (new)", "my_shop_new"), ("2024", "own_2024"), ("fiq", "own_fiq"), ("ü", "own")],
)
def test_the_name_is_that_of_the_folder(folder: str, name: str) -> None:
    assert name_of(Path("/x") / folder) == name


def call(*arguments: object) -> str:
    """Runs the command, which is refused; returns its only line."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exit_code == 1, result.output
    (line,) = result.output.splitlines()
    return line.removeprefix("error: ")


def test_arguments_that_do_not_fit_are_refused_in_one_line(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    before = sorted(tmp_path.iterdir())
    table = ("--annotations", shop / "triplets.csv")
    base = ("--base", f"local-dir:{clip_folder}")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "notes.txt").touch()
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "u.pt").touch()
    encoder = ("--encoder", tmp_path / "u.pt")
    for arguments, message in (
        (
            (shop,),
            "give --encoder FILE, FP16-ViT-L-14.pt of the releases of github.com/deepglint/unicom; or give --anno",
        ),
        ((shop, "--family", "clip"), "--family clip: learns from annotated triplets; give --annotations FILE"),
        ((tmp_path / "absent", *table, *base), "absent: no such folder"),
        ((shop, *table, "--base", "ViT-B-32"), "--base ViT-B-32: expected a name such as open_clip:ViT-B-32/openai"),
        ((shop, *table, "--base", "local-dir:nowhere"), "no such folder; expected a folder in open_clip's form"),
        ((shop, *table), "is not in the cache and HF_HUB_OFFLINE is set"),
        ((shop, *table, *base, "--out", "strange"), "strange: exists and is not a project of spn4cir train"),
        (
            (shop, *table, *base, "--out", shop / "out"),
            f"is inside {shop}, which is only read; give another place by --out",
        ),
        ((shop, *table, *base, "--captioner", "llava"), "give --encoder FILE"),
        ((shop, *base, *encoder, "--captioner", "./x"), "--captioner ./x: no such folder; give the folder of a LLaVA"),
        ((shop, *base, *encoder, "--captioner", bert), "is no LLaVA in transformers' form (model_type)"),
        ((shop, *table, *base, "--captioner-url", "http://h/v1"), "give --encoder FILE"),
        (
            (shop, *base, *encoder, "--captioner-url", "http://[::1/v1"),
            "http://[::1/v1: expected a URL",
        ),
        (
            (shop, *base, *encoder, "--captioner-url", "http://:key@h/v1"),
            "http://***@h/v1: expected",
        ),
        ((shop, *base, *encoder, "--captioner-url", "h:8000"), "--captioner-url h:8000: expected a URL as in http://"),
        ((shop, *base, "--encoder", "x.pt"), "x.pt: no such file; give FP16-ViT-L-14.pt"),
    ):
        assert message in call(*arguments)
    shutil.rmtree(tmp_path / "strange")
    shutil.rmtree(bert)
    (tmp_path / "u.pt").unlink()
    assert sorted(tmp_path.iterdir()) == before
