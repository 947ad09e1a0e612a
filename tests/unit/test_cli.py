"""The command line, in folders that hold nothing of the project."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from spn4cir.checkpoints.published import read_checkpoint
from spn4cir.cli import app
from spn4cir.composers import COMPOSERS
from spn4cir.config.load import find_params, load_params
from spn4cir.datasets import LAYOUTS
from tests.helpers.benchmarks import write_circo, write_genecis
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw, write_cirr, write_fashioniq, write_table
from tests.helpers.params import published_params
from tests.helpers.published import FAMILIES, READS_WORDS, flags, write_published

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "dedup",
    "add-dataset",
    "inspect",
    "export",
    "validate",
    "submit",
    "index",
    "search",
    "serve",
    "check-submission",
    "compare",
)
FASHIONIQ_KEYS = [
    *(f"{category}_recall_at{k}" for category in ("dress", "shirt", "toptee") for k in (10, 50)),
    "average_recall_at10",
    "average_recall_at50",
    "average_recall",
]
CIRR_KEYS = [
    *(f"recall_at{k}" for k in (1, 5, 10, 50)),
    *(f"recall_subset_at{k}" for k in (1, 2, 3)),
    "mean_recall5_subset1",
]


def call(*arguments, status: int = 0):
    """Runs a command in this process; the result has stdout and stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Both layouts and checkpoints of both stages and towers; tests only read them."""
    folder = tmp_path_factory.mktemp("data")
    write_fashioniq(folder / "fiq", suffix=".jpg")
    write_cirr(folder / "cirr")
    write_checkpoint(folder / "stage1-vit.pt", 1, "vit")
    write_checkpoint(folder / "stage2-resnet.pt", 2, "resnet")
    for family in FAMILIES:
        for stage in (1, 2):
            write_published(folder / f"{family}-{stage}.pt", family, stage)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder without params.yaml and DVC."""
    monkeypatch.chdir(tmp_path)


def test_dedup_writes_the_published_form(data, tmp_path):
    root = shutil.copytree(data / "fiq", tmp_path / "fiq")
    shutil.copy(root / "images" / "dress-train-0.jpg", root / "images" / "shirt-train-3.jpg")
    result = call("dedup", "--layout", "fashioniq", "--root", root, "--out", "new/o.json", "--workers", 0)
    names, paths, row = json.loads(Path("new/o.json").read_text())
    assert len(names) == len(paths) == 17
    assert row["shirt-train-3"] == row["dress-train-0"] == 0
    assert result.stdout == "new/o.json: 18 images, 1 of them duplicates\n"


@pytest.mark.parametrize(
    ("layout", "root", "checkpoint", "keys"),
    [
        ("fashioniq", "fiq", "stage1-vit.pt", FASHIONIQ_KEYS),
        ("cirr", "cirr", "stage2-resnet.pt", CIRR_KEYS),
    ],
)
def test_validate_writes_the_metrics_file(data, layout, root, checkpoint, keys):
    arguments = ["--root", data / root, "--checkpoint", data / checkpoint, "--json", "m.json", "--workers", 0]
    result = call("validate", "--layout", layout, "--family", "clip", *arguments)
    metrics = json.loads(Path("m.json").read_text())
    few = ["too_few_queries"]
    assert list(metrics) == [*keys, "protocol", "counts", "alternatives", *few, "queries", "weights"]
    assert metrics["queries"] == "m.queries.parquet"
    assert pq.read_table("m.queries.parquet").num_rows == sum(metrics["counts"]["queries"].values())
    assert all(0 <= metrics[key] <= 100 for key in keys)
    *printed, remark, _ = result.stdout.splitlines()
    assert [line.split()[0] for line in printed] == keys
    assert remark == f"{metrics['too_few_queries']}."
    assert remark.startswith(f"{sum(metrics['counts']['queries'].values())} queries are too few for a conclusion")
    for name, scores in metrics["alternatives"].items():
        assert (name, list(scores)) == ("val_triplets", keys)


