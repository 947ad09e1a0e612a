"""Bad input: one clear line on stderr, a status that is not 0, no traceback, nothing left behind."""

import errno
import io
import json
import pickle
import re
import runpy
import shutil
import sys
from functools import reduce
from importlib import import_module
from operator import getitem
from pathlib import Path

import huggingface_hub
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from spn4cir.checkpoints.published import save_tensors
from spn4cir.cli import app
from spn4cir.config.load import load_params
from spn4cir.datasets import LAYOUTS as KNOWN
from spn4cir.errors import InputError
from stages.common import Job, run
from tests.helpers.checkpoints import container, tiny_state, write_checkpoint
from tests.helpers.layouts import change, write_cirr, write_fashioniq
from tests.helpers.published import FAMILIES, READS_WORDS, flags, write_published
from tests.helpers.words import WORDS, write_vocabulary

ROOT = Path(__file__).parents[2]
LAYOUTS = ("fashioniq", "cirr")
FILES = {
    "fashioniq": ["captions/cap.shirt.val.json", "image_splits/split.toptee.val.json", "images"],
    "cirr": ["cirr/captions/cap.rc2.val.json", "cirr/image_splits/split.rc2.val.json", "dev"],
}
CAPTIONS = {"fashioniq": "captions/cap.dress.val.json", "cirr": "cirr/captions/cap.rc2.val.json"}
TRAIN_CAPTIONS = {"fashioniq": "captions/cap.dress.train.json", "cirr": "cirr/captions/cap.rc2.train.json"}
TRAIN_IMAGE = {"fashioniq": "images/shirt-train-2.png", "cirr": "train/0/train-0-0-img2.png"}
IMAGE = {"fashioniq": "images/dress-val-2.png", "cirr": "dev/dev-1-0-img2.png"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage1.pt")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A folder of every family's tiny published files, `FAMILY-STAGE.pt`, and a vocabulary for them."""
    folder = tmp_path_factory.mktemp("published")
    for family in FAMILIES:
        for stage in (1, 2):
            write_published(folder / f"{family}-{stage}.pt", family, stage)
    return folder


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch) -> None:
    """An empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    """Both layouts, which no test changes."""
    folder = tmp_path_factory.mktemp("intact")
    write_fashioniq(folder / "fashioniq")
    write_cirr(folder / "cirr")
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """Both layouts, to spoil."""
    write_fashioniq(tmp_path / "data" / "fashioniq")
    write_cirr(tmp_path / "data" / "cirr")
    return tmp_path / "data"


def refused(*arguments, status: int = 1) -> str:
    """The one line with which a command refuses; nothing is left in the working folder."""
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if not re.search(r": \d+/\d+ |left out", line)]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert sorted(Path().rglob("*")) == before
    return lines[0].removeprefix("error: ")


def dedup(layout, root, *more):
    return "dedup", "--layout", layout, "--root", root, "--out", "o.json", "--workers", 0, *more


def validate(layout, root, weights, *more):
    arguments = "--layout", layout, "--root", root, "--checkpoint", weights, "--json", "m.json", "--workers", 0
    return "validate", *arguments, *more


def submit(root, weights, *more):
    return "submit", "--root", root, "--checkpoint", weights, "--name", "x", "--out", "sub", "--workers", 0, *more


def search(weights, gallery, image, *more):
    arguments = "--checkpoint", weights, "--gallery", gallery, "--image", image, "--text", "is red", "--workers", 0
    return "search", *arguments, *more


def inspect(weights, *more):
    return "inspect", weights, *more


def export(weights, *more):
    return "export", "--checkpoint", weights, "--out", "p.pt", *more


def network_calls(data, weights, *more) -> list[tuple]:
    """Every command that runs a network."""
    gallery = data / "cirr" / "dev"
    return [
        validate("cirr", data / "cirr", weights, *more),
        submit(data / "cirr", weights, *more),
        search(weights, gallery, gallery / "dev-0-0-img0.png", *more),
    ]


def test_a_missing_root(intact, weights):
    for call in (dedup("cirr", "no"), validate("cirr", "no", weights), submit("no", weights)):
        assert refused(*call) == "no: no such folder; give the root of a cirr data set"
    assert "no: no such folder" in refused("check-submission", "x.json", "--root", "no")
    assert "no: no such folder; give a folder of images" in refused(*search(weights, "no", "i.png"))


@pytest.mark.parametrize(("layout", "file"), [(layout, file) for layout in LAYOUTS for file in FILES[layout]])
def test_a_layout_without_one_of_its_files(data, weights, layout, file):
    place = data / layout / file
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    line = refused(*validate(layout, data / layout, weights))
    assert str(place) in line
    assert re.search("no such f|not on disk", line)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_other_layout(intact, weights, layout):
    other = LAYOUTS[1 - LAYOUTS.index(layout)]
    assert "no such file; check the path, or the root folder and the layout" in refused(*dedup(layout, intact / other))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe[]", b"null", b"7", b'["a"]', b'{"a": 1}'])
def test_a_captions_file_that_does_not_parse_or_is_of_another_form(data, layout, content):
    place = data / layout / TRAIN_CAPTIONS[layout]
    place.write_bytes(content)
    line = refused(*dedup(layout, data / layout))
    assert line.startswith(f"{place}: ")
    assert re.search("is not valid JSON|expected a JSON list of objects", line)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("content", ["", "{", "null", "[1]", '{"a": 1}'])
def test_a_split_file_that_does_not_parse_or_is_of_another_form(data, weights, layout, content):
    place = data / layout / FILES[layout][1]
    place.write_text(content)
    line = refused(*validate(layout, data / layout, weights))
    assert line.startswith(f"{place}: ")
    assert re.search("is not valid JSON|expected a JSON", line)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *(("fashioniq", name) for name in ("candidate", "target", "captions")),
        *(("cirr", name) for name in ("reference", "target_hard", "caption", "pairid", "img_set")),
    ],
)
@pytest.mark.parametrize("value", ["absent", None, 3.5, ""])
def test_a_triplet_without_a_field(data, layout, name, value):
    """Only an empty text is valid."""
    place = data / layout / TRAIN_CAPTIONS[layout]
    if name in ("caption", "captions") and value == "":
        value = []

    def edit(triplets):
        triplets[2].pop(name) if value == "absent" else triplets[2].update({name: value})

    change(place, edit)
    line = refused(*dedup(layout, data / layout))
    assert line.startswith(f"{place}: triplet 2")
    assert name in line


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_triplet_that_names_an_absent_image(data, layout):
    (data / layout / TRAIN_IMAGE[layout]).unlink()
    line = refused(*dedup(layout, data / layout))
    assert Path(TRAIN_IMAGE[layout]).stem in line
    assert "--missing skip (in params.yaml missing: skip)" in line


@pytest.mark.parametrize(("layout", "total"), [("fashioniq", 6), ("cirr", 12)])
def test_missing_skip_leaves_such_triplets_out_and_says_how_many(data, weights, layout, total):
    (data / layout / TRAIN_IMAGE[layout]).unlink()
    (data / layout / IMAGE[layout]).unlink()
    for call in (dedup(layout, data / layout), validate(layout, data / layout, weights)):
        result = CliRunner().invoke(app, [str(argument) for argument in (*call, "--missing", "skip")])
        assert result.exit_code == 0, result.output
        assert f"left out 2 of {total} triplets" in result.stderr
    counts = json.loads(Path("m.json").read_text())["counts"]
    assert sum(counts["left_out"].values()) == 2
    assert sum(counts["missing_images"].values()) == 1
    assert sum(counts["queries"].values()) == (16 if layout == "fashioniq" else 10)


def test_a_subset_without_its_target(data, weights):
    change(data / "cirr" / CAPTIONS["cirr"], lambda t: t[3]["img_set"]["members"].remove(t[3]["target_hard"]))
    assert "members of img_set lack" in refused(*validate("cirr", data / "cirr", weights))


def test_a_duplicate_pair_id_in_test1(data, weights):
    place = data / "cirr" / "cirr" / "captions" / "cap.rc2.test1.json"
    twice = change(place, lambda t: t[1].update(pairid=t[0]["pairid"])) and json.loads(place.read_text())[0]["pairid"]
    line = f"{place}: pair id {twice} occurs twice; give each query an id of its own"
    assert refused(*submit(data / "cirr", weights)) == line
    Path("x.json").write_text("{}")
    assert refused("check-submission", "x.json", "--root", data / "cirr") == line


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.update(version="rc1"), "version is 'rc1', expected 'rc2'"),
        (lambda s: s.update(metric="precision"), "metric is 'precision'"),
        (lambda s: s.pop("24"), "1 pair ids are missing, the first is 24"),
        (lambda s: s.update({"9": s["24"]}), "1 pair ids are not in test1, the first is 9"),
        (lambda s: s["24"].pop(), "49 names, expected 50"),
        (lambda s: s["24"].__setitem__(0, s["24"][1]), "a name occurs twice"),
        (lambda s: s["24"].__setitem__(0, "test1-0-0-img0"), "lists its own reference"),
        (lambda s: s["24"].__setitem__(0, "nobody"), "'nobody' is not a test1 image"),
        (lambda s: s.update({"24": "names"}), "24"),
    ],
)
def test_a_submission_with_a_fault(intact, weights, edit, message):
    CliRunner().invoke(app, [str(argument) for argument in submit(intact / "cirr", weights)], catch_exceptions=False)
    file = change(Path("sub/recall_submission_x.json"), lambda content: edit(content) and None)
    assert message in refused("check-submission", file, "--root", intact / "cirr")


@pytest.mark.parametrize("content", ["", "[]", '{"24": [], "24": []}'])
def test_a_submission_that_is_none(intact, content):
    Path("x.json").write_text(content)
    assert refused("check-submission", "x.json", "--root", intact / "cirr").startswith("x.json: ")
    assert "nowhere.json: no such file" in refused("check-submission", "nowhere.json", "--root", intact / "cirr")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_image(data, weights, layout, workers, damage):
    for place, call in (
        (data / layout / TRAIN_IMAGE[layout], dedup(layout, data / layout, "--workers", workers)),
        (data / layout / IMAGE[layout], validate(layout, data / layout, weights, "--workers", workers)),
    ):
        content = place.read_bytes()
        place.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"no image"}[damage])
        line = refused(*call)
        assert line.startswith(f"{place}: cannot be decoded")
        assert line.endswith("replace the file or remove it; spn4cir check-data lists all such files of a data set")


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "1", "CMYK", "I;16"])
def test_an_image_that_is_not_rgb_is_converted(data, weights, mode):
    place = data / "fashioniq" / TRAIN_IMAGE["fashioniq"]
    for name in (TRAIN_IMAGE["fashioniq"], IMAGE["fashioniq"]):
        place = data / "fashioniq" / name
        Image.open(place).convert(mode).save(place, format="TIFF" if mode == "CMYK" else "PNG")
    for call in (dedup("fashioniq", data / "fashioniq"), validate("fashioniq", data / "fashioniq", weights)):
        result = CliRunner().invoke(app, [str(argument) for argument in call])
        assert result.exit_code == 0, result.output


def test_a_query_image_that_is_absent_or_damaged(intact, weights):
    gallery = intact / "fashioniq" / "images"
    assert "no.png: no such image" in refused(*search(weights, gallery, "no.png"))
    Path("bad.png").write_text("no image")
    assert "bad.png: cannot be decoded" in refused(*search(weights, gallery, "bad.png", "--out", "sheet.png"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_gallery(data, weights, layout):
    place = data / layout / FILES[layout][1]
    place.write_text("[]" if layout == "fashioniq" else "{}")
    assert f"{place}: the gallery is empty" in refused(*validate(layout, data / layout, weights))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gallery_without_any_image_on_disk(data, weights, layout):
    for image in (data / layout).rglob("*.png"):
        image.unlink()
    line = refused(*validate(layout, data / layout, weights, "--missing", "skip"))
    assert "the gallery is empty; check the split file and the image folder" in line


def test_an_empty_folder_to_search(intact, weights):
    Path("empty").mkdir()
    assert "empty: the gallery is empty" in refused(*search(weights, "empty", "i.png"))


def test_a_test1_that_is_too_small_for_lists_of_fifty(tmp_path, weights):
    root = write_cirr(tmp_path / "small", test_groups=2)
    assert "names, expected 50" in refused(*submit(root, weights))


class _Code:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def _file(content) -> Path:
    torch.save(content, "c.pt")
    return Path("c.pt")


def _without(*names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tiny_state().items() if name not in names}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: container(_without("ln_final.bias", "logit_scale")), r"missing \['ln_final.bias', 'logit_scale'\]"),
        (lambda: container(tiny_state() | {"head.weight": torch.zeros(1)}), r"unexpected \['head.weight'\]"),
        (lambda: container(tiny_state() | {"head.weight": torch.zeros(1)}, 2), r"unexpected \['head.weight'\]"),
        (
            lambda: container(tiny_state() | {"ln_final.bias": torch.zeros(3)}),
            r"ln_final.bias \(3,\) instead of \(64,\)",
        ),
        (lambda: container(_without("ln_final.weight")), r"missing \['ln_final.weight'\]"),
        (lambda: {"epoch": 1, "BLIP_Retrieval": {"temp": torch.zeros(())}}, "missing|'blip', not 'clip'"),
        (lambda: {"epoch": 1, "state_dict": {"blip_model.temp": torch.zeros(())}}, "missing|'blip2', not"),
        (
            lambda: {"epoch": 1, "state_dict": {"backbone.masks.weight": torch.zeros(1)}},
            r"missing \['text_projection'|'tgcir', not 'clip'",
        ),
        (lambda: {"model": {"a": torch.zeros(1)}}, "is not a known checkpoint: contains model"),
        (lambda: [torch.zeros(1)], "is not a checkpoint: got a list"),
        (lambda: {"CLIP": {"a": "b"}}, "CLIP|clip"),
        (lambda: {"CLIP": _Code()}, "contains code or objects beside tensors"),
    ],
)
@pytest.mark.parametrize("family", [(), ("--family", "clip")])
def test_a_checkpoint_that_will_not_do(intact, content, message, family):
    place = _file(content()).absolute()
    for call in (validate("cirr", intact / "cirr", place, *family), inspect(place, *family), export(place, *family)):
        line = refused(*call)
        assert line.startswith(f"{place}: ")
        assert re.search(message, line)
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", ["absent", "folder", "empty", "text", "cut", "pickle"])
def test_a_file_that_is_no_checkpoint(intact, weights, kind):
    place = Path("c.pt")
    if kind == "folder":
        place.mkdir()
    elif kind == "pickle":
        place.write_bytes(pickle.dumps(_Code()))
    elif kind != "absent":
        whole = weights.read_bytes()
        place.write_bytes({"empty": b"", "text": b"no weights", "cut": whole[: len(whole) // 2]}[kind])
    for call in (validate("cirr", intact / "cirr", place), inspect(place), export(place)):
        line = refused(*call)
        assert line.startswith("c.pt: ")
        assert re.search("no such|is a folder|not a checkpoint|refused", line)
    assert not Path("ran").exists()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_another_family(intact, published, family, stage):
    """Every command says which it is, and of which stage; a recipe's files are those of its network."""
    place = published / f"{family}-{stage}.pt"
    others = [name for name in (*FAMILIES, "zs") if name != family and (family, name) != ("clip", "zs")]
    everywhere = "--family", others[stage]
    calls = [*network_calls(intact, place, *everywhere), inspect(place, *everywhere)]
    for call in (*calls, *(export(place, "--family", other) for other in others)):
        assert refused(*call) == (
            f"{place}: is a stage-{stage} checkpoint of family '{family}', not '{call[-1]}'; "
            "name the right file or family"
        )


