"""Two steps of each training give folders and files that the package loads."""

import math
import random
from pathlib import Path

import open_clip
import pytest
import torch

from demo.draw.attributes import Garment, Scene, attributes, draw_thing
from demo.draw.captions import WORD_COUNTS, caption
from demo.draw.images import held_out, label_rows, read_images, write_images
from demo.models import llava
from demo.models.clip import SmallVocabulary, make_clip, model_config, same_texts
from demo.models.encoder import make_encoder, shared_attributes
from demo.models.grading import grade
from demo.models.llava import collate, encode_dialogue, make_captioner
from demo.models.llava_network import FIRST_WEIGHTS, make_model
from demo.models.llava_processor import make_processor, vocabulary
from demo.models.training import AttributeHeads, augmented, batches, contrastive_loss, mixed_batches, normalised, train
from demo.settings import PARAMS_FILE, read_settings
from spn4cir.errors import InputError
from spn4cir.images.preprocess import Preprocess
from spn4cir.json_files import read_json
from spn4cir.positives.llava import load_captioner
from spn4cir.positives.unicom import load_unicom

DEFAULT = read_settings(Path(__file__).parents[2] / PARAMS_FILE)
SCENE = Scene("two", "small", "hollow", "red", "cross", "tan")
QUESTION = [
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "please briefly describe the image in 4 words"}],
    }
]


def tiny():
    """Returns the default settings with two steps of the smallest networks."""
    sections = {
        "images": {"image_size": 32, "train_per_kind": 8, "held_out_per_kind": 4},
        "clip": {"steps": 2, "batch_size": 4, "vision_width": 64, "vision_layers": 2, "text_layers": 1},
        "captioner": {"rounds": 2, "steps": 2, "kept_apart": 4, "batch_size": 4, "width": 64, "layers": 1},
        "encoder": {"steps": 2, "batch_size": 4, "width": 32, "layers": 1, "embed_dim": 8},
    }
    sections["clip"] |= {"measured_batch": 4}
    return DEFAULT.model_copy(
        update={name: getattr(DEFAULT, name).model_copy(update=values) for name, values in sections.items()}
    )


