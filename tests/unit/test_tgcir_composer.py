"""TG-CIR's composition against the network's formulas written out in plain tensor operations, and its files."""

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spn4cir.checkpoints.published import load_composer, read_checkpoint, save_composer
from spn4cir.composers.protocol import Options
from spn4cir.composers.tgcir import TgcirComposer
from spn4cir.errors import InputError
from tests.helpers import plain_clip
from tests.helpers.checkpoints import tiny_state
from tests.helpers.tgcir import (
    BASE_TEXT_WIDTH,
    DIM,
    HEAD,
    OPTIONS,
    SIZE,
    TWIN,
    clip_state,
    container,
    extras,
    published_state,
    tiny_tgcir,
    write_base,
)

TEXTS = ["is red", "has no sleeves and a much longer, pleated skirt", "x " * 80]
IMAGES = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
STAGES = pytest.mark.parametrize("stage", [1, 2])


def plain_tokens(state: dict[str, Tensor], ending: str, feature: Tensor, sequence: Tensor) -> Tensor:
    """Masks and token learner, one token after the other; `ending` is `_text` for those of the texts."""
    tokens = [feature * mask.clamp(min=0) for mask in state[f"backbone.masks{ending}.weight"]]
    learner = 0
    while f"backbone.tokenlearn{ending}.tokenizers.{learner}.conv.0.weight" in state:
        name = f"backbone.tokenlearn{ending}.tokenizers.{learner}.conv.0"
        maps = torch.sigmoid(F.conv1d(sequence.transpose(1, 2), state[f"{name}.weight"], state[f"{name}.bias"]))
        tokens.append((maps * sequence.transpose(1, 2)).mean(dim=2))
        learner += 1
    return torch.stack(tokens, dim=1)


def plain_image(state: dict[str, Tensor], images: Tensor) -> Tensor:
    clip = {name.removeprefix("backbone.clip."): tensor for name, tensor in state.items()}
    sequence = plain_clip.image_sequence(clip, images, HEAD)
    local = F.linear(sequence, state["backbone.fc.weight"], state["backbone.fc.bias"])
    return plain_tokens(state, "", plain_clip.image_feature(clip, sequence), local)


def plain_query(state: dict[str, Tensor], reference: Tensor, texts: list[str]) -> Tensor:
    clip = {name.removeprefix("backbone.clip."): tensor for name, tensor in state.items()}
    tokens = open_clip.SimpleTokenizer()(texts)
    sequence = plain_clip.text_sequence(clip, tokens, HEAD)
    local = F.linear(sequence, state["backbone.text_fc.weight"], state["backbone.text_fc.bias"])
    ending = "_text" if "backbone.masks_text.weight" in state else ""
    text = plain_tokens(state, ending, plain_clip.text_feature(clip, tokens, sequence), local)
    hidden = torch.cat([reference, text], dim=2) @ state["s_remain_map.0.weight"].T + state["s_remain_map.0.bias"]
    weight = torch.sigmoid(hidden.clamp(min=0) @ state["s_remain_map.2.weight"].T + state["s_remain_map.2.bias"])
    return unit((weight * reference + (1 - weight) * text).mean(dim=1))


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


@STAGES
@pytest.mark.parametrize(("masks", "learners"), [(4, 8), (3, 5)])
def test_features_are_those_of_the_formulas(stage: int, masks: int, learners: int) -> None:
    """Reference, target and query to 1e-5; the numbers of tokens are read off the shapes."""
    state = published_state(stage, masks, learners)
    composer = tiny_tgcir(state, stage)
    with torch.no_grad():
        features = composer.encode_image(IMAGES)
        query = composer.compose(features.reference, TEXTS)
    reference = plain_image(state, IMAGES)
    assert reference.shape == (3, masks + learners, DIM)
    torch.testing.assert_close(features.reference, reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.target, unit(reference.mean(dim=1)), rtol=0, atol=1e-5)
    torch.testing.assert_close(query, plain_query(state, reference, TEXTS), rtol=0, atol=1e-5)
    assert float((query - features.target).norm(dim=1).min()) > 0.01, "the text changes nothing: this test sees no text"
    assert float((query - query.roll(1, 0)).norm(dim=1).min()) > 0.01