@pytest.mark.parametrize("family", READS_WORDS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            None,
            r"tok: contains no vocabulary \(neither vocab.txt nor tokenizer.json in it\); name one with",
        ),
        (WORDS[:-3], r"-1.pt: has \d+ word embeddings, but the vocabulary of .*tok needs \d+ with .*\[DEC\]"),
        ((*WORDS, "beyond"), r"-1.pt: has \d+ word embeddings, but the vocabulary of .*tok needs \d+ with .*\[DEC\]"),
        (("a", "b"), r"tok: is not a BERT vocabulary: missing \['\[PAD\]', '\[UNK\]', '\[CLS\]', '\[SEP\]'\]"),
        ((*WORDS[:-1], WORDS[0]), r"tok: is not a BERT vocabulary: \d+ words, \d+ distinct"),
    ],
)
def test_a_tokenizer_that_will_not_do(intact, published, tmp_path, monkeypatch, family, words, message):
    """Said before any image is encoded."""
    folder = tmp_path / "tok"
    folder.mkdir() if words is None else write_vocabulary(folder, words)
    for encodes in ("evaluation.evaluate.encode_gallery", "search.indexer.encode_new"):
        monkeypatch.setattr(f"spn4cir.{encodes}", lambda *_, **__: pytest.fail("worked in vain"))
    for call in network_calls(intact, published / f"{family}-1.pt", "--tokenizer", folder):
        assert re.search(message, refused(*call))