def test_validate_measures_shortcuts_on_request(data):
    """By the templates of the data set's settings, and a file of paraphrases."""
    Path("p.json").write_text('{"Shows two of them": ["is a pair"]}')
    arguments = ["--root", data / "cirr", "--checkpoint", data / "stage2-resnet.pt", "--json", "m.json", "--workers", 0]
    call("validate", "--layout", "cirr", *arguments, "--shortcuts")
    first = json.loads(Path("m.json").read_text())
    call("validate", "--layout", "cirr", *arguments, "--paraphrases", "p.json")
    second = json.loads(Path("m.json").read_text())
    templates = published_params().shortcuts["cirr"].templates
    assert list(first["shortcuts"]) == ["reference_alone", "text_alone", "hard_negatives", "paraphrases"]
    columns = {"lookalikes_above", "text_matches_above"}
    assert columns <= set(pq.read_table("m.queries.parquet").column_names)
    assert list(first["shortcuts"]["text_alone"]) == CIRR_KEYS
    assert list(first["shortcuts"]["paraphrases"]["sets"]) == ["as written", *templates]
    assert list(second["shortcuts"]["paraphrases"]["sets"]) == ["as written", *templates, "paraphrase 1"]
    refused = call("validate", "--layout", "cirr", *arguments, "--paraphrases", "absent.json", status=1)
    assert "absent.json: no such file" in refused.output


def test_a_table_is_read_by_the_columns_that_are_named(data, tmp_path):
    """validate, check-data and dedup; its rows hold the images."""
    root = write_table(tmp_path / "published", 12)
    columns = ["--table", "reference=reference_image", "--table", "target=target_image"]
    where = ["--layout", "table", "--root", root, *columns, "--workers", 0]
    call("validate", *where, "--checkpoint", data / "stage1-vit.pt", "--json", "m.json", "--shortcuts")
    metrics = json.loads(Path("m.json").read_text())
    assert metrics["counts"]["queries"] == {"val": 3}
    assert metrics["protocol"]["gallery"] == "the images that the rows of the split name"
    assert "ok: all 12 images are there" in call("check-data", *where).output
    assert "10 images, 0 of them duplicates" in call("dedup", *where, "--out", "o.json").stdout
    refused = call("check-data", "--layout", "table", "--root", root, status=1)
    assert "lacks the column 'reference' (columns there: reference_image, target_image, text)" in refused.stderr


def test_the_family_is_the_one_that_the_checkpoint_tells(data):
    arguments = ["--layout", "cirr", "--root", data / "cirr", "--checkpoint", data / "stage1-vit.pt", "--workers", 0]
    call("validate", *arguments, "--json", "m.json")
    assert json.loads(Path("m.json").read_text())["protocol"]["family"] == "clip"


@pytest.mark.parametrize(("family", "stage"), [(family, stage) for family in FAMILIES for stage in (1, 2)])
def test_every_family_validates_and_submits_from_a_published_file(data, family, stage):
    """The family is that of the file; both layouts; the family's own protocol is in the metrics file."""
    network = ["--checkpoint", data / f"{family}-{stage}.pt", "--workers", 0, *flags(family, data)]
    for layout, root, keys in (("fashioniq", "fiq", FASHIONIQ_KEYS), ("cirr", "cirr", CIRR_KEYS)):
        call("validate", "--layout", layout, "--root", data / root, *network, "--json", "m.json")
        metrics = json.loads(Path("m.json").read_text())
        assert all(0 <= metrics[key] <= 100 for key in keys)
        settings = published_params().validate_[{"fashioniq": "fiq"}.get(layout, layout)][family]
        assert metrics["protocol"]["family"] == family
        assert metrics["protocol"]["reference"].startswith("removed" if settings.remove_reference else "kept")
    call("submit", "--root", data / "cirr", *network, "--name", "mine", "--out", "sub")
    call("check-submission", "sub/recall_submission_mine.json", "--root", data / "cirr")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_searches(data, family):
    query = data / "cirr" / "dev" / "dev-0-0-img0.png"
    arguments = ["--gallery", data / "cirr" / "dev", "--image", query, "--text", "is red", "--workers", 0, "-k", 3]
    result = call("search", "--checkpoint", data / f"{family}-2.pt", *arguments, *flags(family, data))
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert query.name not in {row[1] for row in rows}


