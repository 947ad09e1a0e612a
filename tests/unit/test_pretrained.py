"""Pretrained networks by name: composed as family clip does, from a folder, open_clip's list or the hub."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args, get_type_hints

import huggingface_hub.constants
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from spn4cir import Encoder, Retriever
from spn4cir.checkpoints.export_hub_folder import export_folder
from spn4cir.checkpoints.model_card import Facts
from spn4cir.checkpoints.open import load_network, open_checkpoint
from spn4cir.checkpoints.pretrained import pretrained_name
from spn4cir.checkpoints.published import load_composer
from spn4cir.cli import app
from spn4cir.cli.groups import QueryNetworkOptions
from spn4cir.composers.compositions import COMPOSITIONS, compose_by
from spn4cir.composers.protocol import PUBLISHED, Composer
from spn4cir.errors import InputError
from spn4cir.serving.service import SearchService
from tests.conftest import CPU
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.hub_server import REPOSITORY, point_at, serve
from tests.helpers.layouts import draw, write_fashioniq
from tests.helpers.open_clip_folders import base_config, wide_state, write_base
from tests.helpers.published import write_published

TEXTS = ["is red", "has no sleeves", ""]
PIXELS = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache of the hub, and no downloads but in the tests with a hub of their own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    for number in range(4):
        draw(tmp_path / "gallery" / f"{number}.png", number)
    return tmp_path / "gallery"


def load(name: str, composition: str | None = None) -> Composer:
    return load_network(Path(name), None, PUBLISHED, CPU, composition)


def refused(name: str, **options: Any) -> str:
    """The one line of the error."""
    with pytest.raises(InputError) as caught:
        Retriever.from_checkpoint(name, device="cpu", workers=0, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def test_a_folder_is_composed_as_family_clip_composes_its_weights(clip_folder: Path, clip_file: Path) -> None:
    """Equal bit for bit: the pixels, both features and the queries."""
    ours, clip = load(f"local-dir:{clip_folder}"), load_composer(clip_file, "clip")
    assert (ours.family, ours.preprocess) == (clip.family, clip.preprocess)
    with torch.inference_mode():
        features, wanted = ours.encode_image(PIXELS), clip.encode_image(PIXELS)
        assert torch.equal(features.reference, wanted.reference)
        assert torch.equal(features.target, wanted.target)
        assert torch.equal(ours.compose(features.reference, TEXTS), clip.compose(wanted.reference, TEXTS))


def test_the_rules_are_their_formulas(clip_file: Path) -> None:
    """On a trained network too; slerp is the midpoint by the formula with angles."""
    clip = load_composer(clip_file)
    assert isinstance(clip, torch.nn.Module)
    with torch.inference_mode():
        reference = clip.encode_image(PIXELS).reference
        text = clip.clip.encode_text(open_clip.SimpleTokenizer()(TEXTS))
        found = {rule: compose_by(clip, rule).compose(reference, TEXTS) for rule in COMPOSITIONS}
    r, t = F.normalize(reference, dim=1), F.normalize(text, dim=1)
    angle = torch.arccos((r * t).sum(dim=1, keepdim=True))
    wanted = {
        "sum": F.normalize(reference + text, dim=1),
        "text": t,
        "image": r,
        "slerp": (torch.sin(angle / 2) / torch.sin(angle)) * (r + t),
    }
    for rule in COMPOSITIONS:
        torch.testing.assert_close(found[rule], wanted[rule], rtol=0, atol=1e-5)
    assert not torch.allclose(found["sum"], found["slerp"], atol=1e-3), "both features have one length: no test"


def test_the_option_lists_the_rules() -> None:
    assert get_args(get_args(get_type_hints(QueryNetworkOptions)["composition"])[0]) == COMPOSITIONS


def test_a_network_with_gelu_and_other_pixels_is_composed(tmp_path: Path) -> None:
    """Most open_clip weights have GELU; family clip's files cannot contain them."""
    folder = write_base(tmp_path / "gelu", wide_state(), quick_gelu=False, preprocess={"mean": [0.5, 0.5, 0.5]})
    composer = load(f"local-dir:{folder}")
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        assert torch.equal(composer.encode_image(PIXELS).reference, theirs.encode_image(PIXELS))
    assert composer.preprocess.mean == (0.5, 0.5, 0.5)
    said = call("export", "--checkpoint", f"local-dir:{folder}", "--out", tmp_path / "a.pt", status=1).stderr
    assert said.startswith(f"error: local-dir:{folder}: is not a CLIP with quick GELU, which the published formats ")