@STAGES
def test_published_names_and_back_is_the_identity(stage: int) -> None:
    """Every bit, every name once; the tower's two names share their tensors, so that a file holds them once."""
    state = published_state(stage, words=9)
    composer = tiny_tgcir(state, stage)
    published = composer.published(stage, 3)
    assert published.keys() == {"epoch", "state_dict"}
    assert published["epoch"] == 3
    back = published["state_dict"]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    twins = [name for name in back if name.startswith(TWIN)]
    assert all(back[name] is back[name.replace(TWIN, "backbone.clip.visual.")] for name in twins)
    ours = {id(tensor) for name, tensor in composer.named_parameters() if name != "temperature"}
    assert len(ours) == len(state) - len(twins)
    assert not composer.training


@STAGES
def test_a_file_of_float16_becomes_float32(stage: int) -> None:
    state = {name: tensor.half() for name, tensor in published_state(stage, words=9).items()}
    for name, tensor in tiny_tgcir(state, stage).published(stage, 0)["state_dict"].items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, state[name].float())


@STAGES
def test_saved_and_loaded_is_unchanged(tmp_path: Path, stage: int) -> None:
    """Family and stage are read from the file, also for a network after `train_stage`."""
    composer = tiny_tgcir(published_state(stage, words=9), stage)
    composer.train_stage(stage)
    save_composer(composer, tmp_path / "a.pt", stage, epoch=5)
    read = read_checkpoint(tmp_path / "a.pt")
    assert (read.family, read.stage) == ("tgcir", stage)
    again = load_composer(tmp_path / "a.pt", "tgcir", OPTIONS)
    tensors = again.state_dict()
    assert tensors.keys() == composer.state_dict().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in composer.state_dict().items())


@STAGES
def test_known_extras_are_accepted_and_not_written(tmp_path: Path, stage: int) -> None:
    state = published_state(stage, words=9)
    assert tiny_tgcir(state | extras(), stage).published(stage, 0)["state_dict"].keys() == state.keys()


def test_text_masks_of_a_first_stage_file_are_dropped(tmp_path: Path) -> None:
    """The temperature of the loss identifies stage 1; stage 2 starts with copies of the image ones."""
    second = published_state(2, words=9)
    torch.save(container(second | extras()), tmp_path / "a.pt")
    composer = load_composer(tmp_path / "a.pt", options=OPTIONS)
    first = {name: tensor for name, tensor in second.items() if "_text." not in name}
    published = composer.published(1, 0)["state_dict"]
    assert published.keys() == first.keys()
    composer.train_stage(2)
    published = composer.published(2, 0)["state_dict"]
    assert published.keys() == second.keys()
    for name in second.keys() - first.keys():
        assert torch.equal(published[name], second[name.replace("_text.", ".")])


def test_stage_2_starts_with_copies_and_keeps_those_of_a_second_stage() -> None:
    composer = tiny_tgcir(published_state(1, words=9), 1)
    composer.train_stage(2)
    image, text = composer.image_tokens.state_dict(), composer.text_tokens.state_dict()
    assert all(torch.equal(image[name], text[name]) for name in image)
    assert not {tensor.data_ptr() for tensor in image.values()} & {tensor.data_ptr() for tensor in text.values()}
    state = published_state(2, words=9)
    composer = tiny_tgcir(state, 2)
    composer.train_stage(2)
    assert torch.equal(composer.text_tokens.masks, state["backbone.masks_text.weight"])


def test_a_network_with_text_masks_is_no_first_stage() -> None:
    """A stage-1 file would lose them silently."""
    with pytest.raises(InputError, match=r"cannot contain the text masks .* write the network as stage 2"):
        tiny_tgcir(published_state(2, words=9), 2).published(1, 0)


def moved(composer: TgcirComposer, stage: int) -> set[str]:
    """The names that one step of the stage changes."""
    backbone, heads = composer.train_stage(stage)
    before = {name: parameter.detach().clone() for name, parameter in composer.named_parameters()}
    optimiser = torch.optim.AdamW([{"params": backbone}, {"params": heads}], lr=1e-2, weight_decay=0.0)
    features = composer.encode_image(IMAGES)
    if stage == 1:
        query = composer.compose(features.reference, TEXTS)
        loss = composer.contrast(query, features.target, torch.arange(3), 0.1)
    else:
        queries = composer.compose(features.reference.detach(), TEXTS)
        loss = composer.contrast(queries, features.target.detach(), torch.arange(3), 0.1)
    loss.backward()
    optimiser.step()
    return {name for name, parameter in composer.named_parameters() if not torch.equal(parameter, before[name])}