@pytest.mark.parametrize(("family", "limit"), [("clip", 77), ("tgcir", 77), ("blip", 16), ("blip2", 32)])
def test_a_text_beyond_the_limit_is_counted_and_reported(data, family, limit):
    """Signs that blip2's clean-up makes spaces are no tokens."""
    query = data / "cirr" / "dev" / "dev-0-0-img0.png"
    arguments = ["--checkpoint", data / f"{family}-1.pt", "--gallery", data / "cirr" / "dev", "--image", query]
    arguments += ["--workers", 0, *flags(family, data)]
    said = call("search", *arguments, "--text", "red " * limit).stderr
    assert f"warning: the text has {limit + 2} tokens, {family} reads {limit}: the rest is cut" in said
    fits = call("search", *arguments, "--text", "red " * (limit - 2) + ("!" * limit if family == "blip2" else ""))
    assert "warning: the text" not in fits.stderr


def around_validate() -> tuple[str, str, str]:
    """The text of `params.yaml` before the section `validate`, the section, and the text after it."""
    head, start, rest = (ROOT / "params.yaml").read_text().partition("\nvalidate:")
    section, end, rest = rest.partition("\n\n")
    return head, start + section, end + rest


@pytest.mark.parametrize("recipe", ["zs", "zs_cc"])
def test_a_recipe_reads_its_networks_files_and_its_own_settings(data, tmp_path, recipe):
    head, section, rest = around_validate()
    changed = section.replace(f" {recipe}: {{}}", f" {recipe}: {{remove_reference: false}}")
    (tmp_path / "params.yaml").write_text(head + changed + rest)
    arguments = ["--layout", "cirr", "--root", data / "cirr", "--checkpoint", data / "clip-2.pt", "--workers", 0]
    protocols = {}
    for family in ("clip", recipe):
        call("validate", *arguments, "--family", family, "--json", "m.json")
        protocols[family] = json.loads(Path("m.json").read_text())["protocol"]
    assert {name: (each["family"], each["reference"]) for name, each in protocols.items()} == {
        "clip": ("clip", "removed from the ranking"),
        recipe: (recipe, "kept in the ranking"),
    }
    call("submit", *arguments[2:], "--family", recipe, "--name", "mine", "--out", "sub")


@pytest.mark.parametrize("family", FAMILIES)
def test_inspect_prints_what_a_file_holds(data, family):
    """Without a tokenizer; with --json the same in a file."""
    widths = [flag for flag in flags(family, data) if family not in READS_WORDS]
    result = call("inspect", data / f"{family}-2.pt", *widths, "--json", "i.json")
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert lines[:2] == [["family", family], ["stage", "2"]]
    assert lines[-1] == ["i.json:", "written"]
    written = json.loads(Path("i.json").read_text())
    assert (written["family"], written["stage"], written["epoch"]) == (family, 2, 3)
    assert f"{sum(written['parameters'].values()):,}" in result.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_export_writes_a_published_file_and_says_what_was_filled(data, family):
    widths = [flag for flag in flags(family, data) if family not in READS_WORDS]
    result = call("export", "--checkpoint", data / f"{family}-2.pt", "--out", "new/p.pt", *widths)
    *filled, last = result.stdout.splitlines()
    assert last.startswith(f"new/p.pt: written, family {family}, stage 2: ")
    assert [line.split(":")[0] for line in filled] == (
        ["filled with fixed values, which no query or target depends on"] if family in ("tgcir", "blip2") else []
    )
    assert (read_checkpoint(Path("new/p.pt")).family, read_checkpoint(Path("new/p.pt")).stage) == (family, 2)


def test_submit_writes_two_files_that_pass_the_check(data):
    arguments = ["--root", data / "cirr", "--family", "clip", "--checkpoint", data / "stage1-vit.pt", "--workers", 0]
    call("submit", *arguments, "--name", "mine", "--out", "sub")
    assert sorted(file.name for file in Path("sub").iterdir()) == [
        "recall_submission_mine.json",
        "recall_subset_submission_mine.json",
    ]
    for metric, count in (("recall", 50), ("recall_subset", 3)):
        file = f"sub/{metric}_submission_mine.json"
        result = call("check-submission", file, "--root", data / "cirr")
        assert result.stdout == f"ok: {file} has metric {metric}: 54 queries with {count} names each\n"
        assert not result.stderr