def strict(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    settings = tiny()
    write_images(settings.images, root / "images")
    make_clip(settings, root / "images", root / "clip", root / "clip.json")
    outs = [root / "captioner", root / "captioner2"]
    make_captioner(settings, root / "images", root / "clip", outs, root / "captioner.json")
    make_encoder(settings, root / "images", [root / "unicom.pt", root / "unicom2.pt"], root / "encoder.json")
    return root


def same_files(first, second):
    return {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


def test_images_read_back_and_differ_from_the_held_out_ones(made):
    shown = read_images(made / "images")
    for kind in (Garment, Scene):
        pixels = shown[kind.__name__].pixels
        assert pixels.shape == (8, 3, 32, 32)
        assert pixels.dtype == torch.uint8
        _, images = held_out(kind, tiny().images)
        plain = Preprocess(32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        unseen = torch.stack([(plain(image) * 255).byte() for image in images])
        assert not any(torch.equal(a, b) for a in pixels for b in unseen)


def test_clip_folder_loads_in_open_clip(made):
    model = open_clip.create_model(f"local-dir:{made / 'clip'}", require_pretrained=True)
    tokens = open_clip.SimpleTokenizer(context_length=32)(["a red dress"])
    assert model.visual.transformer.resblocks[0].attn.num_heads == 1
    assert isinstance(model.visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
    assert model.token_embedding.weight.shape == (49408, 64)
    assert model.encode_text(tokens).shape == model.encode_image(torch.zeros(1, 3, 32, 32)).shape


def test_small_vocabulary_changes_no_output_and_keeps_what_was_trained():
    torch.manual_seed(0)
    model = open_clip.CLIP(**model_config(tiny().clip, 32)).eval()
    tokens = open_clip.SimpleTokenizer(context_length=32)(["a red dress", "three large stars"])
    before = model.encode_text(tokens)
    small = SmallVocabulary(model, tokens)
    assert torch.equal(model.encode_text(small.compact(tokens)), before)
    with torch.no_grad():
        model.token_embedding.weight.add_(1.0)
    changed = model.encode_text(small.compact(tokens))
    small.restore()
    assert torch.equal(model.encode_text(tokens), changed)


def test_captioner_answers_through_the_production_code(made):
    captioner = load_captioner(str(made / "captioner"), None, torch.float32, torch.device("cpu"), "none")
    _, images = held_out(Scene, tiny().images)
    short, long = ("please briefly describe the image in 4 words", "please briefly describe the dress in 4 words now")
    inputs = captioner.prepare(images[:2], [short, long])
    assert inputs["attention_mask"][0, 0] == 0, "padded on the left"
    assert len(captioner.generate(inputs, 8)) == 2
    assert same_files(made / "captioner", made / "captioner2")


def test_vision_tower_is_the_clips():
    torch.manual_seed(0)
    settings = tiny()
    clip = open_clip.CLIP(**model_config(settings.clip, 32)).eval()
    model = make_model(clip, make_processor(32, settings.clip.patch_size), settings.captioner).eval()
    images = torch.randn(2, 3, 32, 32)
    pooled = model.model.vision_tower(images).pooler_output
    torch.testing.assert_close(pooled @ clip.visual.proj, clip.encode_image(images), atol=1e-5, rtol=1e-5)


def test_chat_template_has_the_form_of_llava():
    processor = make_processor(32, 16)
    turn = processor.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert turn == "USER: <image>\nplease briefly describe the image in 4 words ASSISTANT:"


def test_training_dialogue_begins_as_the_production_asks():
    processor = make_processor(32, 16)
    _, (image, *_) = held_out(Scene, tiny().images)
    turn = processor.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    asked = processor(images=[image], text=[turn], return_tensors="pt")["input_ids"][0].tolist()
    ids, length = encode_dialogue(processor, SCENE, "image", 4)
    assert ids[:length] == asked
    assert asked.count(processor.tokenizer.convert_tokens_to_ids("<image>")) == 4
    assert processor.tokenizer.decode(ids[length:], skip_special_tokens=True) == caption(SCENE, 4)


def test_only_answers_have_labels():
    batch = collate([([1, 2, 3, 4], 2), ([1, 5], 1)], padding=0)
    assert batch["labels"].tolist() == [[-100, -100, 3, 4], [-100, 5, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_vocabulary_knows_every_word_of_captions():
    words = set(vocabulary())
    assert len(words) == len(vocabulary())
    assert set(" ".join(caption(SCENE, count) for count in WORD_COUNTS).split()) <= words


def test_encoder_is_in_unicoms_format(made):
    state = torch.load(made / "unicom.pt", weights_only=True)
    assert state["feature.2.weight"].dtype == torch.float16
    features = load_unicom(made / "unicom.pt")(torch.zeros(2, 3, 32, 32))
    assert features.shape == (2, 8)
    assert (made / "unicom.pt").read_bytes() == (made / "unicom2.pt").read_bytes()


def test_measurements_are_written(made):
    captioner = read_json(made / "captioner.json")
    assert captioner["images"] == 8
    assert set(captioner["accuracy"]) == {f"garment.{n}" for n in Garment.VALUES} | {f"scene.{n}" for n in Scene.VALUES}
    assert captioner["min"] == captioner["accuracy"][captioner["worst"]]
    assert read_json(made / "clip.json")["chance"] == 25.0
    assert read_json(made / "encoder.json")["images"] == 8


@pytest.mark.parametrize(("wanted", "below"), [(100.1, ["mean", "min"]), (0.0, [])])
def test_a_weak_captioner_is_reported_and_used(made, tmp_path, capsys, wanted, below):
    """No accuracy is above 100 or below 0, so the quality of the model does not matter."""
    settings = strict(tiny(), "captioner", rounds=1, wanted_mean_accuracy=wanted, wanted_attribute_accuracy=wanted)
    make_captioner(settings, made / "images", made / "clip", [tmp_path / "out"], tmp_path / "m.json")
    assert read_json(tmp_path / "m.json")["below"] == below
    assert capsys.readouterr().err.count("the demo's captioner is weaker than wanted") == len(below)
    load_captioner(str(tmp_path / "out"), None, torch.float32, torch.device("cpu"), "none")


@pytest.mark.parametrize(("reached", "rounds"), [([88.0], 1), ([70.0, 87.9, 90.0], 3), ([50.0, 60.0, 70.0, 99.0], 3)])
def test_rounds_end_once_the_images_kept_apart_are_described_well(made, monkeypatch, reached, rounds):
    settings = tiny().captioner.model_copy(update={"steps": 1, "rounds": 3, "enough": 88.0})
    asked, shown = [], []

    def describe(captioner, kinds):
        assert not captioner.model.training
        asked.append([things for things, _ in kinds])
        return {"min": reached[len(asked) - 1]}

    def lessons(model, processor, kinds, heads, settings):
        shown.extend(kinds)
        while True:
            yield sum(parameter.sum() for parameter in model.parameters()) * 0.0

    monkeypatch.setattr(llava, "describes", describe)
    monkeypatch.setattr(llava, "lessons", lessons)
    processor = make_processor(32, tiny().clip.patch_size)
    clip = open_clip.CLIP(**model_config(tiny().clip, 32))
    model = make_model(clip, processor, settings)
    assert llava.train_llava(model, processor, made / "images", settings) == {
        "rounds": rounds,
        "apart_min": reached[rounds - 1],
    }
    everything = [kind.things for kind in read_images(made / "images").values()]
    assert asked == [[things[:4] for things in everything]] * rounds
    assert [kind.things for kind in shown] == [things[4:] for things in everything]
    assert all(len(kind.things) == len(kind.pixels) for kind in shown)


def test_the_images_tokens_are_those_that_the_language_model_is_given():
    torch.manual_seed(0)
    settings = tiny()
    processor = make_processor(32, settings.clip.patch_size)
    model = make_model(open_clip.CLIP(**model_config(settings.clip, 32)), processor, settings.captioner).eval()
    inputs = collate([encode_dialogue(processor, SCENE, "image", words) for words in (4, 8)], 0)
    pixels = torch.randn(2, 3, 32, 32)
    loss, tokens = llava.answer(model, pixel_values=pixels, **inputs)
    seen = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    torch.testing.assert_close(tokens, model.model.multi_modal_projector(seen))
    assert loss.item() == pytest.approx(model(pixel_values=pixels, **inputs).loss.item())
    assert not model.model.multi_modal_projector._forward_hooks


def test_the_language_model_begins_with_wide_weights():
    """With the spread for published widths attention is uniform at first, and some attributes are not learnt."""
    torch.manual_seed(0)
    settings = tiny()
    clip = open_clip.CLIP(**model_config(settings.clip, 32))
    model = make_model(clip, make_processor(32, settings.clip.patch_size), settings.captioner)
    query = model.model.language_model.layers[0].self_attn.q_proj.weight
    assert query.std().item() == pytest.approx(FIRST_WEIGHTS, rel=0.1)


def test_training_images_become_pil_images_of_the_same_pixels(made):
    (shown, _) = read_images(made / "images").values()
    images = shown.images(2)
    assert len(images) == 2
    plain = Preprocess(32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert torch.equal((plain(images[1]) * 255).round().byte(), shown.pixels[1])


def test_heads_that_know_nothing_lose_the_mean_log_of_the_values(made):
    shown = list(read_images(made / "images").values())
    heads = AttributeHeads(shown, 3)
    for parameter in heads.parameters():
        torch.nn.init.zeros_(parameter)
    counts = [len(values) for kind in (Garment, Scene) for values in kind.VALUES.values()]
    loss = heads.loss(torch.randn(5, 3), [shown[0].things[:2], shown[1].things[:3]])
    assert loss.item() == pytest.approx(sum(map(math.log, counts)) / len(counts), abs=1e-5)


def test_training_repeats_itself(made, tmp_path):
    make_clip(tiny(), made / "images", tmp_path / "clip", tmp_path / "clip.json")
    assert same_files(made / "clip", tmp_path / "clip")


def test_grade_counts_only_what_the_word_count_names():
    right = grade([SCENE, SCENE], [4, 8], ["two small red crosses", "two large hollow red crosses on tan background"])
    assert right["count"] == [True, True]
    assert right["size"] == [True, False]
    assert right["background"] == [True]


def test_shared_attributes_of_perfect_features():
    labels = label_rows([SCENE, SCENE, Scene("one", "large", "solid", "blue", "star", "mint")])
    near, chance = shared_attributes(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), labels, neighbours=1)
    assert near == pytest.approx(200 / 3)
    assert chance == pytest.approx(100 / 3)


def test_batches_are_full_and_cover_everything():
    source = batches(6, 2, torch.Generator().manual_seed(0))
    assert sorted(index for _ in range(3) for index in next(source)) == list(range(6))
    with pytest.raises(ValueError, match="fewer than a batch of 8"):
        next(batches(6, 8, torch.Generator()))


def test_augmentation_moves_images_but_keeps_their_scale():
    pixels = torch.full((2, 3, 16, 16), 128, dtype=torch.uint8)
    moved = augmented(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    assert (moved - normalised(pixels)).abs().max() < 0.3


def test_train_minimises():
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    losses = ((weight - 1.0).square().sum() for _ in range(200))
    assert train([weight], losses, 100, 0.1, "test") < 0.05


def test_unknown_setting_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((Path(__file__).parents[2] / PARAMS_FILE).read_text() + "extra: 1\n")
    with pytest.raises(InputError, match="extra"):
        read_settings(path)


def test_contrastive_loss_of_equal_logits_is_log_batch():
    distinct = torch.zeros(8, 8, dtype=torch.bool)
    assert contrastive_loss(torch.zeros(8, 8), distinct).item() == pytest.approx(math.log(8))


def test_contrastive_loss_takes_no_equal_text_for_a_negative():
    same = same_texts(torch.tensor([[1, 2], [1, 2], [1, 3], [4, 2]]))
    assert same.tolist() == [[False, True, False, False], [True, False, False, False], [False] * 4, [False] * 4]
    expected = (2 * math.log(3) + 2 * math.log(4)) / 4
    assert contrastive_loss(torch.zeros(4, 4), same).item() == pytest.approx(expected)


def test_every_second_batch_is_alike_in_two_attributes():
    rng = random.Random(0)
    things = [draw_thing(Garment, rng) for _ in range(2000)]
    source = mixed_batches(things, 16, rng)
    for _ in range(5):
        next(source)
        shared = set.intersection(*(set(attributes(things[index]).items()) for index in next(source)))
        assert len(shared) >= 2