# CLIP's own temperature is in no formula of the network.
UNUSED = {"temperature", "clip.logit_scale"}
IMAGE_SIDE = ("clip.visual.", "image_fc.", "image_tokens.")


def test_stage_1_moves_everything() -> None:
    composer = tiny_tgcir(published_state(1), 1)
    assert moved(composer, 1) == {name for name, _ in composer.named_parameters()} - UNUSED
    assert composer.text_tokens is composer.image_tokens


@STAGES
def test_stage_2_moves_the_text_side_alone(stage: int) -> None:
    """From a first stage and a second one, whatever was frozen before; the tensors that a bank depends on stay."""
    composer = tiny_tgcir(published_state(stage), stage).requires_grad_(False)
    frozen = {name: tensor.clone() for name, tensor in composer.frozen_tensors()}
    after = moved(composer, 2)
    names = {name for name, _ in composer.named_parameters()}
    assert after == {name for name in names if not name.startswith(IMAGE_SIDE)} - UNUSED
    assert {"gate.0.weight", "text_fc.weight", "text_tokens.masks", "text_tokens.learners.7.bias"} <= after
    assert {name for name, _ in composer.frozen_tensors()} == {name for name in names if name.startswith(IMAGE_SIDE)}
    assert frozen.keys() == dict(composer.frozen_tensors()).keys()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in composer.frozen_tensors())


@STAGES
def test_backbone_and_heads_are_apart(stage: int) -> None:
    """CLIP and the rest have separate learning rates; no parameter is in both, the temperature in neither."""
    composer = tiny_tgcir(published_state(1, words=9), 1)
    backbone, heads = composer.train_stage(stage)
    asking = {id(parameter) for parameter in composer.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in [*backbone, *heads]} == asking
    assert len(backbone) + len(heads) == len(asking)
    clip = {id(parameter) for parameter in composer.clip.parameters()}
    assert {id(parameter) for parameter in backbone} == clip & asking


def test_a_batch_equals_its_items_in_any_order() -> None:
    composer = tiny_tgcir(published_state(2), 2)
    order = [2, 0, 1]
    with torch.no_grad():
        features = composer.encode_image(IMAGES)
        query = composer.compose(features.reference, TEXTS)
        shuffled = composer.encode_image(IMAGES[order])
        mixed = composer.compose(shuffled.reference, [TEXTS[i] for i in order])
        single = [composer.encode_image(image[None]) for image in IMAGES]
        alone = [composer.compose(one.reference, [text]) for one, text in zip(single, TEXTS, strict=True)]
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(shuffled.reference, features.reference[order], **close)
    torch.testing.assert_close(mixed, query[order], **close)
    torch.testing.assert_close(torch.cat([one.reference for one in single]), features.reference, **close)
    torch.testing.assert_close(torch.cat(alone), query, **close)


def test_both_image_features_come_of_one_pass() -> None:
    composer = tiny_tgcir(published_state(1), 1)
    seen: list[tuple[int, ...]] = []

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].shape)

    for tower in (composer.clip.visual.transformer, composer.clip.transformer):
        tower.resblocks[0].register_forward_pre_hook(count)
    with torch.no_grad():
        composer.compose(composer.encode_image(IMAGES).reference, TEXTS)
    assert seen == [(3, 10, 64), (3, 77, 96)]


