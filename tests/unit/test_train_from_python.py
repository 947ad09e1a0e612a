"""Training from Python: what the stages run, on a list of triplets."""

import json
import math
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spn4cir import Retriever, train
from spn4cir.cli import app
from spn4cir.composers.encoding import tensors_hash
from spn4cir.errors import InputError
from tests.helpers.blocks import blocks
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw

NAMES = (*(f"{number}.png" for number in range(6)), "in/7.png", "in/8.png")
TRIPLETS = [(NAMES[i], NAMES[i + 1], f"is number {i + 1}") for i in range(7)]
QUERIES = [(NAMES[3], NAMES[0], "is number 0"), (NAMES[7], NAMES[2], "is number 2")]
FAST = {"epochs": (2, 2), "lr": (1e-3, 1e-3), "device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base") / "stage1.pt")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(NAMES):
        draw(folder / name, number)
    return folder


@pytest.fixture(scope="module")
def trained(base, images, tmp_path_factory) -> tuple[Retriever, Path]:
    """A retriever that was trained with validation, and its folder."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(TRIPLETS, images, base, out=out, val=QUERIES, **FAST), out


def record(out: Path) -> dict:
    return json.loads((out / "training.json").read_text())


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answers(retriever: Retriever, images: Path) -> list[tuple[str, float]]:
    return [(hit.name, hit.score) for hit in retriever.index(images).search(NAMES[0], "is number 1", k=5)]


def test_both_stages_are_trained_and_their_files_written(trained):
    retriever, out = trained
    assert listing(out) == ["best.pt", "last.pt", "stage1.pt", "training.json"]
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    assert retriever.family == "clip"
    assert Path(retriever.weights.source) == out / "best.pt"
    before, after = (Retriever.from_checkpoint(out / name, workers=0).composer for name in ("stage1.pt", "best.pt"))
    frozen = [tensors_hash(network.frozen_tensors()) for network in (before, after)]
    assert frozen[0] == frozen[1], "stage 2 trains the text side alone"
    assert tensors_hash(before.state_dict().items()) != tensors_hash(after.state_dict().items())


def test_the_first_loss_of_each_stage_is_that_of_its_negatives(base, images, tmp_path):
    """At a high temperature all candidates score alike: log of the batch in stage 1, of all images in stage 2."""
    train(TRIPLETS, images, base, out=tmp_path / "run", **FAST | {"epochs": (1, 1), "tau": (1e4, 1e4)})
    history = record(tmp_path / "run")["history"]
    assert history["stage1"]["steps"][0]["loss"] == pytest.approx(math.log(len(TRIPLETS)), abs=1e-3)
    assert history["stage2"]["steps"][0]["loss"] == pytest.approx(math.log(len(NAMES)), abs=1e-3)


def test_equal_images_are_one_row_of_the_bank(base, images, tmp_path, capsys):
    folder = shutil.copytree(images, tmp_path / "images")
    shutil.copy(folder / NAMES[0], folder / "copy.png")
    triplets = [*TRIPLETS, ("copy.png", NAMES[2], "is number 2")]
    train(triplets, folder, base, out=tmp_path / "run", **FAST | {"epochs": (0, 1)})
    assert f"bank: {len(NAMES)} images" in capsys.readouterr().out


def test_the_checkpoint_and_the_saved_index_answer_as_the_retriever_does(trained, images, tmp_path):
    retriever, out = trained
    expected = answers(retriever, images)
    assert answers(Retriever.from_checkpoint(out / "best.pt", device="cpu", workers=0), images) == expected
    retriever.save(tmp_path / "catalogue")
    loaded = Retriever.load(tmp_path / "catalogue", device="cpu", workers=0)
    assert [(hit.name, hit.score) for hit in loaded.search(NAMES[0], "is number 1", k=5)] == expected


def test_the_record_has_the_published_settings_but_for_the_given_ones(trained):
    found = record(trained[1])
    assert found["triplets"] == {"train": 7, "val": 2}
    assert [found[stage]["tau"] for stage in ("stage1", "stage2")] == [0.01, 0.02]
    assert [found[stage]["batch_size"] for stage in ("stage1", "stage2")] == [7, 7]
    assert [found[stage]["epochs"] for stage in ("stage1", "stage2")] == [2, 2]
    assert found["stage2"]["negatives"] == "bank"


def test_validation_chooses_the_best_epoch(trained):
    for history in record(trained[1])["history"].values():
        scores = [epoch["score"] for epoch in history["epochs"]]
        assert history["best_epoch"] == 1 + scores.index(max(scores))


def test_without_validation_the_last_epoch_is_taken_and_said(base, images, tmp_path, capsys):
    train(TRIPLETS, images, base, out=tmp_path / "run", **FAST)
    assert "no validation triplets (val): the last epoch is taken" in capsys.readouterr().out
    best, last = (torch.load(tmp_path / "run" / name, weights_only=True) for name in ("best.pt", "last.pt"))
    assert best["epoch"] == last["epoch"] == 2
    assert tensors_hash(best["state_dict"].items()) == tensors_hash(last["state_dict"].items())
    for history in record(tmp_path / "run")["history"].values():
        assert history["best_epoch"] == 2
        assert not any("score" in epoch for epoch in history["epochs"])


def test_records_of_a_table_train_as_tuples_do(trained, base, images, tmp_path):
    """With the split in the record, and pandas' empty cells."""
    rows = [(triplet, "train") for triplet in TRIPLETS] + [(query, "val") for query in QUERIES]
    records = [
        {"reference": Path(own[0]), "target": own[1], "text": own[2], "split": split, "group": math.nan, "id": 3}
        for own, split in rows
    ]
    train(records, images, base, out=tmp_path / "run", **FAST)
    assert record(tmp_path / "run")["history"] == {
        stage: own | {"speed": record(tmp_path / "run")["history"][stage]["speed"]}
        for stage, own in record(trained[1])["history"].items()
    }


