"""BLIP-2: its formulas, its published names, what each stage trains, and files that are refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig

from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers.blip2 import Blip2Composer, clean
from spn4cir.composers.blip2_keys import KEYS, join_biases
from spn4cir.composers.protocol import Options
from spn4cir.errors import InputError
from spn4cir.losses import token_info_nce
from tests.helpers import plain_blip2 as plain
from tests.helpers.blip2 import (
    DIM,
    IMAGE_WIDTH,
    QUERIES,
    SIZE,
    TEMP,
    container,
    extras,
    published_state,
    write_checkpoint,
)
from tests.helpers.words import WORDS, write_vocabulary

OPTIONS = Options(vocabulary=WORDS)
TEXTS = ["is red", "a longer floral dress with darker sleeves", "green"]
ROWS = torch.arange(3)
STAGES = pytest.mark.parametrize("stage", [1, 2])


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def composer_of(stage: int = 1, options: Options = OPTIONS, **sizes: int) -> Blip2Composer:
    return Blip2Composer.from_state(published_state(stage, **sizes), stage, "a.pt", options)


def ids_and_mask(texts: list[str]) -> tuple[Tensor, Tensor]:
    """`[CLS]`, the words, `[SEP]`, padded to the limit; the vocabulary contains every word."""
    rows = [[WORDS.index(word) for word in ("[CLS]", *text.split(), "[SEP]")] for text in texts]
    ids = torch.tensor([row + [WORDS.index("[PAD]")] * (32 - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (32 - len(row)) for row in rows])


@STAGES
@pytest.mark.parametrize(("layers", "every"), [(3, 2), (2, 1), (2, 2)])
def test_features_are_those_of_the_formulas(stage: int, layers: int, every: int) -> None:
    """Reference tokens, target and query, both passes, to 1e-5; cross-attention where the file has one."""
    state = published_state(stage, layers, every)
    composer = composer_of(stage, layers=layers, every=every)
    with torch.no_grad():
        features = composer.encode_image(images())
        query = composer.compose(features.reference, TEXTS)
    tokens = plain.image_tokens(state, images())
    torch.testing.assert_close(features.reference, tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.target, plain.target(state, tokens), rtol=0, atol=1e-5)
    torch.testing.assert_close(query, plain.query(state, *ids_and_mask(TEXTS), tokens), rtol=0, atol=1e-5)


def test_a_fusion_is_that_of_the_triplets_own_text() -> None:
    """One reference in two triplets of a batch: each query is the one that its own pair gives alone."""
    composer = composer_of(2)
    with torch.no_grad():
        reference = composer.encode_image(images(1)).reference
        fusions = [composer.fuse(reference, composer._words.encode([text], 32)) for text in TEXTS[:2]]
        together = composer.compose(reference.expand(2, -1, -1), TEXTS[:2])
        alone = torch.cat([composer.compose(reference, [text]) for text in TEXTS[:2]])
    assert float((fusions[0] - fusions[1]).norm(dim=-1).min()) > 0.05
    assert float((alone[0] - alone[1]).norm()) > 0.05
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@STAGES
def test_published_names_and_back_is_the_identity(stage: int) -> None:
    """The extras, which the network does not read, do not come back."""
    published = container(published_state(stage), stage)
    composer = Blip2Composer.from_state(published_state(stage) | extras(stage), stage, "a.pt", OPTIONS)
    written = composer.published(stage, 3)
    key = "Blip2QformerCirAlignPrompt" if stage == 1 else "state_dict"
    assert list(written) == list(published)
    assert written[key].keys() == published[key].keys()
    assert all(torch.equal(written[key][name], tensor) for name, tensor in published[key].items())


@STAGES
def test_every_name_is_used_once(stage: int) -> None:
    """No two published names become one of ours but for the joined biases, and every pair of the table serves."""
    state = published_state(stage)
    biases = [name for name in state if name.endswith("_bias")]
    assert len(biases) == 4
    names = state.keys() - set(biases)
    join_biases(state, "a.pt")
    ours = KEYS[stage].to_ours(state, "a.pt")
    assert len(ours) == len(names) + len(biases) // 2
    assert ours.keys() == composer_of(stage).state_dict().keys()
    assert not state
    left = {pair[0].replace("{i}", "0") for pair in KEYS[stage].pairs}
    assert left == {pair for pair in left if pair in names or f"{pair}.weight" in names}


def test_a_network_of_stage_1_is_written_as_stage_2_with_equal_passes() -> None:
    first = published_state(1)
    written = composer_of(1).published(2, 3)["state_dict"]
    assert written.keys() == container(published_state(2), 2)["state_dict"].keys()
    for name in ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.crossattention.self.key.bias"):
        assert torch.equal(written[f"blip_model.Qformer_query.{name}"], first[f"Qformer.{name}"])
    assert torch.equal(written["blip_model.text_proj_q.weight"], first["text_proj.weight"])


def test_a_network_of_stage_2_is_not_written_as_stage_1() -> None:
    with pytest.raises(InputError, match="a stage-1 file cannot contain the second pass"):
        composer_of(2).published(1, 3)


def test_weights_are_taken_as_they_are() -> None:
    """No second copy in memory: but for float16 and the joined biases, the parameters are the file's tensors."""
    state = published_state(2)
    half = [name for name in state if name.startswith("visual_encoder.") and state[name].ndim > 1]
    values = {name: state[name].half().float() for name in half}
    state |= {name: state[name].half() for name in half}
    tensors = list(state.values())
    composer = Blip2Composer.from_state(state, 2, "a.pt", OPTIONS)
    assert not state
    places = {tensor.data_ptr() for tensor in tensors}
    moved = {name for name, parameter in composer.named_parameters() if parameter.data_ptr() not in places}
    assert {name.split(".")[0] for name in moved} == {"vision_model"}
    assert len(moved) == len(half) + 2
    assert not any(tensor.is_meta for tensor in (*composer.parameters(), *composer.buffers()))
    assert {parameter.dtype for parameter in composer.parameters()} == {torch.float32}
    assert {module.training for module in composer.modules()} == {False}
    written = composer.published(2, 0)["state_dict"]
    assert all(torch.equal(written[f"blip_model.{name}"], tensor) for name, tensor in values.items())


