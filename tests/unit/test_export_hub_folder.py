"""The hub folder: its content, who reads it, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, PathDistribution, packages_distributions, requires
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from spn4cir import Retriever
from spn4cir.checkpoints.hub_folder import CARD, CONFIG, FILES, WEIGHTS, WORDS, weights_file
from spn4cir.cli import app
from spn4cir.files import file_hash
from tests.helpers import hub_server
from tests.helpers.checkpoints import tiny_state, write_checkpoint
from tests.helpers.layouts import draw, write_cirr
from tests.helpers.published import flags, write_published

ROOT = Path(__file__).parents[2]
QUERY = ["--image", "gallery/1.png", "--text", "is red", "--workers", "0"]


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def export(*arguments: object, out: str = "model", status: int = 0) -> Result:
    return call("export", "--to", "hub-folder", "--out", out, *arguments, status=status)


@pytest.fixture(autouse=True)
def gallery(tmp_path, monkeypatch) -> Path:
    for number in range(4):
        draw(tmp_path / "gallery" / f"{number}.png", number)
    monkeypatch.chdir(tmp_path)
    return Path("gallery")


@pytest.fixture
def weights(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "best.pt", stage=2)


@pytest.fixture
def folder(weights) -> Path:
    export("--checkpoint", weights)
    return Path("model")


def test_the_content_of_the_folder(weights):
    """The published names without their prefix, settings, and a card; no pickle."""
    said = export("--checkpoint", weights, "--family", "zs").stdout.splitlines()
    assert said == [
        "the model card states an unknown licence; set it with --licence ID",
        "model: written, family zs, stage 2",
    ]
    assert {path.name for path in Path("model").iterdir()} == set(FILES) - {WORDS}
    state, given = load_file("model/model.safetensors"), tiny_state()
    assert state.keys() == given.keys()
    assert all(torch.equal(state[name], given[name]) for name in given)
    config = json.loads(Path("model/config.json").read_text())
    assert (config["family"], config["recipe"], config["stage"], config["epoch"]) == ("clip", "zs", 2, 3)
    assert config["sizes"]["embedding"] == [32]
    assert config["preprocess"]["size"] == config["sizes"]["image_size"] == 32
    assert config["protocol"] is None


def test_every_file_has_the_mode_of_the_umask(folder):
    """The library of the weights writes a private file."""
    expected = folder / "expected"
    expected.touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {expected.stat().st_mode}


def test_a_full_disk_is_one_line_and_leaves_nothing(weights, monkeypatch):
    """The error of safetensors is not one of the system's."""

    def fail(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("spn4cir.checkpoints.export_hub_folder.save_file", fail)
    assert "model: the disk is full" in export("--checkpoint", weights, status=1).output
    assert not Path("model").exists()


def test_the_card_tells_scores_protocol_counts_data_and_licence(weights, tmp_path):
    write_cirr(tmp_path / "cirr")
    call("validate", "--layout", "cirr", "--root", "cirr", "--checkpoint", weights, "--json", "m.json", "--workers", 0)
    facts = ["--metrics", "m.json", "--scored-on", "CIRR", "--data", "FashionIQ", "--data", "my own images"]
    export("--checkpoint", weights, *facts, "--name", "my model", "--licence", "cc-by-4.0")
    metrics, card = json.loads(Path("m.json").read_text()), ModelCard.load("model/README.md")
    assert (card.data.license, card.data.datasets) == ("cc-by-4.0", ["FashionIQ"])
    assert (card.data.library_name, card.data.model_name) == ("spn4cir", "my model")
    results = {each.metric_type: each for each in card.data.eval_results}
    assert {key: each.metric_value for key, each in results.items()} == {
        key: pytest.approx(value, abs=1e-4) for key, value in metrics.items() if isinstance(value, float)
    }
    arguments = results["recall_at5"].dataset_args
    assert arguments["reference"] == "removed from the ranking"
    assert arguments["queries"] == metrics["protocol"]["queries"]
    assert arguments["query_count"] == metrics["counts"]["queries"]["val"]
    assert f"| recall_at5 | {metrics['recall_at5']:.2f} |" in card.text
    assert "Trained on: FashionIQ, my own images." in card.text
    assert json.loads(Path("model/config.json").read_text())["protocol"] == metrics["protocol"]


def test_scores_of_other_weights_are_refused(weights, tmp_path):
    write_cirr(tmp_path / "cirr")
    call("validate", "--layout", "cirr", "--root", "cirr", "--checkpoint", weights, "--json", "m.json", "--workers", 0)
    other = write_checkpoint(tmp_path / "other.pt", seed=5)
    facts = ["--metrics", "m.json", "--scored-on", "CIRR"]
    said = export("--checkpoint", other, *facts, status=1).stderr
    assert f"m.json: contains scores of other weights than {other}; score these with `validate`" in said
    assert not Path("model").exists()
    export("--checkpoint", weights, *facts)


def test_what_has_no_name_is_refused(weights):
    Path("m.json").write_text(json.dumps({"recall_at1": 2.0, "protocol": {"family": "clip"}, "counts": {}}))
    said = export("--checkpoint", weights, "--metrics", "m.json", "--scored-on", " ", status=1).stderr
    assert "m.json: does not contain its data set; name it with --scored-on NAME" in said
    assert "--data '': name what" in export("--checkpoint", weights, "--data", "", status=1).stderr


def test_each_stage_takes_its_own_scores(tmp_path):
    """A metrics file of the pipeline contains the scores of stage 2, and those of stage 1 under `stage1`."""
    content = {"recall_at1": 2.0, "stage1": {"recall_at1": 1.0}, "protocol": {"family": "clip"}, "counts": {}}
    Path("m.json").write_text(json.dumps(content))
    for stage in (1, 2):
        file = write_checkpoint(tmp_path / f"{stage}.pt", stage)
        export("--checkpoint", file, "--metrics", "m.json", "--scored-on", "x", out=f"model{stage}")
        (result,) = ModelCard.load(f"model{stage}/README.md").data.eval_results
        assert result.metric_value == stage


def test_no_licence_is_invented(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "unknown"
    assert card.data.datasets is None
    assert "The licence of these weights is not known." in card.text
    assert "The export does not name the training data" in card.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"recall_at1": 1.0}, "m.json: is not a metrics file (protocol: field required); name one of `validate`"),
        ([1.0], "m.json: is not a metrics file (input should be a valid dictionary"),
        ({"protocol": {"family": "clip"}, "counts": {"queries": 3}}, "(counts.queries: input should be a valid dict"),
        ({"protocol": {"family": "clip"}, "counts": {"queries": {"val": "x"}}}, "(counts.queries.val: input should be"),
        ({"protocol": {"family": "clip"}, "counts": {}, "stage1": 5}, "(stage1: input should be a valid dictionary)"),
        ({"protocol": {"family": "clip"}, "counts": {}}, "m.json: contains no scores, or some that are not finite"),
        ({"a": float("nan"), "protocol": {"family": "clip"}, "counts": {}}, "m.json: contains no scores, or some that"),
        ({"protocol": {"family": "blip"}, "counts": {}}, "m.json: contains scores of 'blip', the network is 'clip'"),
    ],
)
def test_metrics_that_are_not_of_this_network_are_refused(weights, content, said):
    Path("m.json").write_text(json.dumps(content))
    result = export("--checkpoint", weights, "--metrics", "m.json", "--scored-on", "CIRR", status=1)
    assert said in result.stderr
    assert not Path("model").exists()
    assert "--scored-on" in export("--checkpoint", weights, "--metrics", "m.json", status=1).stderr


