"""`spn4cir index` and `spn4cir search`, in a folder that holds nothing of the project."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from spn4cir import Retriever
from spn4cir.cli import app
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


@pytest.fixture(autouse=True)
def gallery(tmp_path, monkeypatch) -> Path:
    for number in range(5):
        draw(tmp_path / "gallery" / f"{number}.png", number)
    monkeypatch.chdir(tmp_path)
    return Path("gallery")


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def index(weights: Path, *more: object, status: int = 0) -> Result:
    return call("index", "--checkpoint", weights, "--out", "index", "--workers", 0, *more, status=status)


def test_an_index_is_written_searched_and_brought_up_to_date(weights, gallery):
    assert index(weights, "--gallery", gallery).stdout.splitlines() == [
        "5 added, 0 changed, 0 removed, 0 unchanged, 0 skipped",
        "index: written, 5 images, exact",
    ]
    arguments = ["--image", gallery / "2.png", "--text", "is red"]
    found = call("search", "--index", "index", *arguments)
    direct = call("search", "--checkpoint", weights, "--gallery", gallery, *arguments, "--workers", 0)
    assert found.stdout == direct.stdout
    assert len(found.stdout.splitlines()) == 4
    (gallery / "0.png").unlink()
    draw(gallery / "1.png", 30)
    draw(gallery / "in" / "9.png", 31)
    assert index(weights, "--gallery", gallery).stdout.splitlines()[0] == (
        "1 added, 1 changed, 1 removed, 3 unchanged, 0 skipped"
    )
    assert Retriever.load("index").names == ("1.png", "2.png", "3.png", "4.png", "in/9.png")


@pytest.mark.parametrize("file", ["vectors.faiss", "pictures.parquet", "index.json"])
def test_a_damaged_index_is_made_again_as_the_message_says(weights, gallery, file):
    index(weights, "--gallery", gallery)
    place = Path("index", file)
    content = place.read_bytes()
    place.write_bytes(b'{"format": 9}' if file == "index.json" else content[:-7])
    message = index(weights, "--gallery", gallery, status=1).output
    assert message.strip().endswith("; remove the folder and make it again with spn4cir index")
    shutil.rmtree("index")
    assert "5 added" in index(weights, "--gallery", gallery).stdout


def test_an_index_keeps_its_kind_until_another_is_given(weights, gallery):
    def written(*options: str) -> str:
        return index(weights, "--gallery", gallery, *options).stdout.splitlines()[-1]

    assert written("--kind", "ivf", "--recall", "1") == "index: written, 5 images, ivf, recall 1.000"
    assert written() == "index: written, 5 images, ivf, recall 1.000"
    assert written("--kind", "auto") == "index: written, 5 images, exact"
    said = index(weights, "--gallery", gallery, "--recall", "95", status=1).stderr
    assert said == "error: recall is 95.0; give a share above 0 and at most 1, as in 0.95\n"


def test_the_query_may_be_named_as_the_gallery_does(weights, gallery):
    index(weights, "--gallery", gallery)
    wanted = call("search", "--index", "index", "--image", "gallery/2.png", "--text", "is red").stdout
    assert call("search", "--index", "index", "--image", "2.png", "--text", "is red").stdout == wanted
    direct = ["--checkpoint", weights, "--gallery", gallery, "--workers", 0]
    assert call("search", *direct, "--image", "2.png", "--text", "is red").stdout == wanted


def test_hits_are_written_as_json(weights, gallery):
    index(weights, "--gallery", gallery)
    result = call("search", "--index", "index", "--image", "2.png", "--text", "is red", "-k", 2, "--json", "h.json")
    *lines, last = result.stdout.splitlines()
    assert last == "h.json: written"
    written = json.loads(Path("h.json").read_text())
    assert (written["image"], written["text"]) == (str((gallery / "2.png").absolute()), "is red")
    assert [f"{rank:>4}  {hit['name']}  {hit['score']:7.4f}" for rank, hit in enumerate(written["hits"], 1)] == lines
    assert all(Path(hit["path"]) == (gallery / hit["name"]).absolute() for hit in written["hits"])


def test_no_sheet_is_drawn_into_the_folder_that_an_index_follows(weights, gallery):
    """The next index would contain the sheet. Other files, and images beside a list of images, are no concern of it."""
    index(weights, "--gallery", gallery)
    query = ["search", "--index", "index", "--text", "is red", "-k", 1]
    said = call(*query, "--out", gallery / "new.png", status=1).stderr
    assert "gallery/new.png: is an image inside" in said
    assert not (gallery / "new.png").exists()
    for _ in range(2):
        call(*query, "--json", gallery / "hits.json")
    retriever = Retriever.load("index")
    retriever.index([gallery / "0.png", gallery / "1.png"])
    retriever.save("index")
    call(*query, "--out", gallery / "new.png")
    assert "which is read; " in call(*query, "--out", gallery / "1.png", status=1).stderr


def test_a_text_or_an_image_alone_is_searched_with(weights, gallery):
    index(weights, "--gallery", gallery)
    for options, query, count in (
        (["--text", "is red"], (None, "is red"), 5),
        (["--image", "2.png"], (str((gallery / "2.png").absolute()), None), 4),
    ):
        result = call("search", "--index", "index", *options, "--json", "h.json", "--out", "sheet.png")
        *lines, json_line, sheet_line = result.stdout.splitlines()
        assert (len(lines), json_line, sheet_line) == (count, "h.json: written", "sheet.png: written")
        written = json.loads(Path("h.json").read_text())
        assert (written["image"], written["text"]) == query
        found = Retriever.load("index").search(query[0] and "2.png", query[1])
        assert [hit["name"] for hit in written["hits"]] == [hit.name for hit in found]
        with Image.open("sheet.png") as sheet:
            left = sheet.crop((0, 44, 140, 190)).getcolors()
            assert (left is not None and len(left) == 1) == (query[0] is None)


def test_a_search_without_image_and_text_is_refused(weights, gallery):
    said = call("search", "--checkpoint", weights, "--gallery", gallery, status=2).stderr
    assert "give --image FILE, --text TEXT, or both" in said


@pytest.mark.parametrize("name", ["sheet.xyz", "sheet.jpg", "sheet"])
def test_a_sheet_of_another_ending_than_png_is_refused(weights, gallery, name):
    arguments = ["--image", gallery / "2.png", "--text", "is red", "--out", name]
    said = call("search", "--checkpoint", weights, "--gallery", gallery, *arguments, status=2).stderr
    assert f"--out {name}: a PNG is written; give a name that ends in .png" in said
    assert not Path(name).exists()


def test_an_index_without_weights_is_told_where_they_lie(weights, gallery, tmp_path):
    own = Path(shutil.copy(weights, "own.pt"))
    index(own, "--gallery", gallery, "--no-weights")
    assert not Path("index/weights.pt").exists()
    own.rename("moved.pt")
    arguments = ["search", "--index", "index", "--image", "2.png", "--text", "is red"]
    assert "own.pt: no such file; give the weights of" in call(*arguments, status=1).stderr
    assert call(*arguments, "--checkpoint", "moved.pt").stdout


def test_broken_images_stop_it_or_are_left_out(weights, gallery):
    for name in ("bad.png", "worse.jpg"):
        (gallery / name).write_text("no image")
    said = index(weights, "--gallery", gallery, status=1).stderr
    assert said.startswith("error: 2 images cannot be decoded: bad.png, worse.jpg; replace or remove them, or ")
    assert said.endswith(" The first: gallery/bad.png: cannot be decoded (no known image format)\n")
    assert said.count("replace") == 1
    assert not Path("index").exists()
    lines = index(weights, "--gallery", gallery, "--skip-broken").stdout.splitlines()
    assert lines[:2] == ["bad.png: skipped, cannot be decoded", "worse.jpg: skipped, cannot be decoded"]
    assert lines[2] == "5 added, 0 changed, 0 removed, 0 unchanged, 2 skipped"


def test_an_index_of_other_weights_or_widths_is_left_alone(weights, gallery, tmp_path):
    index(weights, "--gallery", gallery)
    other = write_checkpoint(tmp_path / "other.pt", seed=1)
    assert "encodes images with other weights than those of" in index(other, "--gallery", gallery, status=1).stderr
    said = index(weights, "--gallery", gallery, "--vision-head-width", 32, status=1).stderr
    assert "was made with head widths (None, None), not (32, None) (image, text); give the same" in said
    assert index(weights, "--gallery", gallery).stdout.splitlines()[0].startswith("0 added, 0 changed")


def test_a_folder_that_holds_other_things_is_not_replaced(weights, gallery):
    said = call("index", "--checkpoint", weights, "--gallery", gallery, "--out", gallery, status=1).stderr
    assert said == "error: gallery: contains 0.png, which is not part of an index; name a new folder for the index\n"
    assert len(list(gallery.iterdir())) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--checkpoint", "c.pt"],
        ["--gallery", "gallery"],
        ["--index", "index", "--gallery", "gallery"],
        ["--index", "index", "--family", "clip"],
        ["--index", "index", "--skip-broken"],
    ],
)
def test_search_takes_an_index_or_a_checkpoint_and_a_gallery(arguments):
    said = call("search", "--image", "i.png", "--text", "is red", *arguments, status=2).stderr
    assert "--index" in said