def test_autocast_keeps_unit_norms() -> None:
    """Normalised in float32 whatever the towers compute in."""
    composer = tiny_tgcir(published_state(2), 2)
    with torch.no_grad():
        features = composer.encode_image(IMAGES)
        query = composer.compose(features.reference, TEXTS)
        with torch.autocast("cpu", torch.bfloat16):
            low = composer.encode_image(IMAGES)
            low_query = composer.compose(low.reference, TEXTS)
    for exact, rounded in ((features.target, low.target), (query, low_query)):
        assert rounded.dtype is torch.float32
        torch.testing.assert_close(rounded.norm(dim=1), torch.ones(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)


def test_images_are_not_padded_and_texts_are_counted_before_the_cut() -> None:
    composer = tiny_tgcir(published_state(1), 1)
    assert (composer.preprocess.size, composer.preprocess.target_ratio) == (SIZE, None)
    assert composer.max_tokens == 77
    assert [composer.count_tokens(text) for text in ("", "red", "red " * 75, "red " * 76)] == [2, 3, 77, 78]


@pytest.mark.parametrize(
    "name",
    [
        "backbone.clip.ln_final.bias",
        "backbone.clip.visual.ln_post.bias",
        f"{TWIN}ln_post.bias",
        "backbone.fc.bias",
        "backbone.text_fc.weight",
        "backbone.masks.weight",
        "backbone.tokenlearn.tokenizers.3.conv.0.bias",
        "backbone.tokenlearn.tokenizers.7.conv.0.weight",
        "backbone.masks_text.weight",
        "s_remain_map.2.bias",
    ],
)
@pytest.mark.parametrize("damage", ["gone", "scalar", "longer"])
def test_missing_and_misshapen_names_are_listed(name: str, damage: str) -> None:
    """Under their published names, beside the file's."""
    state = published_state(2, words=9)
    if damage == "gone":
        del state[name]
    else:
        state[name] = torch.zeros(()) if damage == "scalar" else torch.cat([state[name]] * 2, dim=-1)
    with pytest.raises(InputError, match=r"^a\.pt: ") as raised:
        tiny_tgcir(state, 2)
    assert "\n" not in str(raised.value)
    prefix = next((prefix for prefix in ("backbone.clip.", TWIN) if name.startswith(prefix)), "")
    assert f"{prefix}*: " in str(raised.value) or not prefix
    assert name.removeprefix(prefix) in str(raised.value)


def test_missing_and_unexpected_names_of_the_heads_are_in_one_line() -> None:
    state = published_state(2, words=9)
    del state["backbone.masks_text.weight"], state["backbone.text_fc.bias"]
    state["backbone.tokenlearn_text.tokenizers.8.conv.0.bias"] = torch.zeros(1)
    with pytest.raises(InputError) as raised:
        tiny_tgcir(state, 2)
    message = str(raised.value)
    assert "missing ['backbone.masks_text.weight', 'backbone.text_fc.bias']" in message
    assert "unexpected ['backbone.tokenlearn_text.tokenizers.8.conv.0.bias']" in message


@pytest.mark.parametrize("name", ["adapter.weight", "backbone.masks.bias", "backbone.clip.adapter", "t_remain_map"])
def test_names_of_no_table_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.pt: .*unexpected \['{name.removeprefix('backbone.clip.')}'\]"):
        tiny_tgcir(published_state(1, words=9) | {name: torch.zeros(1)}, 1)


def test_towers_that_differ_are_refused() -> None:
    state = published_state(1, words=9)
    state[f"{TWIN}ln_post.bias"] = state[f"{TWIN}ln_post.bias"] + 1
    with pytest.raises(InputError, match=r"a\.pt: .*two names, but 1 of .*\['ln_post\.bias'\]"):
        tiny_tgcir(state, 1)


def test_a_resnet_tower_is_refused() -> None:
    clip = tiny_state("resnet")
    state = {f"backbone.clip.{name}": tensor for name, tensor in clip.items()}
    state |= {TWIN + name.removeprefix("visual."): t for name, t in clip.items() if name.startswith("visual.")}
    with pytest.raises(InputError, match=r"a\.pt: its image tower is a ResNet; .* choose a ViT"):
        TgcirComposer.from_state(state, 1, "a.pt", Options())


def test_a_base_model_gets_heads_of_the_global_seed(tmp_path: Path) -> None:
    """CLIP as it is; masks of 0.1 with 1 on a token's own quarter; texts share them."""
    folder = str(write_base(tmp_path / "base"))
    composers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        composers.append(TgcirComposer.from_base(folder, None, Options()))
    first, same, other = composers
    clip = clip_state(BASE_TEXT_WIDTH)
    assert all(torch.equal(clip[name], tensor) for name, tensor in first.clip.state_dict().items())
    expected = torch.full((4, 4, DIM // 4), 0.1)
    expected[range(4), range(4)] = 1.0
    assert torch.equal(first.image_tokens.masks, expected.flatten(1))
    assert first.text_tokens is first.image_tokens
    tensors, equal, drawn = (composer.state_dict() for composer in composers)
    assert all(torch.equal(tensor, equal[name]) for name, tensor in tensors.items())
    heads = [name for name in tensors if not name.startswith(("clip.", "temperature")) and "masks" not in name]
    assert not any(torch.equal(tensors[name], drawn[name]) for name in heads)
    assert not any(composer.training for composer in (first, same, other))
