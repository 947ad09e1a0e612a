"""Search from Python: the gallery follows its folder, and a loaded index equals the saved one."""

import doctest
import gc
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import spn4cir.search.encode
import spn4cir.search.image_files
from spn4cir import Encoder, Hit, Retriever
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_image
from spn4cir.search import index_folder, indexed_gallery, retriever
from spn4cir.search.index import ImageIndex
from spn4cir.types import Gallery
from tests.helpers import blip
from tests.helpers.checkpoints import container, tiny_state, write_checkpoint
from tests.helpers.layouts import draw
from tests.helpers.open_clip_folders import wide_state, write_base
from tests.helpers.words import write_vocabulary

NAMES = ("a.png", "b.png", "c.png", "in/d.png", "in/e.png", "in/f.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


@pytest.fixture(scope="module")
def _network(weights) -> Retriever:
    return Retriever.from_checkpoint(weights, workers=0)


@pytest.fixture
def empty(_network, weights) -> Retriever:
    """A retriever of its own over the shared network."""
    return Retriever(_network.composer, _network.weights, torch.device("cpu"), 0)


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, name in enumerate(NAMES):
        draw(tmp_path / "gallery" / name, number)
    return tmp_path / "gallery"


@pytest.fixture
def held(empty, folder) -> Retriever:
    return empty.index(folder)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many images each batch encoded."""
    counts: list[int] = []
    encode = spn4cir.search.encode.encode_pixels

    def counting(composer, pixels, device):
        counts.append(len(pixels))
        return encode(composer, pixels, device)

    monkeypatch.setattr("spn4cir.search.encode.encode_pixels", counting)
    return counts


def expected_scores(retriever: Retriever, folder: Path, query: torch.Tensor) -> dict[str, float]:
    composer = retriever.composer
    with torch.inference_mode():
        pixels = torch.stack([composer.preprocess(open_image(folder / name)) for name in NAMES])
        scores = composer.score(query[None], composer.encode_image(pixels).target)[0]
    return dict(zip(NAMES, scores.tolist(), strict=True))


def scores_of(hits: list[Hit]) -> dict[str, float]:
    return {hit.name: hit.score for hit in hits}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names(hits: list[Hit]) -> list[str]:
    return [hit.name for hit in hits]


def test_a_relative_folder_is_indexed_with_absolute_paths(empty, folder, monkeypatch):
    """A file that has not changed is not read again, from whichever folder the call is made."""
    monkeypatch.chdir(folder.parent)
    empty.index(folder.name)
    read: list[str] = []
    real = spn4cir.search.image_files.read_image
    monkeypatch.setattr("spn4cir.search.image_files.read_image", lambda *a: read.append(a[0].name) or real(*a))
    assert empty.index(folder).changes.unchanged == len(empty)
    assert read == []
    draw(folder / "a.png", 77)
    monkeypatch.chdir(folder)
    empty.index(".")
    assert read == ["a.png"]
    assert [empty.image_index.path(name) for name in empty.names] == [folder / name for name in empty.names]


def test_the_examples_of_the_docstrings(weights, tmp_path, monkeypatch):
    for number, name in enumerate(("coat.png", "dress.png", "in/shirt.png")):
        draw(tmp_path / "pictures" / name, number)
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "new" / "hat.png", 9)
    given = {"checkpoint": weights, "folder": tmp_path / "pictures", "Retriever": Retriever}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for module in (retriever, indexed_gallery):
        for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=given):
            runner.run(example)
    assert runner.tries > 8
    assert runner.failures == 0


def test_a_hit_has_name_score_and_path(held, folder):
    hits = held.search(folder / "a.png", "is red")
    assert sorted(names(hits)) == list(NAMES[1:])
    assert all(hit.path == str(folder / hit.name) for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(-1.001 < hit.score < 1.001 for hit in hits)


def test_the_query_may_be_a_file_an_image_or_a_name(held, folder):
    """A string that is a name in the gallery is that image, from any working directory."""
    wanted = held.search(folder / "in" / "d.png", "is red")
    with Image.open(folder / "in" / "d.png") as opened:
        assert held.search(opened, "is red") == wanted
    assert held.search(str(folder / "in" / "d.png"), "is red") == wanted
    assert held.search("in/d.png", "is red") == wanted
    assert "in/d.png" not in names(wanted)


def test_a_text_alone_is_searched_with_reference_features_of_zeros(held, folder):
    composer = held.composer
    with torch.inference_mode():
        shape = composer.encode_image(torch.zeros(1, 3, 32, 32)).reference
        query = composer.compose(torch.zeros_like(shape), ["a red coat"])[0]
    assert scores_of(held.search(None, "a red coat", k=99)) == pytest.approx(
        expected_scores(held, folder, query), abs=1e-5
    )


def test_an_image_alone_is_composed_with_the_empty_text(held, folder):
    composer = held.composer
    with torch.inference_mode():
        pixels = composer.preprocess(open_image(folder / "a.png"))[None]
        query = composer.compose(composer.encode_image(pixels).reference, [""])[0]
    expected = expected_scores(held, folder, query)
    hits = held.search("a.png", None, k=99)
    assert scores_of(hits) == pytest.approx({name: expected[name] for name in NAMES[1:]}, abs=1e-5)


def test_queries_with_and_without_images_are_answered_together(held, folder):
    queries = [(None, "is red"), ("a.png", None), (folder / "b.png", "is red"), (None, "has stripes")]
    for query, hits in zip(queries, held.search_many(queries, k=99), strict=True):
        assert scores_of(hits) == pytest.approx(scores_of(held.search(*query, k=99)), abs=1e-5)


def test_it_shows_what_it_is(held, weights):
    assert repr(held) == f"Retriever(family='clip', weights='{weights}', device='cpu', images=6)"
    assert len(held) == 6


def test_it_encodes_as_the_encoder_of_its_network_does(held, folder, weights):
    inputs = [{"image": folder / "a.png", "text": "is red"}, "a red coat"]
    expected = Encoder.from_checkpoint(weights, device="cpu").encode(inputs)
    assert held.encode(inputs) == pytest.approx(expected, abs=1e-6)


def test_the_reference_is_kept_when_asked(held):
    hits = held.search("a.png", "is red", k=99, exclude_reference=False)
    assert sorted(names(hits)) == list(NAMES)


def test_the_reference_is_left_out_under_each_of_its_names(empty, folder, tmp_path):
    shutil.copy(folder / "a.png", folder / "again.png")
    Image.open(folder / "a.png").save(folder / "other.bmp")
    elsewhere = shutil.copy(folder / "a.png", tmp_path / "query.png")
    assert sorted(names(empty.index(folder).search(elsewhere, "is red"))) == list(NAMES[1:])


def test_no_image_of_the_gallery_is_read_for_a_search(held, folder, tmp_path):
    query = shutil.copy(folder / "a.png", tmp_path / "query.png")
    wanted = held.search(query, "is red")
    shutil.rmtree(folder)
    assert held.search(query, "is red") == wanted
    assert len(wanted) == 5


def test_many_queries_answer_as_each_alone(held, folder):
    queries = [("a.png", "is red"), (folder / "b.png", "has stripes"), held.prepare("in/f.png", "is red")]
    together = held.search_many(queries, k=3)
    for query, hits in zip(queries[:2], together, strict=False):
        alone = held.search(*query, k=3)
        assert names(alone) == names(hits)
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-6)
    assert names(together[2]) == names(held.search("in/f.png", "is red", k=3))
    assert held.search_many([]) == []
    wide = held.search_many(queries, k=99)
    assert [hits[:3] for hits in wide] == together


def test_only_what_is_new_or_changed_is_encoded(held, folder, encoded):
    """Not what was touched, renamed, copied, or stored in another format that keeps the pixels."""
    assert held.index(folder).changes.unchanged == 6
    assert encoded == []
    os.utime(folder / "a.png", (1, 1))
    (folder / "b.png").rename(folder / "moved.png")
    shutil.copy(folder / "c.png", folder / "copy.png")
    draw(folder / "new.png", 50)
    draw(folder / "in" / "d.png", 51)
    (folder / "in" / "e.png").unlink()
    changes = held.refresh()
    assert changes == held.changes
    assert (changes.added, changes.changed) == (("copy.png", "moved.png", "new.png"), ("in/d.png",))
    assert (changes.removed, changes.unchanged) == (("b.png", "in/e.png"), 3)
    assert encoded == [2]


def test_a_refreshed_index_equals_a_new_one(held, empty, folder, weights):
    draw(folder / "new.png", 50)
    draw(folder / "in" / "d.png", 51)
    (folder / "in" / "e.png").unlink()
    held.refresh()
    rebuilt = Retriever.from_checkpoint(weights, workers=0).index(folder)
    assert held.names == rebuilt.names
    found, wanted = (each.search("a.png", "is red", k=99) for each in (held, rebuilt))
    assert names(found) == names(wanted)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-6)


def test_images_come_and_go_by_name(held, folder, tmp_path, encoded):
    elsewhere = draw(tmp_path / "elsewhere" / "z.png", 60)
    assert held.add([elsewhere, draw(folder / "in" / "y.png", 61)]).added == ("z.png", "in/y.png")
    assert held.path("z.png") == elsewhere
    assert held.remove("a.png").removed == ("a.png",)
    assert encoded == [2]
    assert len(held) == 7
    assert "a.png" not in held
    assert "a.png" not in names(held.search("b.png", "is red", k=99))
    assert held.refresh().added == ("a.png",)
    assert {"z.png", "in/y.png"} <= set(held.names)


def test_the_listing_of_images_is_released_before_the_index_grows(empty, folder, tmp_path, monkeypatch):
    """It takes hundreds of bytes an image, beside the index."""

    def listings() -> int:
        gc.collect()
        return sum(type(each) is Gallery for each in gc.get_objects())

    before, found, update = listings(), [], ImageIndex.update

    def watched(index, *arguments):
        found.append(listings())
        update(index, *arguments)

    monkeypatch.setattr(ImageIndex, "update", watched)
    empty.index(folder)
    empty.add(draw(tmp_path / "elsewhere" / "g.png", 20))
    draw(folder / "h.png", 21)
    empty.refresh()
    assert len(empty) == len(NAMES) + 2
    assert found == 3 * [before]


def test_an_image_whose_only_copy_goes_leaves_its_vector(held, folder):
    shutil.copy(folder / "a.png", folder / "again.png")
    held.refresh()
    assert len(held.image_index.vectors) == 6
    held.remove("a.png")
    assert names(held.search("b.png", "is red", k=99)).count("again.png") == 1
    held.remove("again.png")
    assert len(held.image_index.vectors) == 5


def test_a_list_of_images_is_named_from_the_folder_that_they_share(empty, folder):
    listed = [folder / "a.png", str(folder / "in" / "d.png")]
    assert empty.index(listed).names == ("a.png", "in/d.png")
    assert empty.index([folder / "in" / "d.png"]).names == ("d.png",)
    with pytest.raises(InputError, match="no folder was indexed, so none can be refreshed"):
        empty.refresh()


def test_broken_images_are_all_named_and_nothing_changes(held, folder, encoded):
    for name in ("bad.png", "in/worse.png"):
        (folder / name).write_text("no picture")
    draw(folder / "new.png", 50)
    with pytest.raises(InputError, match=r"2 images cannot be decoded: bad.png, in/worse.png; replace or"):
        held.index(folder)
    assert held.names == NAMES
    assert encoded == []
    assert held.index(folder, skip=True).changes.skipped == ("bad.png", "in/worse.png")
    assert held.names == tuple(sorted((*NAMES, "new.png")))


def test_the_error_of_a_single_broken_image_has_the_reason(empty, folder):
    (folder / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match=r"bad.png: cannot be decoded \(.*\); replace the file or remove it"):
        empty.index(folder)


def test_an_image_that_breaks_leaves_the_gallery_when_skipped(held, folder):
    (folder / "a.png").write_text("no picture")
    changes = held.refresh(skip=True)
    assert (changes.skipped, changes.removed, changes.unchanged) == (("a.png",), ("a.png",), 5)
    assert "a.png" not in held


def test_a_name_that_is_no_utf8_is_reported_and_may_be_skipped(empty, folder):
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    with pytest.raises(InputError, match=r"caf\\udce9.png: its path is not UTF-8; rename it"):
        empty.index(folder)
    changes = empty.index(folder, skip=True).changes
    assert (changes.skipped, changes.misnamed, changes.added) == (("caf\\udce9.png",), ("caf\\udce9.png",), NAMES)


def test_a_gallery_of_broken_images_alone_is_refused(empty, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match=r"bad.png: cannot be decoded"):
        empty.index(tmp_path / "pictures", skip=True)


@pytest.mark.parametrize(
    ("key", "value"), [("candidates", -5), ("candidates", 0), ("recall", 7.5), ("wanted_recall", -1)]
)
def test_a_manifest_with_a_value_that_none_has_is_refused(held, tmp_path, key, value):
    held.save(tmp_path / "index")
    manifest = tmp_path / "index" / "index.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(InputError, match=rf"index\.json: {key}: "):
        Retriever.load(tmp_path / "index")


def test_wrong_calls(held, tmp_path):
    for call, message in (
        (lambda: held.search("a.png", "is red", k=0), "k is 0; ask for at least 1 image"),
        (lambda: held.search("a.png", "is red", k="3"), "k is '3'; ask for at least 1 image"),
        (lambda: held.search("a.png", "is red", k=2.5), "k is 2.5; ask for at least 1 image"),
        (lambda: held.search("a.png", " "), "the text is empty"),
        (lambda: held.search(None, ""), "the text is empty"),
        (lambda: held.search(None, None), "a query needs an image, a text or both, and both are None"),
        (lambda: held.search("a.png", 3), "the text has the type int, expected a string"),
        (lambda: held.search(b"a.png", "is red"), "the image has the type bytes, expected a path"),
        (lambda: held.search("a red dress", None), "a red dress: no such image"),
        (lambda: held.search_many(["a red dress"]), r"a query is a pair \(image, text\), .*, not 'a red dress'"),
        (lambda: held.search_many([("a.png",)]), "a query is a pair"),
        (lambda: held.search("no.png", "is red"), "no.png: no such image; name a file, or an image of the gallery"),
        (lambda: held.search(Path("a.png"), "is red"), "a.png: no such image"),
        (lambda: held.path("no.png"), "'no.png' is not in the gallery"),
        (lambda: held.remove(["a.png", "x", "y"]), "not in the gallery: x, y"),
        (lambda: held.index([]), "the gallery is empty: the list contains no path"),
        (lambda: held.add(draw(tmp_path / "other" / "a.png", 70)), "has the same name, 'a.png', as .*; rename one"),
        (lambda: held.search(Image.new("RGB", (60_000, 2)), "is red"), r"is too narrow \(60000 x 2\)"),
        (lambda: held.search(Image.new("RGB", (0, 5)), "is red"), r"has no pixels \(0 x 5\)"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert held.names == NAMES


def test_without_a_gallery_there_is_nothing_to_search_or_save(empty, folder, tmp_path):
    with pytest.raises(InputError, match="nothing is indexed; call index"):
        empty.search(folder / "a.png", "is red")
    with pytest.raises(InputError, match="nothing is indexed, so there is nothing to save"):
        empty.save(tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_update_of_an_empty_gallery_with_nothing_changes_nothing(empty):
    assert empty.remove([]).removed == ()
    assert empty.names == ()


def test_a_gallery_of_nothing_but_the_reference_gives_nothing(empty, folder):
    assert empty.index([folder / "a.png"]).search("a.png", "is red") == []


def test_saved_and_loaded_it_answers_the_same(held, folder, tmp_path):
    """The folder contains the weights and needs no other file; indexed images are not encoded again."""
    wanted = held.search("a.png", "is red")
    held.save(tmp_path / "index")
    assert listing(tmp_path / "index") == ["index.json", "pictures.parquet", "vectors.faiss", "weights.pt"]
    loaded = Retriever.load(tmp_path / "index", workers=0)
    assert loaded.search("a.png", "is red") == wanted
    assert (loaded.names, loaded.family, loaded.approximate) == (NAMES, "clip", False)
    assert loaded.index(folder).changes.unchanged == 6


def test_an_index_of_lists_is_saved_loaded_and_changed(held, folder, tmp_path):
    """It keeps its kind and its recall until others are given, and leaves out the reference as an exact one does."""
    wanted = held.search("a.png", "is red", k=99)
    assert held.index(folder, kind="ivf", recall=1.0).kind == "ivf"
    assert (held.changes.unchanged, held.recall, held.approximate) == (6, 1.0, True)
    held.save(tmp_path / "index")
    assert listing(tmp_path / "index") == ["index.json", "lists.faiss", "pictures.parquet", "vectors", "weights.pt"]
    manifest = json.loads((tmp_path / "index" / "index.json").read_text())
    assert [manifest[key] for key in ("kind", "wanted_kind", "wanted_recall", "recall")] == ["ivf", "ivf", 1.0, 1.0]
    loaded = Retriever.load(tmp_path / "index", workers=0)
    found = loaded.search("a.png", "is red", k=99)
    assert names(found) == names(wanted)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-6)
    draw(folder / "new.png", 50)
    (folder / "b.png").unlink()
    loaded.refresh()
    loaded.save(tmp_path / "index")
    again = Retriever.load(tmp_path / "index", workers=0)
    assert again.kind == "ivf"
    assert again.search("a.png", "is red", k=99) == loaded.search("a.png", "is red", k=99)
    assert again.index(folder, kind="auto").kind == "exact"
    assert names(again.search("a.png", "is red", k=99)) == names(loaded.search("a.png", "is red", k=99))


def test_images_are_added_to_a_loaded_index_of_lists_that_lost_its_last_ones(held, folder, tmp_path):
    """Their rows stay in the files, so their ids are not used again, although no image has them."""
    held.index(folder, kind="ivf", recall=1.0)
    for number in range(3):
        last = sorted(held.names, key=lambda name: held.image_index.table[name].vector)[-2:]
        held.remove(last[number % 2 :])
        held.save(tmp_path / "index")
        held = Retriever.load(tmp_path / "index", workers=0)
        held.add(draw(tmp_path / f"new{number}.png", 60 + number))
        held.save(tmp_path / "index")
        held = Retriever.load(tmp_path / "index", workers=0)
        found = held.search(None, "is red", k=99)
        assert f"new{number}.png" in held
        assert sorted(names(found)) == list(held.names)


@pytest.mark.parametrize("file", ["lists.faiss", "vectors/00000.npy", "vectors/ids.npy"])
def test_a_damaged_index_of_lists_is_refused(held, folder, tmp_path, file):
    held.index(folder, kind="ivf").save(tmp_path / "index")
    place = tmp_path / "index" / file
    place.write_bytes(place.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"{file}: is damaged"):
        Retriever.load(tmp_path / "index")
    place.unlink()
    with pytest.raises(InputError, match=rf"{file}: is missing; remove the folder and make it again"):
        Retriever.load(tmp_path / "index")


def test_a_large_file_of_an_index_is_compared_in_parts(held, tmp_path, monkeypatch):
    """By its size and by parts of it, first and last ones included."""
    monkeypatch.setattr("spn4cir.search.index_folder._HASHED_WHOLE", 100)
    monkeypatch.setattr("spn4cir.search.index_folder._PART", 16)
    held.save(tmp_path / "index")
    assert Retriever.load(tmp_path / "index", workers=0).names == NAMES
    place = tmp_path / "index" / "vectors.faiss"
    whole = place.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), bytes([whole[0] ^ 1]) + whole[1:]):
        place.write_bytes(damaged)
        with pytest.raises(InputError, match=r"vectors.faiss: is damaged"):
            Retriever.load(tmp_path / "index")


def test_a_wrong_kind_changes_nothing(held, folder):
    for options, message in (({"kind": "hnsw"}, "kind 'hnsw' is not known"), ({"recall": 0}, "recall is 0")):
        with pytest.raises(InputError, match=message):
            held.index(folder, **options)
    (folder / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be decoded"):
        held.index(folder, kind="ivf")
    (folder / "bad.png").unlink()
    assert held.index(folder).kind == "exact"


def test_a_loaded_index_is_changed_and_saved_over_itself(held, folder, tmp_path):
    held.save(tmp_path / "index")
    loaded = Retriever.load(tmp_path / "index", workers=0)
    draw(folder / "new.png", 50)
    (folder / "a.png").unlink()
    loaded.refresh()
    loaded.save(tmp_path / "index")
    again = Retriever.load(tmp_path / "index", workers=0)
    assert again.names == loaded.names == ("b.png", "c.png", "in/d.png", "in/e.png", "in/f.png", "new.png")
    assert again.search("b.png", "is red") == loaded.search("b.png", "is red")


def test_a_full_disk_leaves_an_empty_index_and_not_half_of_one(held, folder, tmp_path, monkeypatch):
    draw(folder / "new.png", 50)

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("spn4cir.search.vectors.Vectors.update", full)
        with pytest.raises(InputError, match="full"):
            held.refresh()
    assert held.names == ()
    with pytest.raises(InputError, match="nothing is indexed"):
        held.save(tmp_path / "index")
    assert len(held.index(folder).search("new.png", "is red")) == 6


def test_a_link_that_leads_to_itself_is_replaced_by_an_index(held, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    held.save(tmp_path / "loop")
    assert Retriever.load(tmp_path / "loop", workers=0).names == held.names


def test_a_path_with_a_nul_is_refused(held):
    with pytest.raises(InputError, match="contains a NUL"):
        held.add(["a\0b.png"])


def test_other_threads_read_names_while_images_are_replaced(held, folder):
    """A reader that holds the table of before sees all of it."""
    table = held.image_index.table
    before = {name: table[name] for name in table}
    for name in before:
        draw(folder / name, 60)
    held.refresh()
    assert {name: table[name] for name in table} == before
    assert held.image_index.table is not table


def test_without_the_weights_they_are_found_again_by_their_hash(held, weights, tmp_path):
    own = shutil.copy(weights, tmp_path / "own.pt")
    retriever = Retriever.from_checkpoint(own, workers=0).index(held.path("a.png").parent)
    retriever.save(tmp_path / "index", weights=False)
    assert "weights.pt" not in listing(tmp_path / "index")
    wanted = retriever.search("a.png", "is red")
    assert Retriever.load(tmp_path / "index").search("a.png", "is red") == wanted
    Path(own).rename(tmp_path / "moved.pt")
    with pytest.raises(InputError, match=r"own.pt: no such file; give the weights of .*index with checkpoint"):
        Retriever.load(tmp_path / "index")
    assert Retriever.load(tmp_path / "index", checkpoint=tmp_path / "moved.pt").search("a.png", "is red") == wanted
    other = write_checkpoint(tmp_path / "other.pt", seed=1)
    with pytest.raises(InputError, match=r"other.pt: encodes images with other weights than those of .*index \(image"):
        Retriever.load(tmp_path / "index", checkpoint=other)


def test_weights_that_changed_since_they_were_read_are_not_saved(held, weights, tmp_path):
    own = Path(shutil.copy(weights, tmp_path / "own.pt"))
    retriever = Retriever.from_checkpoint(own, workers=0).index(held.path("a.png").parent)
    write_checkpoint(own, stage=2, seed=1)
    with pytest.raises(InputError, match=r"own.pt: changed or was removed since its network was read"):
        retriever.save(tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("file", ["vectors.faiss", "pictures.parquet", "weights.pt"])
def test_a_damaged_index_is_refused(held, tmp_path, file):
    held.save(tmp_path / "index")
    place = tmp_path / "index" / file
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(InputError, match=rf"{file}: (is damaged|contains other weights)"):
        Retriever.load(tmp_path / "index")
    place.unlink()
    with pytest.raises(InputError, match=rf"{file}: (is missing; remove the folder and make it again|no such file)"):
        Retriever.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "is an index of format 9, this version reads 1 and 2"),
        ({"target": "x"}, "index.json: target: "),
        ({"strange": 1}, "index.json: strange: "),
        ({"family": "blip"}, "is a stage-1 checkpoint of family 'clip', not 'blip'"),
    ],
)
def test_an_invalid_manifest_is_refused(held, tmp_path, change, message):
    held.save(tmp_path / "index")
    place = tmp_path / "index" / "index.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(InputError, match=message):
        Retriever.load(tmp_path / "index")


def test_weights_in_a_folder_that_is_no_index_are_not_replaced(held, tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    held.save(place)
    (place / "index.json").unlink()
    with pytest.raises(InputError, match=r"mine: contains .* and is no index \(no index.json there\); name a new"):
        held.save(place)
    assert (place / "pictures.parquet").is_file()


def test_what_is_no_index_is_neither_read_nor_replaced(held, folder, tmp_path):
    for place in (folder, tmp_path / "no"):
        with pytest.raises(InputError, match=r"is no index \(no index.json there\); make one with: spn4cir index"):
            Retriever.load(place)
    with pytest.raises(InputError, match=r"gallery: contains a.png, which is not part of an index; name a new"):
        held.save(folder)
    with pytest.raises(InputError, match=r"a.png: is a file; name a folder for the index"):
        held.save(folder / "a.png")
    assert listing(folder) == ["a.png", "b.png", "c.png", "in"]


def test_weights_that_are_in_the_index_are_not_dropped_with_it(held, tmp_path):
    held.save(tmp_path / "index")
    loaded = Retriever.load(tmp_path / "index")
    with pytest.raises(InputError, match="index: contains the weights in use; save with weights, or to another folder"):
        loaded.save(tmp_path / "index", weights=False)
    assert Retriever.load(tmp_path / "index").names == NAMES


def test_a_write_that_breaks_off_leaves_the_index_that_was_there(held, folder, tmp_path, monkeypatch):
    held.save(tmp_path / "index")
    draw(folder / "new.png", 50)
    held.refresh()

    def fails(*_args, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr("spn4cir.search.index_folder.write_json", fails)
    with pytest.raises(KeyboardInterrupt):
        held.save(tmp_path / "index")
    assert Retriever.load(tmp_path / "index").names == NAMES
    assert listing(tmp_path) == ["gallery", "index"]


def test_another_network_does_not_take_up_the_index(held, folder, tmp_path):
    held.save(tmp_path / "index")
    other = Retriever.from_checkpoint(write_checkpoint(tmp_path / "other.pt", seed=1))
    with pytest.raises(InputError, match=r"other.pt: encodes images with other weights than those of .*index"):
        other.resume(tmp_path / "index")


def test_an_index_keeps_the_words_of_a_tokenizer_that_no_package_ships(folder, tmp_path):
    """The folder that was named may go."""
    torch.save(blip.container(blip.published_state(1), 1), tmp_path / "blip.pt")
    tokenizer = tmp_path / "tokenizer"
    write_vocabulary(tokenizer)
    retriever = Retriever.from_checkpoint(tmp_path / "blip.pt", tokenizer=str(tokenizer), workers=0).index(folder)
    wanted = retriever.search("a.png", "is red")
    retriever.save(tmp_path / "index")
    shutil.rmtree(tokenizer)
    (tmp_path / "blip.pt").unlink()
    loaded = Retriever.load(tmp_path / "index", workers=0)
    assert loaded.search("a.png", "is red") == wanted
    loaded.save(tmp_path / "index")
    assert Retriever.load(tmp_path / "index", workers=0).search("a.png", "is red") == wanted


def test_images_that_an_addition_does_not_name_are_unchanged(held, folder, tmp_path):
    assert held.add(draw(tmp_path / "new.png", 50)).unchanged == 6
    assert held.add(folder / "a.png").unchanged == 7


def newer_text_side(place: Path) -> Path:
    """A stage 2 of the network of `weights`: the image side is equal, the text side is another one."""
    state, other = tiny_state(), tiny_state(seed=1)
    mixed = {name: tensor if name.startswith("visual.") else other[name] for name, tensor in state.items()}
    torch.save(container(mixed, stage=2), place)
    return place


def test_another_stage_2_of_the_same_image_side_searches_an_index(held, tmp_path):
    """The images are those of the index; the queries are those of the newer text side."""
    held.save(tmp_path / "index")
    newer = newer_text_side(tmp_path / "newer.pt")
    loaded = Retriever.load(tmp_path / "index", checkpoint=newer, workers=0)
    rebuilt = Retriever.from_checkpoint(newer, workers=0).index(held.path("a.png").parent)
    assert loaded.search("a.png", "is red", k=99) == rebuilt.search("a.png", "is red", k=99)
    assert scores_of(loaded.search("a.png", "is red")) != scores_of(held.search("a.png", "is red"))


def test_an_index_is_brought_up_to_date_with_a_newer_text_side(held, folder, tmp_path, encoded):
    """No image is encoded again, and the folder contains the newer weights after that."""
    held.save(tmp_path / "index")
    newer = Retriever.from_checkpoint(newer_text_side(tmp_path / "newer.pt"), workers=0).resume(tmp_path / "index")
    encoded.clear()
    assert newer.index(folder).changes.unchanged == 6
    assert encoded == []
    newer.save(tmp_path / "index")
    (tmp_path / "newer.pt").unlink()
    again = Retriever.load(tmp_path / "index", workers=0)
    assert again.search("a.png", "is red") == newer.search("a.png", "is red")


def test_an_index_without_a_hash_of_the_image_side_is_read(held, folder, tmp_path):
    """An earlier version wrote it: its own weights open it, and another stage 2 after it was written again."""
    held.save(tmp_path / "index")
    place = tmp_path / "index" / "index.json"
    earlier = {**json.loads(place.read_text()), "format": 1}
    del earlier["image_side"]
    place.write_text(json.dumps(earlier))
    newer = newer_text_side(tmp_path / "newer.pt")
    with pytest.raises(
        InputError, match=r"newer.pt: contains other weights .* earlier version .* with its own weights"
    ):
        Retriever.load(tmp_path / "index", checkpoint=newer)
    Retriever.load(tmp_path / "index", workers=0).save(tmp_path / "index")
    assert Retriever.load(tmp_path / "index", checkpoint=newer, workers=0).names == NAMES


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_file_searches_the_index_of_the_pretrained_network_that_it_is(tmp_path, folder, quick_gelu):
    """A published file has quick GELU: with GELU the network computes other features from equal tensors."""
    state = wide_state()
    name = f"local-dir:{write_base(tmp_path / 'base', state, quick_gelu)}"
    torch.save(container(state), tmp_path / "best.pt")
    Retriever.from_pretrained(name, workers=0).index(folder).save(tmp_path / "index")
    if quick_gelu:
        Retriever.load(tmp_path / "index", checkpoint=tmp_path / "best.pt")
        return
    with pytest.raises(InputError, match="encodes images with other weights"):
        Retriever.load(tmp_path / "index", checkpoint=tmp_path / "best.pt")


def test_an_index_that_is_replaced_while_it_is_read_is_read_again(held, folder, tmp_path, monkeypatch) -> None:
    """Its manifest is that of the old one, and its files are those of the new one, of another kind."""
    held.save(tmp_path / "i")
    read, kinds = index_folder.read_index, iter(["ivf"])

    def replaced(source, manifest):
        for kind in kinds:
            held.index(folder, kind=kind).save(tmp_path / "i")
        return read(source, manifest)

    monkeypatch.setattr(index_folder, "read_index", replaced)
    assert Retriever.load(tmp_path / "i").kind == "ivf"
    kinds = iter(["exact"])
    assert held.resume(tmp_path / "i").kind == "exact"