@pytest.mark.parametrize(
    ("queries", "key", "split", "count"),
    [
        ({"val": 3, "test": 5}, "recall_at1", "validation", 3),
        ({"val": 3, "test": 5}, "test_recall_at1", "test", 5),
        ({"test": 5}, "test_average_recall", "test", 5),
        ({"dress": 1, "shirt": 2}, "shirt_recall_at10", "validation", 2),
        ({"dress": 1, "shirt": 2}, "average_recall", "validation", 3),
    ],
)
def test_a_score_has_its_own_queries(weights, queries, key, split, count):
    content = {key: 1.0, "protocol": {"family": "clip", "captions": "{a} | {b}"}, "counts": {"queries": queries}}
    Path("m.json").write_text(json.dumps(content))
    export("--checkpoint", weights, "--metrics", "m.json", "--scored-on", "\u6570\u636e")
    card = ModelCard.load("model/README.md")
    (result,) = card.data.eval_results
    assert (result.dataset_split, result.dataset_args["query_count"]) == (split, count)
    assert (result.dataset_type, result.dataset_name) == ("unknown", "\u6570\u636e")
    assert f"\u6570\u636e, {split} queries, percent:" in card.text
    assert "| captions | {a} \\| {b} |" in card.text


@pytest.mark.parametrize("licence", ["CC BY 4.0", "MIT", ""])
def test_a_licence_that_is_no_identifier_is_refused(weights, licence):
    said = export("--checkpoint", weights, "--licence", licence, status=1).stderr
    assert said.startswith(f"error: licence '{licence}': is not an identifier of the hub; write it as mit or cc-by-4.0")
    assert not Path("model").exists()