def test_sizes_and_preprocessing_are_read_off_the_shapes() -> None:
    composer = composer_of()
    assert (composer.preprocess.size, composer.preprocess.target_ratio) == (SIZE, 1.25)
    assert float(composer.temperature.detach()) == pytest.approx(TEMP)
    with torch.no_grad():
        reference, target = composer.encode_image(images())
    assert reference.shape == (3, 10, IMAGE_WIDTH)
    assert target.shape == (3, QUERIES, DIM)
    torch.testing.assert_close(target.norm(dim=2), torch.ones(3, QUERIES))


def test_a_head_width_that_is_named_counts() -> None:
    """The same weights in other heads are another network."""
    wide = Options(vocabulary=WORDS, vision_head_width=176, text_head_width=128)
    with torch.no_grad():
        reference, _ = composer_of().encode_image(images())
        other, _ = composer_of(options=wide).encode_image(images())
        query, other_query = (composer_of(options=o).compose(reference, TEXTS) for o in (OPTIONS, wide))
    assert float((reference - other).norm(dim=2).min()) > 1e-3
    assert float((query - other_query).norm(dim=1).min()) > 1e-3


def test_score_is_the_largest_dot_product_and_contrast_its_loss() -> None:
    composer = composer_of()
    with torch.no_grad():
        reference, target = composer.encode_image(images())
        queries = composer.compose(reference, TEXTS)
    expected = torch.tensor([[max(float(q @ token) for token in tokens) for tokens in target] for q in queries])
    torch.testing.assert_close(composer.score(queries, target), expected)
    loss = composer.contrast(queries, target, ROWS, 0.1)
    torch.testing.assert_close(loss, token_info_nce(queries, target, ROWS, 0.1))
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(expected / 0.1, ROWS))