def test_a_name_of_open_clips_list_gets_the_activation_of_its_tag(
    tmp_path: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights come from the hub's cache, where open_clip's own download would put them."""
    monkeypatch.setattr(open_clip.factory, "get_model_config", lambda name: base_config())
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: base_config())
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", _published)
    save_file(wide_state(), tmp_path / "weights.safetensors")
    with serve() as hub:
        hub.publish({"open_clip_model.safetensors": (tmp_path / "weights.safetensors").read_bytes()})
        point_at(monkeypatch, hub.endpoint, tmp_path / "hub")
        composer = load("open_clip:ViT-B/32/openai")
        assert len(hub.downloads()) == 1
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        load("open_clip:ViT-B-32/openai")
    clip = load_composer(clip_file)
    with torch.inference_mode():
        assert torch.equal(composer.encode_image(PIXELS).reference, clip.encode_image(PIXELS).reference)


def _published(model: str, tag: str) -> dict[str, Any]:
    return {"hf_hub": f"{REPOSITORY}/", "quick_gelu": True, "mean": open_clip.OPENAI_DATASET_MEAN}


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_repository_of_the_hub(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gallery: Path, weights: str
) -> None:
    """Downloaded once in either form; then the cache serves an index without the hub."""
    content = (clip_folder / "open_clip_model.safetensors").read_bytes()
    if weights.endswith(".bin"):
        torch.save(wide_state(), tmp_path / weights)
        content = (tmp_path / weights).read_bytes()
    config = (clip_folder / "open_clip_config.json").read_bytes()
    name = f"hf-hub:{REPOSITORY}"
    with serve() as hub:
        hub.publish({"open_clip_config.json": config, weights: content}, frozenset({"open_clip_config.json"}))
        point_at(monkeypatch, hub.endpoint, tmp_path / "hub")
        first = Retriever.from_pretrained(name, device="cpu", workers=0).index(gallery)
        first.save(tmp_path / "index")
        sent = len(hub.downloads())
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        again = Retriever.load(tmp_path / "index", device="cpu", workers=0)
        assert len(hub.downloads()) == sent
    assert json.loads((tmp_path / "index" / "index.json").read_text())["pretrained"] == name
    assert again.search("0.png", "is red") == first.search("0.png", "is red")


def test_a_repository_of_another_kind_lists_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as hub:
        hub.publish({"config.json": b"{}", "model.safetensors": b"1"})
        point_at(monkeypatch, hub.endpoint, tmp_path / "hub")
        line = refused(f"hf-hub:{REPOSITORY}")
    assert line.startswith(f"hf-hub:{REPOSITORY}: {REPOSITORY}: has no file 'open_clip_config.json' at revision main; ")
    assert "config.json" in line


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("open_clip:ViT-B-32/openai", "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"),
        ("hf-hub:laion/CLIP", "laion/CLIP/open_clip_config.json"),
    ],
)
def test_without_a_network_one_line_says_what_to_do(
    name: str, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offline = refused(name)
    assert offline.startswith(f"{name}: {file} at revision main: is not in the cache and HF_HUB_OFFLINE is set; unset")
    assert offline.endswith("download the model's files by hand into a folder and name it as local-dir:FOLDER")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    point_at(monkeypatch, "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused(name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:ViT-B-23/openai", "open_clip has no architecture 'ViT-B-23'; choose one: ViT-B-32, "),
        ("open_clip:vit", "open_clip has no architecture 'vit'; choose one: ViT-"),
        ("open_clip:ViT-B-32", "names no tag; write it as open_clip:ViT-B-32/TAG, with one of its tags: openai, "),
        ("open_clip:ViT-B-32/opnai", "open_clip has no weights 'opnai' of 'ViT-B-32'; choose from openai, "),
        ("open_clip:ViT-B-16-SigLIP/webli", "has another text tower or tokenizer than CLIP's (its configuration has "),
        ("open_clip:coca_ViT-B-32/laion2b_s13b_b90k", "has another text tower or tokenizer than CLIP's"),
        ("open_clip:", "names no model; write it as open_clip:ViT-B-32/openai, "),
        ("local-dir:nowhere", "no such folder; expected a folder in open_clip's form"),
        ("hf-hub:a b", "is not a valid name on the hub; write it as owner/name"),
    ],
)
def test_a_wrong_name_is_answered_with_what_is_expected(name: str, message: str) -> None:
    assert message in refused(name)


def test_a_folder_that_is_not_in_open_clips_form(tmp_path: Path, clip_folder: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_model.safetensors").unlink()
    assert "cannot be loaded" in refused(f"local-dir:{folder}")
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 4}}')
    assert "has no model_cfg with vision_cfg and text_cfg" in refused(f"local-dir:{folder}")
    (folder / "open_clip_config.json").unlink()
    assert "has no open_clip_config.json; expected a folder in open_clip's form" in refused(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "blip"}, "is composed as family 'clip', not as 'blip'; leave the family out"),
        ({"vision_head_width": 32}, "open_clip's configuration contains the head widths; leave the options out"),
        ({"tokenizer": "bert"}, "--tokenizer: family 'clip' has its own tokenizer"),
        ({"composition": "mean"}, "composition 'mean' is not known; choose one of: sum, text, image, slerp"),
    ],
    ids=str,
)
def test_options_that_it_does_not_take(clip_folder: Path, options: dict[str, Any], message: str) -> None:
    assert message in refused(f"local-dir:{clip_folder}", **options)


def test_another_family_has_no_rule(tmp_path: Path) -> None:
    path = write_published(tmp_path / "blip.pt", "blip")
    with pytest.raises(InputError, match="family 'blip' composes with layers of its own; leave out --composition"):
        load_network(path, None, PUBLISHED, CPU, "slerp")


def test_a_path_that_is_missing_shows_how_networks_are_named() -> None:
    assert refused("ViT-B-32/openai") == (
        "ViT-B-32/openai: no such checkpoint; check the path, or name a pretrained network, as in "
        "open_clip:ViT-B-32/openai"
    )
    with pytest.raises(InputError, match="is no name of a pretrained network, such as open_clip:"):
        Retriever.from_pretrained("best.pt")


def test_a_folder_is_named_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> None:
    monkeypatch.chdir(clip_folder.parent)
    assert str(pretrained_name("local-dir:./clip/")) == f"local-dir:{clip_folder}"
    assert str(pretrained_name("open_clip:ViT-B/32/openai")) == "open_clip:ViT-B-32/openai"
    assert pretrained_name("clip") is None


def test_an_index_names_the_network_and_checks_it(clip_folder: Path, gallery: Path, tmp_path: Path) -> None:
    """The files may move; other weights, or another configuration of equal weights, are refused."""
    name = f"local-dir:{clip_folder}"
    call("index", "--checkpoint", name, "--composition", "slerp", "--gallery", gallery, "--out", tmp_path / "i")
    assert not list((tmp_path / "i").glob("weights*"))
    query = ["--image", gallery / "2.png", "--text", "is red", "--workers", 0]
    direct = call("search", "--checkpoint", name, "--gallery", gallery, "--composition", "slerp", *query).stdout
    assert call("search", "--index", tmp_path / "i", *query).stdout == direct
    assert call("search", "--checkpoint", name, "--gallery", gallery, *query).stdout != direct
    moved = shutil.copytree(clip_folder, tmp_path / "moved")
    assert call("search", "--index", tmp_path / "i", "--checkpoint", f"local-dir:{moved}", *query).stdout == direct
    config = json.loads((moved / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = False
    (moved / "open_clip_config.json").write_text(json.dumps(config))
    said = call("search", "--index", tmp_path / "i", "--checkpoint", f"local-dir:{moved}", *query, status=1).stderr
    assert f"local-dir:{moved}: encodes images with other weights than those of {tmp_path / 'i'} (image side" in said
    other = write_checkpoint(tmp_path / "other.pt")
    said = call("search", "--index", tmp_path / "i", "--checkpoint", other, *query, status=1).stderr
    assert "encodes images with other weights than those of" in said


def test_an_index_is_brought_up_to_date_with_its_network(clip_folder: Path, gallery: Path, tmp_path: Path) -> None:
    arguments = ["index", "--checkpoint", f"local-dir:{clip_folder}", "--gallery", gallery, "--out", tmp_path / "i"]
    call(*arguments, "--no-weights")
    draw(gallery / "new.png", 9)
    assert call(*arguments).stdout.startswith("1 added, 0 changed, 0 removed, 4 unchanged")


def test_the_encoder_composes_by_the_rule(clip_folder: Path, gallery: Path) -> None:
    query = {"image": str(gallery / "0.png"), "text": "is red"}
    text = Encoder.from_pretrained(f"local-dir:{clip_folder}", composition="text", device="cpu")
    assert (text.encode_query(query) == text.encode_query("is red")).all()
    image = Encoder.from_pretrained(f"local-dir:{clip_folder}", composition="image", device="cpu")
    assert (image.encode_query(query) == image.encode_document(gallery / "0.png")).all()


@pytest.mark.parametrize(
    ("composition", "query", "message"),
    [
        ("image", (None, "is red"), "composition 'image' reads only the image, and a query has none"),
        ("text", ("0.png", None), "composition 'text' reads only the text, and a query has none"),
    ],
)
def test_a_query_needs_the_part_that_the_rule_reads(
    clip_folder: Path, gallery: Path, composition: str, query: tuple[Any, Any], message: str
) -> None:
    """Without it all scores would be equal."""
    retriever = Retriever.from_pretrained(f"local-dir:{clip_folder}", composition=composition, device="cpu", workers=0)
    retriever.index(gallery)
    with pytest.raises(InputError, match=message):
        retriever.search(*query)
    encoder = Encoder(retriever.composer, CPU)
    with pytest.raises(InputError, match=message):
        encoder.encode_query([query[1] or Path(gallery, query[0])])


def test_a_retriever_and_its_service_show_the_name_of_its_network(clip_folder: Path, gallery: Path) -> None:
    name = f"local-dir:{clip_folder}"
    retriever = Retriever.from_pretrained(name, device="cpu", workers=0)
    assert repr(retriever) == f"Retriever(family='clip', weights='{name}', device='cpu', images=0)"
    assert SearchService(retriever, gallery).weights == f"local-dir:{clip_folder.name}"


def test_it_is_exported_and_described(clip_folder: Path, clip_file: Path, tmp_path: Path) -> None:
    """Both forms load as family clip with the same weights, and no file says that it was trained."""
    name = f"local-dir:{clip_folder}"
    call("export", "--checkpoint", name, "--out", tmp_path / "a.pt")
    said = call(
        "export", "--to", "hub-folder", "--checkpoint", name, "--licence", "mit", "--out", tmp_path / "m"
    ).stdout
    assert said.splitlines()[-1].endswith("family clip, pretrained")
    wanted = load_composer(clip_file).state_dict()
    for place in (tmp_path / "a.pt", tmp_path / "m"):
        found = load(str(place)).state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"the pretrained network\n`local-dir:{clip_folder.name}` without further training" in card
    lines = call("inspect", name).stdout.splitlines()
    assert lines[:2] == ["family        clip", "stage         none, pretrained"]
    said = call("export", "--checkpoint", name, "--composition", "sum", "--out", tmp_path / "b.pt", status=2).stderr
    assert "No such option" in said


def test_scores_name_the_network_and_the_card_refuses_those_of_others(clip_folder: Path, tmp_path: Path) -> None:
    root, json_path = write_fashioniq(tmp_path / "fiq"), tmp_path / "m.json"
    where = ["--layout", "fashioniq", "--root", root, "--json", json_path, "--workers", 0]
    call("validate", "--checkpoint", f"local-dir:{clip_folder}", "--composition", "slerp", *where)
    content = json.loads(json_path.read_text())
    assert (content["protocol"]["composition"], content["weights"]["name"]) == (
        "slerp",
        f"local-dir:{clip_folder.name}",
    )
    facts = Facts("mine", metrics=json_path, scored_on="FashionIQ")
    assert (
        export_folder(Path(f"local-dir:{clip_folder}"), tmp_path / "m", facts).pretrained
        == f"local-dir:{clip_folder.name}"
    )
    other = write_base(tmp_path / "other", wide_state(vision_layers=1), vision_cfg={"layers": 1})
    with pytest.raises(InputError, match=f"contains scores of other weights than local-dir:{other}; score these"):
        export_folder(Path(f"local-dir:{other}"), tmp_path / "n", facts)


def test_a_folder_in_open_clips_form_is_named_with_its_prefix(clip_folder):
    with pytest.raises(InputError, match=f"is a network in open_clip's form; name it as local-dir:{clip_folder}"):
        open_checkpoint(clip_folder)
