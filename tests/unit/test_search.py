"""Search in a folder of images, against scores computed one by one."""

import re
import shutil
from pathlib import Path
from unicodedata import normalize

import pytest
import torch
from PIL import Image

from spn4cir import Hit, Retriever
from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.images.folders import folder_gallery, listed_gallery
from spn4cir.search.find import draw_found, find
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt", stage=2)


@pytest.fixture(scope="module")
def retriever(weights) -> Retriever:
    return Retriever.from_checkpoint(weights, workers=0)


def search(retriever: Retriever, folder: Path, image: Path, text: str, k: int) -> list[Hit]:
    return find(retriever, str(image), text, k, folder)[0]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight images at three depths, of five formats."""
    places = ["b.png", "a.jpg", "in/c.jpeg", "in/d.webp", "in/deep/e.bmp", "in/deep/f.PNG", "g.gif", "h.png"]
    for number, place in enumerate(places):
        draw(tmp_path / "gallery" / place, number)
    (tmp_path / "gallery" / "notes.txt").write_text("no image")
    return tmp_path / "gallery"


def test_the_gallery_is_every_image_below_the_folder_sorted_by_name(folder):
    names = folder_gallery(folder).names
    assert names == ("a.jpg", "b.png", "g.gif", "h.png", "in/c.jpeg", "in/d.webp", "in/deep/e.bmp", "in/deep/f.PNG")


def test_hidden_files_are_passed_over(folder):
    (folder / "._a.jpg").write_bytes(b"resource fork")
    draw(folder / ".thumbnails" / "a.jpg", 0)
    assert len(folder_gallery(folder)) == 8


@pytest.mark.parametrize(
    ("texts", "root"),
    [
        (["/a/b-c/1.png", "/a/b/2.png", "/a/b/1.png", "/a/b/2.png"], "/a"),
        (["/a/b", "/a/b/c.png"], "/a"),
        (["/a/b/c.png"], "/a/b"),
        (["/x.png", "/y/z.png"], "/"),
        (["//a/b.png", "/a/c.png", "/a/b.png"], "/a"),
        (["./in/a.png", "in//b.png", "in/../in/c.png"], "in"),
    ],
)
def test_listed_images_are_named_below_their_common_folder(texts: list[str], root: str) -> None:
    place, gallery = listed_gallery(map(Path, texts))
    expected = sorted({Path(re.sub("^//", "/", text)).absolute() for text in texts})
    assert place == Path(root).absolute()
    assert list(gallery.paths) == expected
    assert gallery.names == tuple(path.relative_to(place).as_posix() for path in expected)


def test_links_are_followed_once(folder, tmp_path):
    draw(tmp_path / "elsewhere" / "z.png", 30)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "in" / "round").symlink_to(folder / "in")
    (folder / "in" / "up").symlink_to(folder)
    assert len(folder_gallery(folder)) == 9
    assert [name for name in folder_gallery(folder).names if "z.png" in name] == ["linked/z.png"]


def test_scores_are_those_of_each_image_alone(retriever, weights, folder, tmp_path):
    query = draw(tmp_path / "query.png", 100)
    found = search(retriever, folder, query, "is red", k=8)
    composer = load_composer(weights)
    with torch.inference_mode():

        def encode(path):
            return composer.encode_image(composer.preprocess(open_image(path))[None])

        composed = composer.compose(encode(query).reference, ["is red"])
        expected = {name: float(composed @ encode(folder / name).target.T) for name in folder_gallery(folder).names}
    assert [each.name for each in found] == sorted(expected, key=expected.__getitem__, reverse=True)
    assert {each.name: each.score for each in found} == pytest.approx(expected, abs=1e-5)


def test_the_query_image_is_left_out_by_content_whatever_its_name_and_format(retriever, folder, tmp_path):
    query = shutil.copy(folder / "b.png", tmp_path / "other name.png")
    Image.open(query).save(folder / "same pixels.bmp")
    names = [f.name for f in search(retriever, folder, query, "is red", k=99)]
    assert len(names) == 7
    assert not {"b.png", "same pixels.bmp"} & set(names)


def test_equal_images_of_the_gallery_come_in_the_order_of_their_names(retriever, folder, tmp_path):
    for name in ("z.png", "h2.png", "a2.png"):
        shutil.copy(folder / "h.png", folder / name)
    query = draw(tmp_path / "query.png", 100)
    names = [f.name for f in search(retriever, folder, query, "is red", k=99)]
    assert [name for name in names if name in {"h.png", "z.png", "h2.png", "a2.png"}] == [
        "a2.png",
        "h.png",
        "h2.png",
        "z.png",
    ]


def test_k_takes_the_best(retriever, folder, tmp_path):
    query = draw(tmp_path / "query.png", 100)
    three, all_of_them = (search(retriever, folder, query, "is red", k) for k in (3, 99))
    assert three == all_of_them[:3]
    assert len(all_of_them) == 8


def test_a_text_beyond_the_limit_is_cut_with_a_word(retriever, folder, capsys):
    search(retriever, folder, folder / "b.png", "red " * 90, k=1)
    assert "warning: the text has 92 tokens, clip reads 77: the rest is cut" in capsys.readouterr().err


def test_a_text_at_the_limit_is_read_without_a_word(retriever, folder, capsys):
    search(retriever, folder, folder / "b.png", "red " * 75, k=1)
    assert "warning" not in capsys.readouterr().err


def test_an_empty_text_is_refused(retriever, folder):
    with pytest.raises(InputError, match="the text is empty"):
        search(retriever, folder, folder / "b.png", "  ", k=1)


def test_a_gallery_of_the_query_alone_is_refused(retriever, tmp_path):
    query = draw(tmp_path / "gallery" / "a.png", 0)
    with pytest.raises(InputError, match="contains no other image"):
        search(retriever, tmp_path / "gallery", query, "is red", k=1)


@pytest.mark.parametrize("side", ["text_projection", "positional_embedding"])
def test_weights_that_are_not_finite_are_refused(tmp_path, folder, side):
    broken = load_composer(write_checkpoint(tmp_path / "best.pt"))
    getattr(broken.clip, side).data.fill_(float("inf"))
    save_composer(broken, tmp_path / "broken.pt", 1, 1)
    with pytest.raises(InputError, match="not finite"):
        search(Retriever.from_checkpoint(tmp_path / "broken.pt", workers=0), folder, folder / "b.png", "is red", k=1)


@pytest.mark.parametrize("missing", ["nowhere", "b.png"])
def test_a_gallery_that_is_no_folder_is_refused(folder, missing):
    with pytest.raises(InputError, match="no such folder"):
        folder_gallery(folder / missing)


def test_an_empty_gallery_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="the gallery is empty"):
        folder_gallery(tmp_path)


def test_a_sheet_shows_the_query_and_what_was_found(retriever, folder, tmp_path):
    query = folder / "b.png"
    two, four = (search(retriever, folder, query, "is red", k) for k in (2, 4))
    draw_found(two, query, "is red", tmp_path / "two.png")
    draw_found(four, query, "is red", tmp_path / "four.png")
    small, wide = Image.open(tmp_path / "two.png"), Image.open(tmp_path / "four.png")
    assert small.format == wide.format == "PNG"
    assert wide.height == small.height
    assert wide.width - small.width == 2 * (128 + 10)
    shown = small.getpixel((10 + 48, 44 + 48))
    assert shown == pytest.approx(open_image(query).convert("RGB").getpixel((12, 12)), abs=2), "the reference is first"


def test_a_sheet_of_many_wraps_to_rows_of_ten(folder, tmp_path):
    found = [Hit(f"{rank}", 0.5, str(folder / "b.png")) for rank in range(23)]
    draw_found(found[:10], folder / "a.jpg", "is red", tmp_path / "ten.png")
    draw_found(found, folder / "a.jpg", "is red", tmp_path / "many.png")
    ten, many = Image.open(tmp_path / "ten.png"), Image.open(tmp_path / "many.png")
    assert many.width == ten.width
    assert many.height - ten.height == 2 * (128 + 18 + 10)


def test_a_query_image_whose_accents_are_written_in_another_way(weights, folder):
    """By its path, by its name in a folder, and by its name in a gallery that is indexed already."""
    whole = normalize("NFC", "café.png")
    there = draw(folder / normalize("NFD", whole), 40)
    retriever = Retriever.from_checkpoint(weights, workers=0)
    for image in (str(folder / whole), whole):
        hits, query = find(retriever, image, "is red", 9, folder)
        assert query == there
        assert len(hits) == 8, "the query image itself is left out"
    assert find(retriever, whole, "is red", 9)[1] == there