@pytest.mark.parametrize("option", ["--licence", "--data", "--metrics", "--scored-on", "--name", "--tokenizer"])
def test_the_other_form_takes_no_option_of_the_folder(weights, option):
    said = call("export", "--checkpoint", weights, "--out", "p.pt", option, "x", status=2).stderr
    assert f"{option} is not for --to published; leave it out" in said


def test_every_command_takes_the_folder(weights, folder, gallery, tmp_path):
    """The same hits, scores and files as of the checkpoint itself."""
    write_cirr(tmp_path / "cirr")

    def outcome(checkpoint: Path) -> list[str]:
        given = ["--checkpoint", checkpoint]
        call("validate", "--layout", "cirr", "--root", "cirr", *given, "--json", "m.json", "--workers", 0)
        call("submit", "--root", "cirr", *given, "--name", "a", "--out", "sub", "--workers", 0)
        call("export", *given, "--out", "p.pt")
        call("index", *given, "--gallery", gallery, "--out", f"{checkpoint.name}.index", "--workers", 0)
        files = sorted(Path("sub").iterdir())
        scores = json.loads(Path("m.json").read_text())
        assert scores.pop("weights") == {"sha256": file_hash(weights_file(checkpoint))}
        return [
            str(scores),
            call("search", *given, "--gallery", gallery, *QUERY).stdout,
            call("inspect", checkpoint).stdout.replace("none in the file", ""),
            *(file.read_text() for file in files),
            str({name: float(t.sum()) for name, t in torch.load("p.pt")["state_dict"].items()}),
        ]

    assert outcome(folder) == outcome(weights)


def test_an_index_of_a_folder_holds_what_it_takes(folder, gallery):
    """Copied, found without the copy by path, refused for other weights; brought up to date and saved again."""
    call("index", "--checkpoint", folder, "--gallery", gallery, "--out", "index", "--workers", 0)
    call("index", "--checkpoint", folder, "--gallery", gallery, "--out", "bare", "--workers", 0, "--no-weights")
    assert {path.name for path in Path("index/weights").iterdir()} == {CONFIG, WEIGHTS}
    wanted = call("search", "--index", "bare", *QUERY).stdout
    folder.rename("moved")
    assert "give the weights of" in call("search", "--index", "bare", *QUERY, status=1).stderr
    assert call("search", "--index", "bare", "--checkpoint", "moved", *QUERY).stdout == wanted
    assert call("search", "--index", "index", *QUERY).stdout == wanted
    retriever = Retriever.load("index", workers=0)
    retriever.remove("0.png")
    retriever.save("index")
    assert Retriever.load("index", workers=0).names == ("1.png", "2.png", "3.png")


def test_a_vocabulary_goes_with_the_families_that_need_one(tmp_path):
    write_published(tmp_path / "blip.pt", "blip", 2)
    export("--checkpoint", "blip.pt", *flags("blip", tmp_path))
    (tmp_path / "vocab.txt").unlink()
    found = call("search", "--checkpoint", "model", "--gallery", "gallery", *QUERY).stdout
    assert len(found.splitlines()) == 3
    Path("model/vocab.txt").write_text("other\n")
    said = call("search", "--checkpoint", "model", "--gallery", "gallery", *QUERY, status=1).stderr
    assert said.startswith("error: model/vocab.txt: is damaged (sha256 ")


