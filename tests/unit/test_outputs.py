"""The places that a command writes to: none of them is, or spoils, what the command reads."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.cli.outputs import check_output_folder, check_outputs
from spn4cir.datasets import every_file
from spn4cir.errors import InputError


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder of data with an image, annotations and a sub-folder; an index; a checkpoint; all files are one byte."""
    monkeypatch.chdir(tmp_path)
    for name in ("root/a.png", "root/in/t.csv", "i/index.json", "i/pictures.parquet", "c.pt", "last.json", "photo.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    Path("link.pt").symlink_to("c.pt")
    os.link("c.pt", "hard.pt")
    Path("linked").symlink_to("root")


EXISTS = "exists in root, which is only read; name a new file, or one outside it, or remove an earlier result"
READS = ("c.pt", "root", Path("i"), None, "open_clip:ViT-B-32/openai", "x" * 5000)


def refusal(*places, **options):
    with pytest.raises(InputError) as found:
        check_outputs(*(Path(place) for place in places), reads=READS, **options)
    return str(found.value)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("c.pt", "c.pt: is read by the same command; give the name of another file to write"),
        ("root/../c.pt", "root/../c.pt: is c.pt, which is read; give the name of another file to write"),
        ("link.pt", "link.pt: is c.pt, which is read; give the name of another file to write"),
        ("hard.pt", "hard.pt: is c.pt, which is read; give the name of another file to write"),
        ("root/a.png", f"root/a.png: {EXISTS}"),
        ("linked/in/t.csv", f"linked/in/t.csv: {EXISTS}"),
        ("root/b.png", "root/b.png: is an image inside root, whose images are read; name a file outside it"),
        ("i/index.json", "i/index.json: is inside i, which is read; name a file outside it"),
        ("i/new.json", "i/new.json: is inside i, which is read; name a file outside it"),
        (
            "photo.png",
            "photo.png: is an image, which only an image may replace; give the name of another file to write",
        ),
    ],
)
def test_an_output_that_overwrites_what_is_read_is_refused(place, reason):
    assert refusal(place) == reason


def test_a_link_in_a_folder_that_is_read_is_not_replaced():
    Path("root/b.csv").symlink_to(Path("last.json").absolute())
    assert refusal("root/b.csv").startswith("root/b.csv: exists in root")


@pytest.mark.parametrize("place", ["new.json", "last.json", "root/new.json", "new/m.json", "new.png"])
def test_other_outputs_are_allowed(place):
    check_outputs(Path(place), None, reads=READS)
    check_output_folder(Path("root/new.index"), READS)


def test_files_that_are_not_read_are_replaced_where_only_images_are_read():
    check_outputs(Path("root/in/t.csv"), reads=["c.pt"], images=Path("root"))
    Path("root/link.csv").symlink_to(Path("root/a.png").absolute())
    for place in ("root/a.png", "root/link.csv"):
        with pytest.raises(InputError, match="exists in root"):
            check_outputs(Path(place), images=Path("root"))
    with pytest.raises(InputError, match="inside i, which is read"):
        check_outputs(Path("i/index.json"), images=Path("i"))


def test_a_contact_sheet_replaces_an_image_that_is_not_read():
    check_outputs(None, sheet=Path("photo.png"), reads=READS)
    assert refusal(sheet=Path("root/a.png")).startswith("root/a.png: exists in root")


@pytest.mark.parametrize("other", ["new.json", "./new.json", "root/../new.json"])
def test_two_outputs_in_one_file_are_refused(other):
    assert refusal("new.json", other).endswith("is given for two outputs; give the name of another file to write")


def test_two_outputs_in_one_file_by_a_hard_link_are_refused():
    os.link("last.json", "again.json")
    assert "again.json: is given for two outputs" in refusal("last.json", "again.json")


@pytest.mark.parametrize("place", ["params.yaml", "../params.yaml"])
def test_the_settings_in_reach_are_not_overwritten(place, monkeypatch):
    Path("params.yaml").write_text("datasets: {}")
    monkeypatch.chdir("." if place == "params.yaml" else "root")
    assert "params.yaml, which is read" in refusal(place)


def test_a_network_in_a_local_folder_is_read():
    with pytest.raises(InputError, match="exists in root"):
        check_outputs(Path("root/in/t.csv"), reads=["local-dir:root"])


@pytest.mark.parametrize(
    ("place", "reason"), [("root", "root: is root, which is"), (".", ".: contains c.pt, which is")]
)
def test_a_folder_that_contains_what_is_read_is_not_replaced(place, reason):
    with pytest.raises(InputError, match=reason):
        check_output_folder(Path(place), READS)


@pytest.mark.parametrize("place", ["root/in/new.parquet", "linked/new.parquet"])
def test_no_file_is_added_where_all_of_its_kind_are_read(place):
    assert every_file("table") == (".parquet", ".arrow")
    assert every_file("cirr") == ()
    reason = refusal(place, all_read=every_file("table"))
    assert reason == f"{place}: is inside root, of which all .parquet files are read; name a file outside it"
    for other in ("root/new.json", "new.parquet"):
        check_outputs(Path(other), reads=READS, all_read=every_file("table"))
    check_outputs(Path(place), images=Path("root"), all_read=every_file("table"))
    check_outputs(Path(place), reads=READS)


def test_validate_adds_no_table_to_a_folder_of_tables():
    options = ["--layout", "table", "--root", "root", "--checkpoint", "c.pt", "--json", "root/m.json"]
    done = CliRunner().invoke(app, ["validate", *options])
    assert done.exit_code == 1
    assert "root/m.queries.parquet: is inside root, of which all .parquet files are read" in done.output
