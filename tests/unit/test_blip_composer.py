"""BLIP: its formulas, its published names, what each stage trains, and files that are refused."""

import shutil
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from torch import Tensor
from transformers import BertConfig

from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers.blip import KEYS, BlipComposer
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from tests.helpers import plain_blip as plain
from tests.helpers.blip import (
    DIM,
    IMAGE_WIDTH,
    POSITIONS,
    SIZE,
    TAU,
    TEMP,
    container,
    published_state,
    write_base,
    write_checkpoint,
)
from tests.helpers.words import WORDS, write_vocabulary

OPTIONS = Options(vocabulary=WORDS)
TEXTS = ["is red", "a longer floral dress with darker sleeves", "green"]
STAGES = pytest.mark.parametrize("stage", [1, 2])


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def composer_of(stage: int = 1, options: Options = OPTIONS) -> BlipComposer:
    return BlipComposer.from_state(published_state(stage), stage, "a.pt", options)


def ids_and_mask(texts: list[str]) -> tuple[Tensor, Tensor]:
    """`[ENC]`, the words, `[SEP]`, padded; the vocabulary contains every word."""
    rows = [[len(WORDS) + 1, *(WORDS.index(word) for word in text.split()), WORDS.index("[SEP]")] for text in texts]
    length = max(map(len, rows))
    ids = torch.tensor([row + [WORDS.index("[PAD]")] * (length - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


@STAGES
def test_features_are_those_of_the_formulas(stage: int) -> None:
    """Reference tokens, target and query of a network of two and three heads, to 1e-5; the text matters."""
    state = published_state(stage)
    composer = composer_of(stage)
    with torch.no_grad():
        features = composer.encode_image(images())
        query = composer.compose(features.reference, TEXTS)
    tokens = plain.image_tokens(state, images())
    torch.testing.assert_close(features.reference, tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.target, plain.target(state, images()), rtol=0, atol=1e-5)
    torch.testing.assert_close(query, plain.query(state, *ids_and_mask(TEXTS), tokens), rtol=0, atol=1e-5)
    with torch.no_grad():
        others = composer.compose(features.reference, TEXTS[::-1])
        elsewhere = composer.compose(features.reference.roll(1, 0), TEXTS)
    assert min(float((query[0] - other[0]).norm()) for other in (others, elsewhere)) > 0.05


def test_small_values_meet_the_published_eps() -> None:
    """Embeddings as small as the root of each LayerNorm's eps: 1e-6 in the ViT, 1e-12 in BERT."""
    state = published_state()
    for name, scale in (("visual_encoder.pos_embed", 1e-3), ("word_embeddings", 1e-6), ("position_embeddings", 1e-6)):
        for found in (found for found in state if name in found):
            state[found] *= scale
    for name in ("cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        state[f"visual_encoder.{name}"] *= 1e-3
    composer = BlipComposer.from_state(dict(state), 1, "a.pt", OPTIONS)
    with torch.no_grad():
        features = composer.encode_image(images())
        query = composer.compose(features.reference, TEXTS)
    tokens = plain.image_tokens(state, images())
    torch.testing.assert_close(features.reference, tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(query, plain.query(state, *ids_and_mask(TEXTS), tokens), rtol=0, atol=1e-5)


@STAGES
def test_published_names_and_back_is_the_identity(stage: int) -> None:
    """The extras come back too: the original's module holds them. Only `temp` of stage 2, which is unused, is tau's."""
    published = container(published_state(stage), stage)
    written = composer_of(stage).published(stage, 3)
    key = "BLIP_Retrieval" if stage == 1 else "state_dict"
    assert list(written) == list(published)
    assert written[key].keys() == published[key].keys()
    if stage == 2:
        published[key]["blip.temp"] = published[key]["tau"]
    assert all(torch.equal(written[key][name], tensor) for name, tensor in published[key].items())
    assert all(written[key][name].dtype == tensor.dtype for name, tensor in published[key].items())


@STAGES
def test_every_name_is_used_once(stage: int) -> None:
    """No two published names become one of ours, and every pair of the table serves."""
    state = published_state(stage)
    names = state.keys() - {"text_encoder.embeddings.position_ids"} - ({"temp"} if stage == 2 else set())
    ours = KEYS[stage].to_ours(state, "a.pt")
    assert len(ours) == len(names)
    assert ours.keys() == composer_of(stage).state_dict().keys()
    assert not state
    left = {pair[0].replace("{i}", "0") for pair in KEYS[stage].pairs}
    assert left == {pair for pair in left if pair in names or f"{pair}.weight" in names}


def test_stage_2_keeps_its_own_temperature_and_stage_1_may_have_none() -> None:
    assert float(composer_of(2).temperature.detach()) == pytest.approx(TAU)
    assert float(composer_of(1).temperature.detach()) == pytest.approx(TEMP)
    state = published_state(1)
    del state["temp"], state["text_encoder.embeddings.position_ids"]
    assert float(BlipComposer.from_state(state, 1, "a.pt", OPTIONS).temperature.detach()) == pytest.approx(0.01)


def test_weights_are_taken_as_they_are() -> None:
    """No second copy in memory: the network's parameters are the file's tensors; float16 becomes float32."""
    state = published_state()
    state["text_proj.bias"] = state["text_proj.bias"].half()
    kept = [tensor for name, tensor in state.items() if name != "text_proj.bias"]  # or its memory could be used again
    places = {tensor.data_ptr() for tensor in kept}
    composer = BlipComposer.from_state(state, 1, "a.pt", OPTIONS)
    assert not state
    assert {n for n, p in composer.named_parameters() if p.data_ptr() not in places} == {"text_proj.bias"}
    tensors = [*composer.parameters(), *composer.buffers()]
    assert not any(tensor.is_meta for tensor in tensors)
    assert {parameter.dtype for parameter in composer.parameters()} == {torch.float32}
    assert {module.training for module in composer.modules()} == {False}


def test_sizes_and_preprocessing_are_read_off_the_shapes() -> None:
    composer = composer_of()
    assert (composer.preprocess.size, composer.preprocess.target_ratio) == (SIZE, 1.25)
    with torch.no_grad():
        reference, target = composer.encode_image(images())
    assert reference.shape == (3, 10, IMAGE_WIDTH)
    assert target.shape == (3, DIM)
    torch.testing.assert_close(target.norm(dim=1), torch.ones(3))


def test_a_head_width_that_is_named_counts() -> None:
    """The same weights in other heads are another network."""
    wide = Options(vocabulary=WORDS, vision_head_width=128, text_head_width=96)
    with torch.no_grad():
        reference, target = composer_of().encode_image(images())
        _, other_target = composer_of(options=wide).encode_image(images())
        query, other_query = (composer_of(options=o).compose(reference, TEXTS) for o in (OPTIONS, wide))
    assert float((target - other_target).norm(dim=1).min()) > 1e-3
    assert float((query - other_query).norm(dim=1).min()) > 1e-3


def test_a_batch_equals_its_items_in_any_order() -> None:
    """Padding is not read, by no text."""
    composer = composer_of()
    with torch.no_grad():
        reference, target = composer.encode_image(images())
        whole = composer.compose(reference, TEXTS)
        single = [composer.compose(reference[i : i + 1], TEXTS[i : i + 1]) for i in range(3)]
        turned = composer.compose(reference.flip(0), TEXTS[::-1])
        alone = [composer.encode_image(image[None]).target for image in images()]
    torch.testing.assert_close(whole, torch.cat(single), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole, turned.flip(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(target, torch.cat(alone), rtol=0, atol=1e-5)


def test_both_image_features_come_of_one_pass() -> None:
    composer = composer_of()
    seen: list[int] = []
    composer.vision_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len((*args, *kwargs.values())[0])), with_kwargs=True
    )
    with torch.no_grad():
        composer.encode_image(images())
    assert seen == [3]


def test_texts_beyond_the_positions_are_cut_and_counted_before() -> None:
    composer = composer_of()
    fit = POSITIONS - 2
    assert composer.max_tokens == POSITIONS
    assert [composer.count_tokens(text) for text in ("", "red", "red " * fit, "red " * (fit + 1))] == [
        2,
        3,
        POSITIONS,
        POSITIONS + 1,
    ]
    with torch.no_grad():
        reference = composer.encode_image(images(2)).reference[:1].expand(2, -1, -1)
        queries = composer.compose(reference, ["red " * fit, "red " * fit + "blue"])
    torch.testing.assert_close(queries[0], queries[1])


def test_half_precision_references_and_autocast_keep_unit_norms() -> None:
    """A bank may hold 16 bits, and training runs under autocast."""
    composer = composer_of()
    with torch.no_grad():
        reference, _ = composer.encode_image(images())
        full = composer.compose(reference, TEXTS)
        stored = composer.compose(reference.half(), TEXTS)
        with torch.autocast("cpu", torch.bfloat16):
            fast = composer.compose(composer.encode_image(images()).reference, TEXTS)
    torch.testing.assert_close(stored, full, rtol=0, atol=5e-3)
    torch.testing.assert_close(fast, full, rtol=0, atol=0.1)
    torch.testing.assert_close(fast.norm(dim=1), torch.ones(3))


def moved(composer: BlipComposer, stage: int) -> set[str]:
    """The tensors that one step of the stage's loss changes."""
    trained = composer.train_stage(stage)
    before = {name: tensor.clone() for name, tensor in composer.state_dict().items()}
    optimiser = torch.optim.SGD([*trained.backbone, *trained.heads], lr=0.1)
    features = composer.encode_image(images())
    rows = torch.arange(3)
    if stage == 1:
        loss = composer.contrast(composer.compose(features.reference, TEXTS), features.target.roll(1, 0), rows, 0.1)
    else:
        queries = composer.compose(features.reference, TEXTS)
        loss = composer.contrast(queries, features.target.roll(1, 0), rows, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    after = composer.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


# The gradient of a softmax does not depend on what all its logits have in common.
KEY_BIASES = "self.key.bias"


@STAGES
def test_both_stages_move_the_text_side_alone(stage: int) -> None:
    """The ViT and its projection stay, from either stage's file; so does the temperature, which the loop sets."""
    composer = composer_of(stage)
    text_side = {name for name in composer.state_dict() if name.startswith(("text_encoder.", "text_proj."))}
    changed = moved(composer, stage)
    assert changed <= text_side
    assert {name for name in text_side - changed if not name.endswith(KEY_BIASES)} == set()
    assert {n for n, parameter in composer.named_parameters() if parameter.requires_grad} == text_side
    frozen = dict(composer.frozen_tensors())
    assert frozen.keys() == composer.state_dict().keys() - text_side - {"temperature"}


def test_dropout_is_berts_where_training_asks_for_it() -> None:
    """One in ten outputs of the text encoder's layers, none of the ViT's."""
    composer = composer_of().train()
    dropouts = {name: part.p for name, part in composer.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert {p for name, p in dropouts.items() if name.startswith("text_encoder.")} == {0.1}
    assert {p for name, p in dropouts.items() if name.startswith("vision_model.")} == {0.0}
    with torch.no_grad():
        reference, _ = composer.encode_image(images())
        assert not torch.equal(composer.compose(reference, TEXTS), composer.compose(reference, TEXTS))


def test_backbone_and_head_are_apart() -> None:
    composer = composer_of()
    trained = composer.train_stage(1)
    assert {id(p) for p in trained.backbone} == {id(p) for p in composer.text_encoder.parameters()}
    assert {id(p) for p in trained.heads} == {id(p) for p in composer.text_proj.parameters()}


@STAGES
def test_saved_and_loaded_is_unchanged_and_needs_no_tokenizer(tmp_path: Path, stage: int) -> None:
    """A published file needs the tokenizer named; ours carries the vocabulary."""
    published = write_checkpoint(tmp_path / "published.pt", stage)
    composer = load_composer(published, options=Options(tokenizer=str(tmp_path)))
    save_composer(composer, tmp_path / "ours.pt", stage, 1)
    again = load_composer(tmp_path / "ours.pt", "blip")
    assert again.vocabulary == WORDS
    with torch.no_grad():
        reference = composer.encode_image(images()).reference
        assert torch.equal(composer.compose(reference, TEXTS), again.compose(reference, TEXTS))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in composer.state_dict().items())


def test_images_are_encoded_without_a_tokenizer(tmp_path: Path) -> None:
    """A bank holds no text; a query says which folder lacks the vocabulary."""
    composer = composer_of(options=Options(tokenizer=str(tmp_path)))
    with torch.no_grad():
        reference = composer.encode_image(images()).reference
    with pytest.raises(InputError, match=rf"{tmp_path}: contains no vocabulary .*--tokenizer FOLDER"):
        composer.compose(reference, TEXTS)


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, (*WORDS, "trousers"))
    composer = composer_of(options=Options(tokenizer=str(tmp_path)))
    with pytest.raises(InputError, match=rf"a.pt: has {len(WORDS) + 2} word embeddings, .* needs {len(WORDS) + 3} "):
        composer.count_tokens("red")


@STAGES
def test_missing_unexpected_and_misshapen_names_are_listed(stage: int) -> None:
    state = published_state(stage)
    del state["visual_encoder.norm.bias"]
    state["text_proj.bias"] = torch.zeros(DIM + 1)
    with pytest.raises(InputError) as raised:
        BlipComposer.from_state(state, stage, "a.pt", OPTIONS)
    message = str(raised.value)
    assert message.startswith("a.pt: ")
    assert "missing ['visual_encoder.norm.bias']" in message
    assert f"text_proj.bias ({DIM + 1},) instead of ({DIM},)" in message


@pytest.mark.parametrize(
    ("stage", "name"), [(1, "tau"), (1, "itm_head.weight"), (2, "adapter.bias"), (2, "visual_encoder.blocks.0.gamma")]
)
def test_names_of_no_table_are_refused(stage: int, name: str) -> None:
    with pytest.raises(InputError, match=rf"a\.pt: unexpected \['{name}'\]; check the file and the family"):
        BlipComposer.from_state(published_state(stage) | {name: torch.zeros(1)}, stage, "a.pt", OPTIONS)


def test_a_second_stage_without_tau_is_refused() -> None:
    state = published_state(2)
    del state["tau"]
    with pytest.raises(InputError, match=r"missing \['tau'\]"):
        BlipComposer.from_state(state, 2, "a.pt", OPTIONS)


@pytest.mark.parametrize(
    "name", ["visual_encoder.pos_embed", "text_proj.weight", "text_encoder.embeddings.word_embeddings.weight"]
)
@pytest.mark.parametrize("damage", ["gone", "scalar", "half"])
def test_no_damage_ends_in_a_traceback(name: str, damage: str) -> None:
    """Sizes are read off tensors that a damaged file may lack or hold in another shape."""
    state = published_state()
    whole = state.pop(name)
    if damage != "gone":
        state[name] = whole[..., : whole.shape[-1] // 2].clone() if damage == "half" else torch.tensor(1.0)
    with pytest.raises(InputError, match=r"^a\.pt: (is not a BLIP|the sizes of its tensors|does not fit)"):
        BlipComposer.from_state(state, 1, "a.pt", OPTIONS)


def test_a_base_model_keeps_its_features_and_head_widths(tmp_path: Path) -> None:
    """The same tokens, target and fused text as transformers' own model, with the vocabulary of its folder."""
    network = write_base(tmp_path)
    composer = BlipComposer.from_base(str(tmp_path), None, Options())
    ids, mask = ids_and_mask(TEXTS)
    with torch.no_grad():
        features = composer.encode_image(images())
        query = composer.compose(features.reference, TEXTS)
        theirs = network(ids, images(), attention_mask=mask)
        target = network.vision_proj(theirs.last_hidden_state[:, 0])
        fused = network.text_proj(theirs.question_embeds[:, 0])
    torch.testing.assert_close(features.reference, theirs.last_hidden_state)
    torch.testing.assert_close(features.target, plain.unit(target))
    torch.testing.assert_close(query, plain.unit(fused))
    assert composer.vocabulary == WORDS


def test_a_named_tokenizer_goes_before_the_base_models_own(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    named = write_vocabulary(tmp_path / "words", ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *reversed(WORDS[4:])))
    composer = BlipComposer.from_base(str(tmp_path / "base"), None, Options(tokenizer=str(named)))
    assert composer.vocabulary[4:] == WORDS[:3:-1]


def test_whatever_a_damaged_base_model_makes_the_library_raise_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*args: object, **options: object) -> None:
        raise UnpicklingError("invalid load key, '<'.\nand more")

    write_base(tmp_path / "base")
    monkeypatch.setattr("transformers.BlipForImageTextRetrieval.from_pretrained", damaged)
    with pytest.raises(InputError, match=r"cannot be loaded \(invalid load key, '<'.\); check the name") as raised:
        BlipComposer.from_base(str(tmp_path / "base"), None)
    assert "\n" not in str(raised.value)


def test_base_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Absent, of another type, with another activation, without its weights."""
    with pytest.raises(InputError, match=r"^base model .+gone: cannot be loaded \(.*name the folder of a Blip"):
        BlipComposer.from_base(str(tmp_path / "gone"), None, Options())
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match=r"bert: is a bert model, expected blip; name a BlipForImageTextRetrieval"):
        BlipComposer.from_base(str(tmp_path / "bert"), None, Options())
    write_base(tmp_path / "relu", hidden_act="relu")
    with pytest.raises(InputError, match=r"relu: its activation is relu, BLIP's is gelu"):
        BlipComposer.from_base(str(tmp_path / "relu"), None, Options())
    network = write_base(tmp_path / "parts")
    network.vision_model.save_pretrained(tmp_path / "tower")
    shutil.copy(tmp_path / "tower/model.safetensors", tmp_path / "parts/model.safetensors")
    with pytest.raises(InputError, match=r"parts: lacks \d+ weights \(.*\); name a BlipForImageTextRetrieval"):
        BlipComposer.from_base(str(tmp_path / "parts"), None, Options())
