"""CLIP's composition against the network's formulas written out in plain tensor operations."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from spn4cir.composers.clip import ClipComposer
from spn4cir.errors import InputError
from spn4cir.losses import info_nce
from tests.helpers import plain_clip
from tests.helpers.checkpoints import Tower, tiny_state
from tests.helpers.open_clip_folders import HEAD, base_config, wide_state, write_base

TEXTS = ["is red", "has no sleeves and a much longer, pleated skirt", ""]


def image_feature(state: dict[str, Tensor], images: Tensor) -> Tensor:
    return plain_clip.image_feature(state, plain_clip.image_sequence(state, images, HEAD))


def text_feature(state: dict[str, Tensor], texts: list[str]) -> Tensor:
    tokens = open_clip.SimpleTokenizer()(texts)
    return plain_clip.text_feature(state, tokens, plain_clip.text_sequence(state, tokens, HEAD))


def images(size: int, count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_formulas() -> None:
    """Reference, target and query of a network of two and three heads, to 1e-5."""
    state = wide_state()
    composer = ClipComposer.from_state(state, 1, "x")
    with torch.no_grad():
        features = composer.encode_image(images(24))
        query = composer.compose(features.reference, TEXTS)
    reference = image_feature(state, images(24))
    torch.testing.assert_close(features.reference, reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.target, reference / reference.norm(dim=1, keepdim=True), rtol=0, atol=1e-5)
    together = reference + text_feature(state, TEXTS)
    torch.testing.assert_close(query, together / together.norm(dim=1, keepdim=True), rtol=0, atol=1e-5)
    assert float((query - features.target).norm(dim=1).min()) > 0.1, "the text changes nothing: this test sees no text"


@pytest.mark.parametrize(("tower", "size"), [("vit", 32), ("resnet", 64)])
def test_sizes_are_read_off_the_shapes(tower: Tower, size: int) -> None:
    """Either tower: the input's side, the joint width, and the same figures as open_clip's own network."""
    state = tiny_state(tower)
    composer = ClipComposer.from_state(state, 2, "x")
    assert composer.preprocess.size == size
    with torch.no_grad():
        features = composer.encode_image(images(size))
    assert features.reference.shape == (3, 32)
    assert all(torch.equal(state[name], tensor) for name, tensor in composer.clip.state_dict().items())
    assert not composer.training
    assert {module.training for module in composer.modules()} == {False}


def test_a_batch_equals_its_images_one_by_one() -> None:
    """Frozen BatchNorm: no image sees another."""
    composer = ClipComposer.from_state(tiny_state("resnet"), 1, "x")
    with torch.no_grad():
        whole = composer.encode_image(images(64)).reference
        single = torch.cat([composer.encode_image(image[None]).reference for image in images(64)])
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-6)


def test_reference_is_not_normalised_and_target_is() -> None:
    """The sum of reference and text depends on the reference's length."""
    composer = ClipComposer.from_state(tiny_state(), 1, "x")
    with torch.no_grad():
        features = composer.encode_image(images(32))
        far = composer.compose(features.reference * 1e4, TEXTS)
    torch.testing.assert_close(features.target.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(features.target, F.normalize(features.reference, dim=1))
    torch.testing.assert_close(far, features.target, rtol=0, atol=1e-2)


def test_score_is_the_dot_product_and_contrast_its_loss() -> None:
    composer = ClipComposer.from_state(tiny_state(), 1, "x")
    queries, targets = F.normalize(images(4)[:, 0].flatten(1)), F.normalize(images(4, 5, 1)[:, 0].flatten(1))
    expected = torch.tensor([[float(q @ t) for t in targets] for q in queries])
    torch.testing.assert_close(composer.score(queries, targets), expected)
    labels = torch.tensor([4, 0, 2])
    assert torch.equal(composer.contrast(queries, targets, labels, 0.1), info_nce(queries, targets, labels, 0.1))


def test_texts_beyond_the_context_are_cut_and_counted_before() -> None:
    """75 words fill the context with start and end; the 76th changes nothing but the count."""
    composer = ClipComposer.from_state(tiny_state(), 1, "x")
    assert composer.max_tokens == 77
    assert [composer.count_tokens(text) for text in ("", "red", "red " * 75, "red " * 76)] == [2, 3, 77, 78]
    with torch.no_grad():
        queries = composer.compose(torch.zeros(2, 32), ["red " * 75, "red " * 75 + "blue"])
    assert torch.equal(queries[0], queries[1])


def test_stage_2_trains_the_text_tower_alone() -> None:
    composer = ClipComposer.from_state(tiny_state(), 1, "x")
    names = {name for name, _ in composer.named_parameters()}
    everything = composer.train_stage(1)
    assert len(everything.backbone) == len(names) - 1  # all but the temperature
    trained = composer.train_stage(2)
    assert not trained.heads
    asking = {name for name, parameter in composer.named_parameters() if parameter.requires_grad}
    assert len(trained.backbone) == len(asking)
    assert asking == {name for name in names if name.startswith("clip.") and not name.startswith("clip.visual.")}
    assert {name for name, _ in composer.frozen_tensors()} == {
        name for name in composer.state_dict() if name.startswith("clip.visual.")
    }


def test_missing_extra_and_misshapen_names_are_listed() -> None:
    state = tiny_state()
    del state["transformer.resblocks.0.ln_1.weight"]
    state["adapter.weight"] = torch.zeros(1)
    state["visual.ln_post.bias"] = torch.zeros(65)
    with pytest.raises(InputError) as raised:
        ClipComposer.from_state(state, 1, "a.pt")
    message = str(raised.value)
    assert message.startswith("a.pt: ")
    assert "missing ['transformer.resblocks.0.ln_1.weight']" in message
    assert "unexpected ['adapter.weight']" in message
    assert "visual.ln_post.bias (65,) instead of (64,)" in message


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@pytest.mark.parametrize(
    "name", ["text_projection", "token_embedding.weight", "visual.conv1.weight", "ln_final.weight"]
)
@pytest.mark.parametrize("damage", ["gone", "scalar", "half"])
def test_no_damage_ends_in_a_traceback(tower: Tower, name: str, damage: str) -> None:
    """Sizes are read off tensors that a damaged file may lack or hold in another shape."""
    state = tiny_state(tower)
    if damage == "gone":
        del state[name]
    else:
        state[name] = torch.zeros(()) if damage == "scalar" else state[name][: len(state[name]) // 2]
    if (name, damage) == ("token_embedding.weight", "half"):  # a smaller vocabulary is a CLIP too
        ClipComposer.from_state(state, 1, "a.pt")
        return
    with pytest.raises(InputError, match=r"^a\.pt: "):
        ClipComposer.from_state(state, 1, "a.pt")


def test_a_base_model_of_a_folder(tmp_path: Path) -> None:
    """The composition over it is the one that its weights give by themselves."""
    state = wide_state()
    composer = ClipComposer.from_base(str(write_base(tmp_path / "base", state, quick_gelu=True)), None)
    assert all(torch.equal(state[name], tensor) for name, tensor in composer.clip.state_dict().items())
    assert composer.preprocess.size == 24


def test_a_base_model_without_quick_gelu_is_refused(tmp_path: Path) -> None:
    """Its weights under quick GELU would be another network."""
    folder = write_base(tmp_path / "base", wide_state(), quick_gelu=False)
    with pytest.raises(InputError, match="is not a CLIP with quick GELU"):
        ClipComposer.from_base(str(folder), None)


@pytest.mark.parametrize("model", ["RN50x4", "ViT-B-16", "RN50x4-quickgelu"])
def test_openai_weights_get_quick_gelu_whatever_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """open_clip's architecture of the plain name has GELU; the tag says what its weights were trained with."""
    state = wide_state()
    save_file(state, tmp_path / "openai.safetensors")
    monkeypatch.setattr(open_clip.factory, "get_model_config", lambda name: base_config())
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *a, **k: str(tmp_path / "openai.safetensors"))
    composer = ClipComposer.from_base(model, "openai")
    with torch.no_grad():
        feature = composer.encode_image(images(24)).reference
    torch.testing.assert_close(feature, image_feature(state, images(24)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("model", "tag"), [("ViT-B-16", "laion2b_s34b_b88k"), ("ViT-B-16-SigLIP", "webli")])
def test_a_tag_without_quick_gelu_is_refused_before_its_download(
    monkeypatch: pytest.MonkeyPatch, model: str, tag: str
) -> None:
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *a, **k: pytest.fail("downloaded"))
    with pytest.raises(InputError, match=rf"base model {model} \(tag {tag}\): is not a CLIP with quick GELU"):
        ClipComposer.from_base(model, tag)


@pytest.mark.parametrize(
    "tower",
    [
        {"vision_cfg": {"pool_type": "avg"}},
        {"vision_cfg": {"head_width": 32}},
        {"text_cfg": {"pool_type": "last"}},
        {"text_cfg": {"no_causal_mask": True}},
    ],
    ids=str,
)
def test_a_base_that_computes_otherwise_is_refused(tmp_path: Path, tower: dict[str, dict[str, Any]]) -> None:
    """The same names and shapes: only its features show that it would silently become another network."""
    folder = write_base(tmp_path / "base", wide_state(), **tower)
    with pytest.raises(InputError, match=r"computes other features than OpenAI's CLIP .*head width, which is 64, "):
        ClipComposer.from_base(str(folder), None)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_base_of_other_pixels_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_base(tmp_path / "base", wide_state(), preprocess={name: [0.5, 0.5, 0.5]})
    with pytest.raises(InputError, match=rf"expects images of {name} \(0\.5, 0\.5, 0\.5\), CLIP's is \(0\."):
        ClipComposer.from_base(str(folder), None)


@pytest.mark.parametrize(("model", "tag"), [("ViT-B-77", "openai"), ("ViT-B-32", "no_such_tag"), ("ViT-B-32", None)])
def test_an_unknown_base_model_is_named(model: str, tag: str | None) -> None:
    """One without weights too: a random network is no base."""
    with pytest.raises(InputError, match=rf"base model {model} \(tag {tag}\): cannot be loaded: \w"):
        ClipComposer.from_base(model, tag)


def test_whatever_a_damaged_base_model_makes_the_library_raise_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*args: object, **options: object) -> None:
        raise UnpicklingError("invalid load key, '<'.\nand more")

    monkeypatch.setattr("open_clip.create_model", damaged)
    with pytest.raises(
        InputError, match=r"^base model ViT-B-32 \(tag openai\): cannot be loaded: invalid load key, '<'.$"
    ):
        ClipComposer.from_base("ViT-B-32", "openai")


@pytest.mark.parametrize("broken", ["absent", "no config", "bad config", "no weights", "other weights"])
def test_a_broken_base_folder_is_an_input_error(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "base"
    if broken != "absent":
        state = tiny_state() if broken == "other weights" else wide_state()
        write_base(folder, state, quick_gelu=True)
    if broken == "no config":
        (folder / "open_clip_config.json").unlink()
    if broken == "bad config":
        (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 4, "vision": 3}}')
    if broken == "no weights":
        (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"base model .*cannot be loaded"):
        ClipComposer.from_base(str(folder), None)