def test_a_stage_with_no_epochs_is_left_out(base, images, tmp_path):
    first = train(TRIPLETS, images, base, out=tmp_path / "first", **FAST | {"epochs": (1, 0)})
    assert listing(tmp_path / "first") == ["stage1.pt", "training.json"]
    assert Path(first.weights.source).name == "stage1.pt"
    train(TRIPLETS, images, tmp_path / "first" / "stage1.pt", out=tmp_path / "second", **FAST | {"epochs": (0, 1)})
    assert listing(tmp_path / "second") == ["best.pt", "last.pt", "training.json"]


def test_a_pretrained_network_is_trained_by_its_name(clip_folder, images, tmp_path):
    base = f"local-dir:{clip_folder}"
    retriever = train(TRIPLETS, images, base, out=tmp_path / "run", **FAST | {"epochs": (1, 1)})
    assert len(answers(retriever, images)) == 5
    assert record(tmp_path / "run")["base"] == base


def test_the_folder_is_written_again_but_others_are_refused(base, images, tmp_path):
    for _ in range(2):
        train(TRIPLETS, images, base, out=tmp_path / "run", **FAST | {"epochs": (1, 0)})
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"contains notes.txt"):
        train(TRIPLETS, images, base, out=tmp_path / "run", **FAST)
    assert (tmp_path / "run" / "notes.txt").exists()