def test_an_earlier_export_is_replaced_and_other_things_are_not(weights, folder):
    export("--checkpoint", weights, "--name", "second")
    assert "# second" in (folder / "README.md").read_text()
    (folder / "mine.txt").write_text("x")
    said = export("--checkpoint", weights, status=1).stderr
    assert said == "error: model: contains mine.txt, which is not part of an export; name a new folder for the export\n"
    (folder / "mine.txt").unlink()
    for same in (folder, folder / WEIGHTS):
        assert "which is read; give the name of another folder" in export("--checkpoint", same, status=1).stderr
    assert "# second" in (folder / "README.md").read_text()


@pytest.mark.parametrize("files", [{CONFIG: '{"model_type": "bert"}', WORDS: "a"}, {CARD: "mine"}, {CONFIG: "[1"}])
def test_the_model_of_another_library_is_not_replaced(weights, files):
    """A folder of BERT's has files of the same names."""
    Path("model").mkdir()
    for name, text in files.items():
        Path("model", name).write_text(text)
    said = export("--checkpoint", weights, status=1).stderr
    assert said == "error: model: contains files that no export wrote; name a new folder for the export\n"
    assert {path.name: path.read_text() for path in Path("model").iterdir()} == files


@pytest.mark.parametrize("given", ["model", "model/model.safetensors"])
def test_a_published_file_is_not_written_into_the_folder(folder, given):
    said = call("export", "--checkpoint", given, "--out", folder / WEIGHTS, status=1).stderr
    assert said.startswith("error: model/model.safetensors: ")
    call("inspect", folder)
    assert (
        "is inside model, which is read"
        in call("export", "--checkpoint", given, "--out", "model/p.pt", status=1).stderr
    )


def test_an_empty_folder_is_filled(weights):
    Path("model").mkdir()
    export("--checkpoint", weights)
    assert (Path("model") / CONFIG).is_file()