def test_a_submission_that_lacks_queries_is_refused(data, tmp_path):
    root = tmp_path / "cirr"
    shutil.copytree(data / "cirr", root)
    (root / "test1" / "test1-0-0-img2.png").unlink()
    arguments = ["--root", root, "--checkpoint", data / "stage1-vit.pt", "--workers", 0, "--missing", "skip"]
    refused = call("submit", *arguments, "--name", "mine", "--out", "sub", status=1)
    assert "not written: 1 pair ids are missing" in refused.stderr
    assert not Path("sub").exists()


def test_check_submission_reads_two_files_of_the_root_alone(data, tmp_path):
    arguments = ["--root", data / "cirr", "--checkpoint", data / "stage1-vit.pt", "--workers", 0]
    call("submit", *arguments, "--name", "mine", "--out", "sub")
    for place in ("captions/cap.rc2.test1.json", "image_splits/split.rc2.test1.json"):
        (tmp_path / "bare" / "cirr" / place).parent.mkdir(parents=True)
        shutil.copy(data / "cirr" / "cirr" / place, tmp_path / "bare" / "cirr" / place)
    call("check-submission", "sub/recall_submission_mine.json", "--root", "bare")


def test_a_submission_file_that_is_not_there_is_named(data, tmp_path):
    """The advice is about the file, not about the data set."""
    said = call("check-submission", "absent.json", "--root", data / "cirr", status=1).stderr
    assert said == "error: absent.json: no such file; give the path of the submission file, a .json\n"
    said = call("check-submission", tmp_path, "--root", data / "cirr", status=1).stderr
    assert said == f"error: {tmp_path}: is a folder; give the path of the submission file, a .json\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_scored_on_benchmarks(data, tmp_path, family):
    """By the same protocol, whose text, gallery and reference the metrics files say."""
    network = ["--checkpoint", data / f"{family}-2.pt", "--workers", 0, *flags(family, data)]
    for layout, write, score, text in (
        ("circo", write_circo, "map_at10", "{relative_caption}"),
        ("genecis", write_genecis, "average_recall_subset_at1", "{condition}"),
    ):
        root = write(tmp_path / layout)
        call("validate", "--layout", layout, "--root", root, "--json", f"{layout}.json", *network)
        content = json.loads(Path(f"{layout}.json").read_text())
        assert 0 <= content[score] <= 100
        protocol = content["protocol"]
        assert (protocol["captions"], protocol["reference"]) == (text, "kept in the ranking")
        assert protocol["gallery"]
        empty = call(
            "validate", "--layout", layout, "--root", root, "--query-text", "", "--json", "m.json", *network, status=1
        )
        assert "query_text '' is not valid" in empty.stderr
    refused = call(
        "validate", "--layout", "genecis", "--root", root, "--shortcuts", "--json", "m.json", *network, status=1
    )
    assert "shortcuts are measured where all queries share a gallery" in refused.stderr
    assert not Path("m.json").exists()


def test_circo_is_scored_and_submitted(data, tmp_path):
    """By the options alone: mAP printed, the text's template taken, the file checked."""
    root = write_circo(tmp_path / "circo")
    options = ["--layout", "circo", "--root", root]
    arguments = [*options, "--checkpoint", data / "stage1-vit.pt", "--workers", 0]
    result = call("validate", *arguments, "--json", "m.json", "--query-text", "{shared_concept}: {relative_caption}")
    content = json.loads(Path("m.json").read_text())
    assert "map_at10" in result.stdout
    assert content["protocol"]["captions"] == "{shared_concept}: {relative_caption}"
    assert pq.read_table("m.queries.parquet")["text"][1].as_py() == "a dog number 1: has 1 more"
    call("submit", *arguments, "--name", "mine", "--out", "sub")
    checked = call("check-submission", "sub/submission_test_mine.json", *options)
    assert checked.stdout == "ok: sub/submission_test_mine.json has metric map: 4 queries with 50 names each\n"
    wrong = call("check-submission", "sub/submission_test_mine.json", "--root", data / "cirr", status=1)
    assert "version is None, expected 'rc2'" in wrong.stderr
    refused = call("add-dataset", "mine", "--layout", "circo", "--path", root, "--pool", root, status=1)
    assert "layout circo takes only --path, --like and --tasks" in refused.stderr
    refused = call("dedup", *options, "--out", "o.json", status=1)
    assert "layout circo has no training split" in refused.stderr