@pytest.mark.parametrize("family", READS_WORDS)
def test_a_tokenizer_that_is_not_there(intact, published, tmp_path, monkeypatch, family):
    """A folder that is absent; and none named, none in the file, no network."""
    place = published / f"{family}-2.pt"
    for call in network_calls(intact, place, "--tokenizer", tmp_path / "no"):
        assert "no: contains no vocabulary (no such folder); name one with --tokenizer FOLDER" in refused(*call)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for call in network_calls(intact, place):
        line = refused(*call)
        assert line.startswith("tokenizer bert-base-uncased: cannot be downloaded: ")
        assert line.endswith("name one with --tokenizer FOLDER or models.<dataset>.tokenizer")


@pytest.mark.parametrize("family", ["clip", "tgcir"])
def test_a_tokenizer_for_a_family_that_has_its_own(intact, published, family):
    place = published / f"{family}-1.pt"
    for call in network_calls(intact, place, "--tokenizer", published, *flags(family, published)):
        assert refused(*call) == f"--tokenizer: family '{family}' has its own tokenizer; leave the option out"


@pytest.mark.parametrize("flag", ["--vision-head-width", "--text-head-width"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_width_that_does_not_divide(intact, published, family, flag):
    place = published / f"{family}-1.pt"
    for call in (*network_calls(intact, place, flag, 7), inspect(place, flag, 7), export(place, flag, 7)):
        line = refused(*call)
        assert line.startswith(f"{place}: the sizes of its tensors fit no ") or "backbone.clip.*" in line
        assert re.search(r"\(width \d+ is not a multiple of the head width 7; name another with --vision-head", line)
    for call in (validate("cirr", intact / "cirr", place, flag, 0), inspect(place, flag, "wide")):
        assert CliRunner().invoke(app, [str(argument) for argument in call]).exit_code == 2


def test_head_widths_other_than_the_published_ones_have_to_be_named(intact, published):
    """As far as a file can tell: a text width of 96 holds no heads of 64."""
    assert "width 96 is not a multiple of the head width 64" in refused(*inspect(published / "tgcir-1.pt"))


@pytest.mark.parametrize("family", ["blip", "zs"])
def test_a_family_and_data_set_without_settings(intact, published, family):
    text = (ROOT / "params.yaml").read_text()
    head, section = text.split("\nvalidate:")
    Path("params.yaml").write_text(f"{head}\nvalidate:{re.sub(rf', {family}: {{}}', '', section)}")
    place = published / f"{'clip' if family == 'zs' else family}-1.pt"
    named = ["--family", family, *([] if family == "zs" else flags(family, published))]
    for call in network_calls(intact, place, *named)[:2]:
        line = refused(*call)
        assert re.match(rf"params.yaml: validate\.cirr\.{family} is not set \(families there: clip, .*\); check", line)
    line = refused(*network_calls(intact, place, *named)[0], "--dataset", "nobody")
    assert re.match(r"params.yaml: datasets\.nobody is not set \(data sets there: .*\); check the name", line)


def test_an_export_that_cannot_be_written(intact, published):
    place = published / "clip-1.pt"
    Path("folder").mkdir()
    Path("copy.pt").write_bytes(place.read_bytes())
    out = export(place)[:-1]
    assert refused(*out, "folder") == "folder: is a folder; give the name of a file to write"
    assert "copy.pt/p.pt: " in refused(*out, "copy.pt/p.pt")
    itself = refused("export", "--checkpoint", "copy.pt", "--out", "copy.pt")
    assert itself == "copy.pt: is read by the same command; give the name of another file to write"
    assert "folder: is a folder" in refused(*inspect(place, "--json", "folder"))


def test_a_full_disk(intact, weights, monkeypatch):
    def full(*_args, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    def open_to_read(path, mode="r", **options):
        return full() if "w" in mode else real(path, mode, **options)

    real = Path.open
    monkeypatch.setattr(Path, "open", open_to_read)
    for call in (dedup("cirr", intact / "cirr"), validate("cirr", intact / "cirr", weights)):
        assert re.match(r"[om]\.json: the disk is full \(\d+ MB free\); nothing was kept of this file", refused(*call))
    monkeypatch.setattr(Image.Image, "save", full)
    gallery = intact / "fashioniq" / "images"
    line = CliRunner().invoke(
        app, [str(a) for a in search(weights, gallery, gallery / "dress-val-0.png", "--out", "sheet.png")]
    )
    assert line.exit_code == 1
    assert "error: sheet.png: the disk is full" in line.stderr
    assert not list(Path().iterdir())


def test_a_disk_that_fills_amid_the_weights(tmp_path, monkeypatch):
    """Torch then writes the end of its archive all the same, and complains of that."""

    class Filling(io.BytesIO):
        def write(self, block) -> int:
            if self.tell() > 4000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    monkeypatch.setattr(Path, "open", lambda *_args, **_named: Filling())
    with pytest.raises(InputError, match=r"a\.pt: the disk is full"):
        save_tensors({str(number): torch.rand(1000) for number in range(9)}, tmp_path / "a.pt")


@pytest.fixture
def project(intact, tmp_path, monkeypatch) -> Path:
    """The working folder of the stages, with the data of demo_cirr and demo_fiq."""
    root = tmp_path / "project"
    (root / "data" / "raw").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    (root / "data" / "raw" / "demo_cirr").symlink_to(intact / "cirr")
    (root / "data" / "raw" / "demo_fiq").symlink_to(intact / "fashioniq")
    monkeypatch.chdir(root)
    return root


def stage(monkeypatch, capsys, *arguments: str, status: int = 1) -> str:
    """The last line of a stage that ends with that status."""
    monkeypatch.setattr(sys, "argv", [f"stages.{arguments[0]}", *arguments[1:]])
    before = sorted(file for file in Path().rglob("*") if file.is_file())
    names = ("DATASET",) if (arguments[0],) in STAGES else ("DATASET", "FAMILY")
    with pytest.raises(SystemExit) as ended:
        run(import_module(f"stages.{arguments[0]}").main, names)
    assert ended.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert sorted(file for file in Path().rglob("*") if file.is_file()) == before
    return line


OF_PAIR = ("triplets", "checkpoint", "bank", "gallery", "filter", "train", "validate", "submit_gallery", "submit")
STAGES = [("dedup",), ("caption",), ("match",), *((name, "clip") for name in OF_PAIR)]


@pytest.mark.parametrize("name", STAGES, ids=lambda name: name[0])
def test_a_stage_of_an_unknown_data_set(project, monkeypatch, capsys, name):
    line = stage(monkeypatch, capsys, name[0], "nobody", *name[1:])
    assert re.match(
        r"error: params.yaml: \w+\.nobody is not set \(data sets there: .*\); check the name, or add it", line
    )


@pytest.mark.parametrize("name", OF_PAIR)
def test_a_stage_of_an_unknown_family(project, monkeypatch, capsys, name):
    line = stage(monkeypatch, capsys, name, "demo_cirr", "gpt")
    found = re.match(r"error: params.yaml: (\S+)\.gpt is not set \(families there: clip, .*\)", line)
    assert found
    settings = YAML(typ="safe").load((project / "params.yaml").read_text())
    assert "clip" in reduce(getitem, found[1].split("."), settings)


@pytest.mark.parametrize("name", STAGES, ids=lambda name: name[0])
def test_a_stage_without_what_it_reads(project, monkeypatch, capsys, name):
    if name == ("dedup",):
        (project / "data" / "raw" / "demo_cirr").unlink()
    params = project / "params.yaml"  # the filter reads nothing if it is off
    params.write_text(params.read_text().replace("all: {target_within: null", "all: {target_within: 5"))
    line = stage(monkeypatch, capsys, name[0], "demo_cirr", *name[1:])
    assert re.match(r"error: data/\S+: (n|N)o such (file|folder|checkpoint|model file)", line)


def test_a_stage_without_its_arguments(project, monkeypatch, capsys):
    assert stage(monkeypatch, capsys, "dedup", status=2) == "usage: python -m stages.dedup DATASET"


@pytest.mark.parametrize("name", STAGES, ids=lambda name: name[0])
def test_a_stage_with_a_family_too_many_or_too_few(project, monkeypatch, capsys, name):
    """A stage for all families given one would write where nothing reads it. Each script says which it is."""
    wrong = ["fiq", "clip"] if len(name) == 1 else ["fiq"]
    monkeypatch.setattr(sys, "argv", [f"stages.{name[0]}", *wrong])
    monkeypatch.delitem(sys.modules, f"stages.{name[0]}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"stages.{name[0]}", run_name="__main__", alter_sys=True)
    usage = "DATASET" if len(name) == 1 else "DATASET FAMILY"
    assert (ended.value.code, capsys.readouterr().err) == (2, f"usage: python -m stages.{name[0]} {usage}\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 42", "sed: 42", "sed: unknown key; check its spelling"),
        ("seed: 42", "", "seed: is missing; add it"),
        ("seed: 42", "seed: many", "seed: .*valid integer.* \\(got 'many'\\)"),
        ("batch_size: 256}\n  demo_cirr", "batchsize: 256}\n  demo_cirr", "match.demo_fiq.batchsize: unknown key"),
        ("clip: {tau: 0.02", "clip: {tau: -1", "train.demo_fiq.clip.tau: .*greater than 0 \\(got -1\\)"),
        ("[400, 800]", "[800, 400]", "window.clip is \\[lo, hi\\) with 1 <= lo < hi, got \\[800, 400\\]"),
        ("in {words} words", "in {word} words", "prompt lacks the field {words}"),
        (
            "layout: cirr, missing: error",
            "layout: cirr, missing: maybe",
            "missing: .*'error' or 'skip' \\(got 'maybe'\\)",
        ),
        ("seed: 42", "seed: [42", "line \\d+ is not valid YAML"),
        ("seed: 42", "seed: 42\nseed: 43", "is not valid YAML"),
    ],
)
def test_params_with_a_fault(project, monkeypatch, capsys, old, new, message):
    file = project / "params.yaml"
    file.write_text(file.read_text().replace(old, new))
    line = stage(monkeypatch, capsys, "dedup", "demo_cirr")
    assert re.match(f"error: params.yaml: ?.*{message}", line)
    assert re.search(message, refused("dedup", "--layout", "cirr", "--root", "data/raw/demo_cirr", "--out", "o.json"))


def test_a_layout_that_is_not_known(project, monkeypatch, capsys):
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("demo_cirr: {layout: cirr", "demo_cirr: {layout: coco"))
    line = stage(monkeypatch, capsys, "dedup", "demo_cirr")
    assert line == f"error: layout 'coco' is not known; choose one of: {', '.join(KNOWN)}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "submit: [demo_cirr]",
            "submit: [demo_cirr, demo_fiq]",
            r"params.yaml: run.submit: 'demo_fiq' has layout fashioniq, which has no test server; remove it "
            r"\(layouts with a server: .*cirr.*\)",
        ),
        ("benchmarks: []", "benchmarks: [{name: circo, weights: demo_cirr}]", "layout 'coco' is not known; choose"),
    ],
)
def test_layouts_that_the_last_stages_would_stop_at(project, monkeypatch, capsys, old, new, message):
    """The first stage reports it, before hours of training."""
    file = project / "params.yaml"
    text = file.read_text().replace("  circo: {layout: circo", "  circo: {layout: coco")
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert re.match(f"error: {message}", stage(monkeypatch, capsys, "dedup", "demo_cirr"))