def damage(folder: Path, how: str) -> None:
    config = json.loads((folder / CONFIG).read_text())
    if how == "truncated":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    elif how == "no weights":
        (folder / WEIGHTS).unlink()
    elif how == "no settings":
        (folder / CONFIG).unlink()
    elif how == "another library":
        (folder / CONFIG).write_text('{"architectures": ["BertModel"]}')
    elif how == "newer":
        (folder / CONFIG).write_text(json.dumps(config | {"format": 2}))
    elif how == "unknown family":
        (folder / CONFIG).write_text(json.dumps(config | {"family": "dalle"}))
    elif how == "a field too many":
        (folder / CONFIG).write_text(json.dumps(config | {"more": 1}))
    elif how == "unknown recipe":
        (folder / CONFIG).write_text(json.dumps(config | {"recipe": "blip"}))
    elif how == "no hash":
        (folder / CONFIG).write_text(json.dumps(config | {"files": {}}))
    elif how == "other sizes":
        (folder / CONFIG).write_text(json.dumps(config | {"sizes": config["sizes"] | {"image_size": 999}}))
    elif how == "other preprocessing":
        (folder / CONFIG).write_text(json.dumps(config | {"preprocess": config["preprocess"] | {"size": 64}}))
    elif how == "other length":
        (folder / CONFIG).write_text(json.dumps(config | {"max_tokens": 5}))
    elif how == "no width":
        (folder / CONFIG).write_text(json.dumps(config | {"vision_head_width": 0}))
    elif how == "no tensors":
        save_file({"a": torch.zeros(1)}, folder / WEIGHTS)
        files = {WEIGHTS: file_hash(folder / WEIGHTS)}
        (folder / CONFIG).write_text(json.dumps(config | {"files": files}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "model/model.safetensors: is damaged (sha256 "),
        ("no weights", "model/model.safetensors: is missing; export or download it again"),
        ("no settings", "model: is a folder without config.json; expected a checkpoint file (.pt), or a folder that"),
        ("another library", "model: is a model of another library (config.json does not say library_name spn4cir)"),
        ("newer", "model: is of format 2, this version reads 1"),
        ("unknown family", "model/config.json: family 'dalle' is not known"),
        ("unknown recipe", "model/config.json: 'blip' is not a recipe of 'clip'"),
        ("no hash", "model/config.json: files: has hashes of [], expected ['model.safetensors']"),
        (
            "other sizes",
            "model/config.json: sizes.image_size: is 999, the network of these weights and",
        ),
        ("other preprocessing", "model/config.json: preprocess.size: is 64, the network of these weights"),
        ("other length", "model/config.json: max_tokens: is 5, the network of these weights and head widths has 77"),
        ("no width", "model/config.json: vision_head_width: input should be greater than or equal to 1"),
        ("a field too many", "model/config.json: more: extra inputs are not permitted"),
        ("no tensors", "model: is not a CLIP checkpoint: missing"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused_in_one_line(folder, how, said):
    damage(folder, how)
    result = call("inspect", folder, status=1)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_comes_from_the_hub_at_a_revision_and_offline(folder, gallery, tmp_path, monkeypatch):
    """Through the mirror that is named; one commit's files; again without the hub."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = Retriever.from_checkpoint(folder, workers=0).index(gallery).search("1.png", "is red")
    with hub_server.serve() as hub:
        hub_server.point_at(monkeypatch, hub.endpoint, tmp_path / "cache")
        first = hub.publish(files, frozenset({CONFIG, "README.md"}))
        found = Retriever.from_hub(hub_server.REPOSITORY, workers=0).index(gallery)
        assert found.search("1.png", "is red") == wanted
        found.save("index")
        assert Retriever.load("index", workers=0).search("1.png", "is red") == wanted
        hub.publish({"config.json": b'{"model_type": "bert"}'}, frozenset({CONFIG}))
        with pytest.raises(Exception, match="is a model of another library"):
            Retriever.from_hub(hub_server.REPOSITORY, workers=0)
        asked = len(hub.requests)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        again = Retriever.from_hub(hub_server.REPOSITORY, first, workers=0).index(gallery)
        assert again.search("1.png", "is red") == wanted
        assert len(hub.requests) == asked


ELSEWHERE = """
import json, sys
from importlib.machinery import PathFinder
site, folder, gallery, absent = sys.argv[1:]
absent, find = set(json.loads(absent)), PathFinder.find_spec
def found(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else find(name, path, target)
PathFinder.find_spec = found
sys.path.insert(0, site)
import spn4cir
assert spn4cir.__file__.startswith(site), spn4cir.__file__
from spn4cir import Retriever
for hit in Retriever.from_checkpoint(folder, workers=0).index(gallery).search("1.png", "is red"):
    print(hit.name, hit.score)
"""


def absent_modules(metadata: Path) -> list[str]:
    """What is installed here and is no run-time dependency of the package, nor of one of them, and so on."""
    needed, waiting = {"spn4cir"}, [*PathDistribution(metadata).requires]
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if name in needed or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        needed.add(name)
        with suppress(PackageNotFoundError):
            given = [Requirement(each) for each in requires(name) or []]
            wanted = (e for e in given if not e.marker or any(e.marker.evaluate({"extra": x}) for x in extras))
            waiting.extend(f"{e.name}[{','.join(e.extras)}]" if e.extras else e.name for e in wanted)
    return [
        module
        for module, owners in packages_distributions().items()
        if not needed & {canonicalize_name(owner) for owner in owners}
    ]


def test_the_folder_loads_where_only_the_package_is(folder, gallery, unpacked, tmp_path):
    """The built wheel, unpacked, in an empty folder, in a Python that finds its run-time dependencies alone."""
    (metadata,) = unpacked.glob("*.dist-info")
    assert (unpacked / "spn4cir" / "checkpoints" / "model_card.md").is_file()
    absent = absent_modules(metadata)
    assert {"pytest", "dvc", "nicegui", "hypothesis", "mteb"} <= set(absent)
    assert {"torch", "PIL", "faiss", "pydantic", "yaml"}.isdisjoint(absent)
    (tmp_path / "empty").mkdir()
    shutil.move(folder, tmp_path / "elsewhere")
    places = [str(unpacked), *(str(tmp_path / name) for name in ("elsewhere", "gallery"))]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *places, json.dumps(absent)],
        cwd=tmp_path / "empty",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    hits = Retriever.from_checkpoint(tmp_path / "elsewhere", workers=0).index(gallery).search("1.png", "is red")
    found = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _ in found] == [hit.name for hit in hits]
    assert [float(score) for _, score in found] == pytest.approx([hit.score for hit in hits], abs=1e-5)