def test_a_failed_training_writes_nothing(base, images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "images")
    (folder / NAMES[1]).write_bytes(b"no image")
    with pytest.raises(InputError, match=NAMES[1]):
        train(TRIPLETS, folder, base, out=tmp_path / "run", **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"triplets": []}, r"triplets: 0 for training, expected at least 2"),
        ({"triplets": TRIPLETS[:1]}, r"triplets: 1 for training, expected at least 2"),
        ({"triplets": "annotations.csv"}, r"triplets is 'annotations.csv'; give a list"),
        ({"triplets": None}, r"triplets is None; give a list"),
        ({"triplets": [*TRIPLETS, ("0.png", "1.png")]}, r"triplets\[7\] is \('0.png', '1.png'\); give a triplet as"),
        ({"triplets": ["reference", "target"]}, r"triplets\[0\] is 'reference'; give a triplet as"),
        ({"triplets": [{"reference": "0.png", "target": "1.png"}]}, r"triplets\[0\] is \{.*; give a triplet as"),
        ({"triplets": [*TRIPLETS, ("0.png", "1.png", None)]}, r"triplets\[7\]: text is None"),
        ({"triplets": [*TRIPLETS, (None, "1.png", "is 1")]}, r"triplets\[7\]: reference is None"),
        ({"triplets": [("0.png", "x.png", "is x"), *TRIPLETS]}, r"triplets\[0\]: target 'x.png' is none of the 8 im"),
        ({"val": [("x.png", "0.png", "is 0")]}, r"val\[0\]: reference 'x.png' is none of the 8 images"),
        ({"val": [("0.png", "0.png", "is 0")]}, r"val\[0\]: the target is the reference '0.png'"),
        ({"val": [dict(zip(("reference", "target", "text", "split"), (*QUERIES[0], "train"), strict=True))]}, "val"),
        (
            {"triplets": [{**dict(zip(("reference", "target", "text"), TRIPLETS[0], strict=True)), "split": "test"}]},
            "test",
        ),
        ({"images": "nowhere"}, r"nowhere: no such folder"),
        ({"base": "nowhere.pt"}, r"nowhere.pt: no such checkpoint"),
        ({"epochs": 3}, r"epochs is 3; give two values"),
        ({"epochs": (0, 0)}, r"epochs is 0 for both stages"),
        ({"epochs": (-1, 1)}, r"stage 1: epochs: input should be greater than 0"),
        ({"lr": (1e-4, 0)}, r"stage 2: lr: input should be greater than 0"),
        ({"batch_size": (8, 7)}, r"batch_size 8 exceeds the 7 training triplets"),
        ({"chunk": (None, 0)}, r"stage 2: chunk: input should be greater than 0"),
        ({"device": "abacus"}, r"'abacus' is not a device"),
        ({"workers": -1}, r"workers is -1; give 0 or more, or None"),
        ({"seed": "a"}, r"seed is 'a'; give a whole number"),
    ],
)
def test_bad_input_is_one_line(base, images, tmp_path, changes, message):
    given = {"triplets": TRIPLETS, "images": images, "base": base, "out": tmp_path / "run", **FAST} | changes
    with pytest.raises(InputError, match=message) as raised:
        train(**given)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_2_checkpoint_is_no_base(images, tmp_path):
    base = write_checkpoint(tmp_path / "best.pt", stage=2)
    with pytest.raises(InputError, match="is a stage-2 checkpoint, expected stage 1"):
        train(TRIPLETS, images, base, out=tmp_path / "run", **FAST)


def test_the_page_runs_as_written_on_another_base(images, clip_folder, tmp_path, monkeypatch):
    """Its base network needs the hub, and its epochs take minutes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, "images")
    header = "reference,target,text"
    for name, triplets in (("triplets.csv", TRIPLETS), ("test.csv", QUERIES)):
        Path(name).write_text("\n".join([header, *map(",".join, triplets)]) + "\n")
    page = [block for block in blocks() if block.page == "python.md"]
    for block in page:
        if block.language == "python":
            text = block.text.replace("open_clip:ViT-B-32/openai", f"local-dir:{clip_folder}").replace(
                "(10, 3)", "(1, 1)"
            )
            exec(compile(text, str(block), "exec"), {})
        for command in block.commands() if block.language == "bash" else ():
            done = CliRunner().invoke(app, shlex.split(command)[1:])
            assert done.exit_code == 0, f"{command}\n{done.output}"
    assert {block.language for block in page} == {"python", "bash"}
    assert Path("catalogue/index.json").is_file()