def test_a_batch_equals_its_items_in_any_order() -> None:
    composer = composer_of(2)
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
    composer.vision_model.embeddings.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with torch.no_grad():
        composer.encode_image(images())
    assert seen == [3]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('Is "Red". (And) *blue* #1: yes; ~no!', "is red and blue 1 yes no"),
        ("  a   b\t\nc ", "a b c"),
        ("it's red, not-blue?", "it's red, not-blue?"),
        ("...", ""),
    ],
)
def test_clean_up(text: str, cleaned: str) -> None:
    """. ! " ( ) * # : ; ~ become spaces, spaces are squeezed; other punctuation stays."""
    assert clean(text) == cleaned


def test_the_network_reads_cleaned_texts() -> None:
    composer = composer_of()
    with torch.no_grad():
        reference = composer.encode_image(images(1)).reference.expand(2, -1, -1)
        queries = composer.compose(reference, ["RED; (with) Sleeves!", "red with sleeves"])
    assert torch.equal(queries[0], queries[1])


def test_texts_beyond_the_limit_are_cut_and_counted_before() -> None:
    """30 words fill the limit with start and end; more than 50 words, which are cut first, are counted whole."""
    composer = composer_of()
    assert composer.max_tokens == 32
    texts = ["", "red!", "red " * 30, "red " * 31, "red " * 60]
    assert [composer.count_tokens(text) for text in texts] == [2, 3, 32, 33, 62]
    with torch.no_grad():
        reference = composer.encode_image(images(1)).reference.expand(3, -1, -1)
        queries = composer.compose(reference, ["red " * 30, "red " * 30 + "blue", "red " * 60 + "blue"])
    assert torch.equal(queries[0], queries[1])
    assert torch.equal(queries[0], queries[2])


def test_half_precision_references_and_autocast_keep_unit_norms() -> None:
    """A bank may hold 16 bits, and training runs under autocast."""
    composer = composer_of(2)
    with torch.no_grad():
        reference, _ = composer.encode_image(images())
        full = composer.compose(reference, TEXTS)
        stored = composer.compose(reference.half(), TEXTS)
        with torch.autocast("cpu", torch.bfloat16):
            fast = composer.compose(composer.encode_image(images()).reference, TEXTS)
    torch.testing.assert_close(stored, full, rtol=0, atol=5e-3)
    torch.testing.assert_close(fast, full, rtol=0, atol=0.1)
    torch.testing.assert_close(fast.norm(dim=1), torch.ones(3))


@STAGES
def test_dropout_acts_in_training_alone_and_never_in_what_is_frozen(stage: int) -> None:
    """Stage 2's fusion comes of a frozen Q-Former, as from the original's bank."""
    composer = composer_of(stage)
    composer.train_stage(stage)
    text = composer._words.encode(TEXTS, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        composer.train()
        features = [composer.encode_image(images()) for _ in range(2)]
        fusions = [composer.fuse(features[0].reference, text) for _ in range(2)]
        queries = [composer.compose(features[0].reference, TEXTS) for _ in range(2)]
        composer.eval()
        calm = [composer.compose(features[0].reference, TEXTS) for _ in range(2)]
    assert torch.equal(features[0].reference, features[1].reference)
    assert torch.equal(features[0].target, features[1].target) == (stage == 2)
    assert torch.equal(fusions[0], fusions[1]) == (stage == 2)
    assert float((queries[0] - queries[1]).norm(dim=1).min()) > 1e-3
    assert torch.equal(calm[0], calm[1])


def moved(composer: Blip2Composer, stage: int) -> set[str]:
    """The tensors that one step of the stage's loss changes."""
    trained = composer.train_stage(stage)
    composer.temperature.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in composer.state_dict().items()}
    optimiser = torch.optim.SGD([*trained.backbone, *trained.heads, composer.temperature], lr=0.1)
    features = composer.encode_image(images())
    targets = features.target.roll(1, 0)
    if stage == 1:
        loss = composer.contrast(composer.compose(features.reference, TEXTS), targets, ROWS, composer.temperature)
    else:
        queries = composer.compose(features.reference, TEXTS)
        loss = composer.contrast(queries, targets, ROWS, composer.temperature)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    after = composer.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