def test_search_prints_rank_name_score_and_draws(data):
    arguments = ["--checkpoint", data / "stage2-resnet.pt", "--gallery", data / "cirr", "--text", "is red"]
    query = data / "cirr" / "dev" / "dev-0-0-img0.png"
    result = call("search", *arguments, "--image", query, "-k", 3, "--out", "sheet.png", "--workers", 0)
    *rows, last = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all((data / "cirr" / row[1]).is_file() for row in rows)
    assert last == ["sheet.png:", "written"]
    assert Image.open("sheet.png").format == "PNG"


def test_search_gives_a_small_gallery_whole(data, tmp_path):
    for number in range(4):
        draw(tmp_path / "gallery" / f"{number}.png", number)
    arguments = ["--checkpoint", data / "stage1-vit.pt", "--gallery", "gallery", "--workers", 0]
    result = call("search", *arguments, "--image", "gallery/2.png", "--text", "is red")
    assert sorted(line.split()[1] for line in result.stdout.splitlines()) == ["0.png", "1.png", "3.png"]


def test_add_dataset_says_what_to_type(data, tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    result = call("add-dataset", "mine", "--layout", "cirr", "--path", data / "cirr", "--like", "demo_cirr")
    assert "dvc add data/models/mine" in result.stdout
    assert load_params(tmp_path / "params.yaml").datasets["mine"].layout == "cirr"


def test_settings_of_another_data_set_are_those_of_the_params_in_reach(data, tmp_path, monkeypatch):
    head, section, rest = around_validate()
    entry = "\n  cirr: {clip: {}"
    assert section.count(entry) == 1, "mend this test: it changes the entry validate.cirr.clip"
    changed = section.replace(entry, f"{entry[:-1]}remove_reference: false}}")
    (tmp_path / "params.yaml").write_text(head + changed + rest)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    arguments = ["--layout", "cirr", "--root", data / "cirr", "--checkpoint", data / "stage1-vit.pt", "--workers", 0]
    references = {}
    for name in ("cirr", "demo_cirr"):
        call("validate", *arguments, "--json", f"{name}.json", "--dataset", name)
        references[name] = json.loads(Path(f"{name}.json").read_text())["protocol"]["reference"]
    assert references == {"cirr": "kept in the ranking", "demo_cirr": "removed from the ranking"}
    wrong = call("validate", *arguments, "--json", "m.json", "--dataset", "demo_fiq", status=1)
    assert "data set 'demo_fiq' has layout fashioniq, not cirr" in wrong.stderr


def test_without_params_in_reach_the_published_settings_serve(tmp_path):
    assert find_params(tmp_path) == published_params()


def test_the_params_of_another_program_are_passed_over(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {lr: 3}\nseed: x\n")
    assert find_params(tmp_path) == published_params()


def test_params_that_are_no_text_are_named(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"datasets: \xff\xfe\n")
    result = call("dedup", "--layout", "cirr", "--root", ".", "--out", "o.json", status=1)
    assert result.stderr.startswith(f"error: {tmp_path}/params.yaml: is not UTF-8 text")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_is_read_and_written_with_an_example(command):
    text = call(command, "--help").stdout
    assert f"Example:\n    spn4cir {command} " in text
    assert "Reads" in text or "Links" in text
    assert ("|".join(COMPOSERS) in text) == (
        command in ("inspect", "export", "validate", "submit", "index", "search", "serve")
    )


def test_help_comes_without_any_heavy_module():
    program = (
        "import sys; from spn4cir.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'pydantic', 'open_clip', 'ruamel', 'rich'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    for command in COMMANDS:
        assert command in output
    assert output.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["dedup"],
        ["dedup", "--layout", "cirr", "--root", ".", "--out", "o.json", "--strange"],
        ["dedup", "--layout", "cirr", "--root", ".", "--out", "o.json", "--missing", "maybe"],
        ["dedup", "--layout", "cirr", "--root", ".", "--out", "o.json", "--workers", "-1"],
        ["search", "--checkpoint", "c.pt", "--gallery", ".", "--image", "i.png", "--text", "x", "-k", "0"],
        ["check-submission", "--root", "."],
    ],
)
def test_a_wrong_call_ends_with_status_2(arguments):
    call(*arguments, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "-k", "0"], "'-k': got '0', expected at least 1"),
        (["search", "-k", "many"], "'-k': got 'many', expected a whole number"),
        (["serve", "--port", "65536"], "'--port': got '65536', expected at most 65535"),
        (["export", "--to", "vectrs"], "'--to': 'vectrs' is not one of 'published', 'hub-folder', 'vectors'"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_expected(arguments, message):
    assert call(*arguments, status=2).stderr.splitlines()[-1] == f"Error: Invalid value for {message}"


def test_an_unknown_layout_or_family_is_answered_with_the_known_ones(data):
    arguments = ["--root", data / "cirr", "--checkpoint", data / "stage1-vit.pt", "--json", "m.json"]
    layout = call("validate", "--layout", "coco", *arguments, status=1)
    assert layout.stderr == f"error: layout 'coco' is not known; choose one of: {', '.join(LAYOUTS)}\n"
    family = call("validate", "--layout", "cirr", "--family", "resnet", *arguments, status=1)
    assert family.stderr == "error: family 'resnet' is not known; choose one of: clip, tgcir, blip, blip2, zs, zs_cc\n"


@pytest.mark.parametrize("name", ["", "a/b", "a b", "../x"])
def test_a_submission_name_that_would_not_end_a_file_name_is_refused(data, name):
    arguments = ["--root", data / "cirr", "--checkpoint", data / "stage1-vit.pt", "--out", "sub"]
    assert "cannot be part of a file name" in call("submit", *arguments, "--name", name, status=1).stderr
    assert not Path("sub").exists()


@pytest.mark.parametrize("place", ["folder", "file/o.json"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(data, tmp_path, monkeypatch, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("spn4cir.positives.dedup.deduplicate", lambda *_: pytest.fail("worked in vain"))
    result = call("dedup", "--layout", "fashioniq", "--root", data / "fiq", "--out", place, status=1)
    assert result.stderr.startswith(f"error: {place}: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_unexpected_fault_of_the_disk_is_one_line(data, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, "Input/output error", "/disk/file")

    monkeypatch.setattr("spn4cir.positives.dedup.deduplicate", fails)
    result = call("dedup", "--layout", "fashioniq", "--root", data / "fiq", "--out", "o.json", status=1)
    assert result.stderr == "error: /disk/file: Input/output error; check the path and the disk\n"


def test_interrupted_ends_with_status_130_and_no_traceback(data):
    """A real Ctrl-C to the whole group, workers included, while images are decoded."""
    command = [sys.executable, "-c", "from spn4cir.cli import main; main()", "dedup", "--layout", "fashioniq"]
    command += ["--root", str(data / "fiq"), "--out", "o.json"]
    program = (
        "import os, signal, spn4cir.images.processes as p\n"
        "def slow(function, paths):\n    os.killpg(0, signal.SIGINT); import time; time.sleep(1)\n"
        "p._map_chunk = slow\n"
    )
    command[2] = program + command[2]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, env=environment, timeout=60)
    assert done.returncode == 130
    assert done.stderr.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in done.stderr
    assert not Path("o.json").exists()


def test_a_closed_pipe_ends_without_a_traceback():
    """As in `spn4cir --help | head -0`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from spn4cir.cli import main; main()", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert done.returncode == 1
    assert not done.stderr