def test_a_stage_of_a_layout_without_a_test_server(project, monkeypatch, capsys, weights):
    (project / "data" / "train" / "demo_fiq" / "clip").mkdir(parents=True)
    shutil.copy(weights, project / "data" / "train" / "demo_fiq" / "clip" / "best.pt")
    line = stage(monkeypatch, capsys, "submit", "demo_fiq", "clip")
    assert "layout fashioniq has no submission files" in line


def test_a_stage_does_not_write_a_submission_that_lacks_queries(project, monkeypatch, capsys, intact, weights):
    root = project / "data" / "raw" / "demo_cirr"
    root.unlink()
    shutil.copytree(intact / "cirr", root)
    (root / "test1" / "test1-0-0-img2.png").unlink()
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("missing: error", "missing: skip"))
    (project / "data" / "train" / "demo_cirr" / "clip").mkdir(parents=True)
    shutil.copy(weights, project / "data" / "train" / "demo_cirr" / "clip" / "best.pt")
    job = Job(load_params(), "demo_cirr", "clip")
    for made in (job.stage1_file, job.code_file("submit_gallery")):
        made.parent.mkdir(parents=True)
    shutil.copy(weights, job.stage1_file)
    job.code_file("submit_gallery").touch()
    monkeypatch.setattr(sys, "argv", ["stages.submit_gallery", "demo_cirr", "clip"])
    run(import_module("stages.submit_gallery").main)
    monkeypatch.setattr(sys, "argv", ["stages.submit", "demo_cirr", "clip"])
    with pytest.raises(SystemExit):
        run(import_module("stages.submit").main)
    assert "not written: 1 pair ids are missing" in capsys.readouterr().err
    assert not list((project / "data").rglob("*submission*"))