# The gradient of a softmax does not depend on what all its logits have in common.
KEY_BIASES = "attention.key.bias"


def test_stage_1_moves_all_but_the_vit() -> None:
    composer = composer_of(1)
    kept = {name for name in composer.state_dict() if name.startswith("vision_model.") and "post_layernorm" not in name}
    changed = moved(composer, 1)
    assert not changed & kept
    assert {name for name in composer.state_dict().keys() - kept - changed if not name.endswith(KEY_BIASES)} == set()


@STAGES
def test_stage_2_moves_what_the_second_pass_runs_through(stage: int) -> None:
    """From either stage's file; the copies begin as the first Q-Former, or as the file holds them."""
    composer = composer_of(stage)
    trained = composer.train_stage(2)
    assert composer.second is not None
    begun = composer.second.text_proj.weight.detach().clone()
    assert torch.equal(begun, published_state(stage)["text_proj.weight" if stage == 1 else "text_proj_q.weight"])
    assert {id(p) for p in trained.heads} == {id(p) for p in composer.second.text_proj.parameters()}
    second = {name for name in composer.state_dict() if name.startswith("second.")}
    unused = {name for name in second if "crossattention" in name or "_query." in name}
    assert len(unused) == 2 * 10 + 3 * 6
    changed = moved(composer, 2)
    assert changed <= second - unused | {"temperature"}
    assert {name for name in second - unused - changed if not name.endswith(KEY_BIASES)} == set()
    assert "temperature" in changed
    frozen = dict(composer.frozen_tensors())
    assert frozen.keys() == composer.state_dict().keys() - second - {
        "temperature",
        "text_proj.weight",
        "text_proj.bias",
    }


def test_a_second_call_keeps_the_copies() -> None:
    composer = composer_of(1)
    composer.train_stage(2)
    second = composer.second
    composer.train_stage(2)
    assert composer.second is second


@STAGES
def test_saved_and_loaded_is_unchanged_and_needs_no_tokenizer(tmp_path: Path, stage: int) -> None:
    """A published file, extras and all, needs the tokenizer named; ours carries the vocabulary."""
    published = write_checkpoint(tmp_path / "published.pt", stage)
    composer = load_composer(published, options=Options(tokenizer=str(tmp_path)))
    save_composer(composer, tmp_path / "ours.pt", stage, 1)
    again = load_composer(tmp_path / "ours.pt", "blip2")
    assert again.vocabulary == WORDS
    with torch.no_grad():
        reference = composer.encode_image(images()).reference
        assert torch.equal(composer.compose(reference, TEXTS), again.compose(reference, TEXTS))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in composer.state_dict().items())


@STAGES
def test_missing_unexpected_and_misshapen_names_are_listed(stage: int) -> None:
    state = published_state(stage)
    del state["ln_vision.bias"]
    del state["visual_encoder.blocks.1.attn.q_bias"], state["visual_encoder.blocks.1.attn.v_bias"]
    state["text_proj.bias"] = torch.zeros(DIM + 1)
    with pytest.raises(InputError) as raised:
        Blip2Composer.from_state(state, stage, "a.pt", OPTIONS)
    message = str(raised.value)
    assert message.startswith("a.pt: ")
    block = "visual_encoder.blocks.1.attn"
    assert f"missing ['ln_vision.bias', '{block}.q_bias', '{block}.v_bias']" in message
    assert f"text_proj.bias ({DIM + 1},) instead of ({DIM},)" in message


def test_half_of_a_bias_pair_is_refused() -> None:
    state = published_state()
    del state["visual_encoder.blocks.0.attn.v_bias"]
    with pytest.raises(InputError, match=r"a\.pt: missing \['visual_encoder\.blocks\.0\.attn\.v_bias'\]"):
        Blip2Composer.from_state(state, 1, "a.pt", OPTIONS)


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        (1, "text_proj_q.weight"),
        (1, "Qformer_query.cls.predictions.bias"),
        (2, "itm_head.scale"),
        (2, "adapter.bias"),
        (2, "visual_encoder.blocks.0.attn.qkv.bias"),
    ],
)
def test_names_of_no_table_are_refused(stage: int, name: str) -> None:
    with pytest.raises(InputError, match=rf"a\.pt: unexpected \['{name}'\]; check the file and the family"):
        Blip2Composer.from_state(published_state(stage) | {name: torch.zeros(1)}, stage, "a.pt", OPTIONS)


@pytest.mark.parametrize(
    "name",
    [
        "visual_encoder.pos_embed",
        "text_proj.weight",
        "query_tokens",
        "Qformer.bert.embeddings.word_embeddings.weight",
        "Qformer.bert.encoder.layer.0.intermediate.dense.weight",
    ],
)
@pytest.mark.parametrize("damage", ["gone", "scalar", "half"])
def test_no_damage_ends_in_a_traceback(name: str, damage: str) -> None:
    """Sizes are read off tensors that a damaged file may lack or hold in another shape."""
    state = published_state()
    whole = state.pop(name)
    if damage != "gone":
        state[name] = whole[..., : whole.shape[-1] // 2].clone() if damage == "half" else torch.tensor(1.0)
    with pytest.raises(InputError, match=r"^a\.pt: (is not a BLIP-2|the sizes of its tensors|does not fit)"):
        Blip2Composer.from_state(state, 1, "a.pt", OPTIONS)


def base_network(**vision: str) -> Blip2ForImageTextRetrieval:
    """transformers' own network of the size of `published_state`, in other heads, nothing at its initial 0 or 1."""
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=96, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3, image_size=16,
            patch_size=8, layer_norm_eps=1e-6, **vision,
        ),
        qformer_config=Blip2QFormerConfig(
            vocab_size=len(WORDS) + 1, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=96, max_position_embeddings=40, use_qformer_text_input=True,
        ),
        text_config=OPTConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, ffn_dim=8),
        num_query_tokens=QUERIES,
        image_text_hidden_size=DIM,
    )  # fmt: skip
    network = Blip2ForImageTextRetrieval(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_a_base_model_of_a_folder(tmp_path: Path) -> None:
    """Its image features, with LAVIS's eps of `ln_vision`; its heads and its folder's vocabulary count."""
    network = base_network()
    network.save_pretrained(write_vocabulary(tmp_path / "base"))
    composer = Blip2Composer.from_base(str(tmp_path / "base"), None, Options())
    network.vision_model.post_layernorm.eps = 1e-5
    ids = torch.tensor([[2, 6, 3]])
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = network(pixels, ids, torch.ones_like(ids), use_image_text_matching_head=False)
        target = composer.encode_image(pixels).target
    torch.testing.assert_close(target, theirs.image_embeds, rtol=0, atol=1e-5)
    assert composer.vocabulary == WORDS
    published = composer.published(1, 0)["Blip2QformerCirAlignPrompt"]
    assert torch.equal(published["text_proj.weight"], network.text_projection.weight)
    words = "Qformer.bert.embeddings.word_embeddings.weight"
    assert torch.equal(published[words], network.embeddings.word_embeddings.weight)


def test_a_base_model_of_another_activation_is_refused(tmp_path: Path) -> None:
    base_network(hidden_act="quick_gelu").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"base model {tmp_path}: its activation is quick_gelu, BLIP's is gelu"):
        Blip2Composer.from_base(str(tmp_path), None, Options())