def test_a_rank_window_beyond_the_images(project, monkeypatch, capsys):
    encoder = project / "data" / "models" / "demo_cirr" / "encoder" / "unicom.pt"
    encoder.parent.mkdir(parents=True)
    encoder.touch()
    for name in ("dedup", "match"):
        code = Job(load_params(), "demo_cirr").code_file(name)
        code.parent.mkdir(parents=True)
        code.touch()
    monkeypatch.setattr(sys, "argv", ["stages.dedup", "demo_cirr"])
    run(import_module("stages.dedup").main, ("DATASET",))
    monkeypatch.setattr("stages.match.load_unicom", lambda _: None)
    capsys.readouterr()
    line = stage(monkeypatch, capsys, "match", "demo_cirr")
    assert "match: window [400, 800] begins beyond the 12 images (ranks 1 to 11); set match" in line
    assert "to shares of the images, as in [0.4, 0.8], to lower ranks, or to null" in line


@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        (FileNotFoundError(2, "No such file", "x.pt"), 1, "error: x.pt: No such file; check the path and the disk"),
        (OSError(errno.EIO, "Input/output error"), 1, "error: input or output: Input/output error; check the path"),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            1,
            "error: a process that decodes images or trains, or a server, has ended (Connection reset by peer); free ",
        ),
        (KeyboardInterrupt(), 130, "interrupted; run it again to continue"),
    ],
)
def test_a_fault_of_the_disk_or_ctrl_c_ends_a_stage_without_a_traceback(
    project, monkeypatch, capsys, fault, status, line
):
    def fails(_):
        raise fault

    monkeypatch.setattr(sys, "argv", ["stages.dedup", "demo_cirr"])
    with pytest.raises(SystemExit) as ended:
        run(fails, ("DATASET",))
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(line)
