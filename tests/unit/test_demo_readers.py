"""The small BLIP and BLIP-2: their training, and the equality of their outputs with those of the composers."""

import math
import random
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from demo.draw.attributes import Garment, Scene, changed, draw_thing
from demo.draw.captions import free_caption
from demo.draw.changes import change_text
from demo.draw.images import KINDS, write_images
from demo.models import base
from demo.models.base import READERS, make_reader, recall_at1
from demo.models.bert_tokenizer import SPECIAL, WordTokenizer, vocabulary
from demo.models.blip_training import Lessons, Neighbours, see
from demo.settings import PARAMS_FILE, read_settings
from spn4cir.composers import composer_class
from spn4cir.composers.protocol import Options
from spn4cir.json_files import read_json

DEFAULT = read_settings(Path(__file__).parents[2] / PARAMS_FILE)
TEXTS = ["is red and has no sleeves", "show two large solid green stars on tan background"]


def tiny(**values):
    """Returns the default settings with two steps of small networks."""
    sections = {"images": {"image_size": 32, "train_per_kind": 24, "held_out_per_kind": 20}}
    small = {
        "image_steps": 2,
        "steps": 2,
        "batch_size": 4,
        "vision_layers": 1,
        "text_layers": 2,
        "embed_dim": 8,
    }
    sections |= {"blip": small | values, "blip2": small | values}
    return DEFAULT.model_copy(
        update={name: getattr(DEFAULT, name).model_copy(update=change) for name, change in sections.items()}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_images(tiny().images, root / "images")
    for family in READERS:
        make_reader(family, tiny(), root / "images", root / family)
    return root


def drawn(kind, count, seed=0):
    rng = random.Random(seed)
    return [draw_thing(kind, rng) for _ in range(count)]


@pytest.mark.parametrize("family", READERS)
@torch.no_grad()
def test_the_composer_sees_and_composes_as_the_reader_was_taught(made, family):
    """So the stages start from the outputs that were trained."""
    composer = composer_class(family).from_base(str(made / family), None, Options(tokenizer=str(made / family)))
    settings = tiny()
    reader = READERS[family](getattr(settings, family), 32)
    reader.network = type(reader.network).from_pretrained(made / family).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features, states = composer.encode_image(images), see(reader, images)
    targets = reader.targets(states)
    torch.testing.assert_close(features.target, targets, atol=1e-4, rtol=1e-4)
    queries = reader.compose(states, TEXTS)
    torch.testing.assert_close(composer.compose(features.reference, TEXTS), queries, atol=1e-4, rtol=1e-4)
    scores = composer.score(queries, features.target)
    torch.testing.assert_close(scores, reader.score(queries, targets), atol=1e-5, rtol=1e-5)
    assert reader.read(TEXTS).norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_keys_of_the_blip2_tower_keep_no_bias(made):
    network = READERS["blip2"](tiny().blip2, 32).network
    network = type(network).from_pretrained(made / "blip2")
    query, key, value = network.vision_model.encoder.layers[0].self_attn.qkv.bias.chunk(3)
    assert key.abs().max() == 0
    assert query.abs().max() > 0
    assert value.abs().max() > 0


@pytest.mark.parametrize("family", READERS)
def test_a_reader_repeats_itself_and_says_what_it_reached(made, family, tmp_path, capsys):
    make_reader(family, tiny(), made / "images", tmp_path / family)
    assert "garment_change_recall_at1" in capsys.readouterr().out
    measured = read_json(tmp_path / family / "measured.json")
    assert measured["gallery"] == 20
    files = {path.name: path.read_bytes() for path in (tmp_path / family).iterdir()}
    assert files == {path.name: path.read_bytes() for path in (made / family).iterdir()}


@pytest.mark.parametrize(("wanted", "count"), [(100.1, 4), (0.0, 0)])
def test_a_weak_reader_is_reported_and_used(made, tmp_path, capsys, wanted, count):
    """No recall is above 100 or below 0, so the quality of the model does not matter."""
    make_reader("blip", tiny(wanted_recall=wanted), made / "images", tmp_path / "out")
    measured = read_json(tmp_path / "out/measured.json")
    assert len(measured["below"]) == count
    assert set(measured["wanted"].values()) == {wanted}
    assert capsys.readouterr().err.count("the demo's blip is weaker than wanted") == count
    assert (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize("family", base.OVER_CLIP)
def test_families_over_clip_begin_with_copies_of_it(family, tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/weights").write_text("w")
    outs = [tmp_path / "one", tmp_path / "two"]
    flags = [part for out in outs for part in ("--out", str(out))]
    given = ["base", family, "--images", "none", "--clip", str(tmp_path / "clip"), *flags]
    monkeypatch.setattr(sys, "argv", given)
    base.main()
    assert [(out / "weights").read_text() for out in outs] == ["w", "w"]


def test_every_word_of_the_texts_is_a_word_of_the_vocabulary():
    rng = random.Random(0)
    texts = [*TEXTS, "Unlike two red bars, I want a star instead of it"]
    for kind in KINDS:
        things = drawn(kind, 400)
        texts += [free_caption(thing, rng) for thing in things]
        pairs = [(a, b) for a, b in pairwise(things) if a != b]
        texts += [change_text(a, b, rng) for a, b in pairs if not isinstance(a, Garment) or a.category == b.category]
    words = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    assert words <= set(vocabulary())
    assert len(set(vocabulary())) == len(vocabulary())
    assert vocabulary()[: len(SPECIAL)] == SPECIAL


def test_words_are_padded_and_marked():
    words = WordTokenizer(["[ENC]"])
    tokens = words.encode(["red", "red striped dress"])
    assert tokens["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    first = [words.ids[word] for word in ("[CLS]", "red", "[SEP]", "[PAD]", "[PAD]")]
    assert tokens["input_ids"][0].tolist() == first
    assert words.ids["[ENC]"] == len(vocabulary())


def test_targets_differ_in_few_attributes_and_never_in_category():
    for kind in (Garment, Scene):
        things = drawn(kind, 600)
        neighbours = Neighbours(things, random.Random(0))
        for row in range(40):
            names = changed(things[row], things[neighbours.target(row)])
            assert 1 <= len(names) <= 3
            assert "category" not in names


def test_a_target_is_never_of_another_category():
    dress = Garment("dress", "red", "plain", "sleeveless", "short", "v-neck")
    others = [replace(dress, category="shirt"), replace(dress, colour="blue", pattern="dotted", sleeve="long-sleeved")]
    assert {Neighbours([dress, *others], random.Random(seed)).target(0) for seed in range(5)} == {2}
    with pytest.raises(ValueError, match="none of 2 things can be the target of number 0"):
        Neighbours([dress, others[0]], random.Random(0)).target(0)


def test_retrieval_loss_takes_no_equal_image_for_a_negative():
    lessons = Lessons(drawn(Scene, 1)[0], 8, 4)
    same = torch.tensor([[True, False, True, False], [False, True, False, False]])
    loss = lessons.retrieval(torch.zeros(2, 4), same)
    assert loss.item() == pytest.approx((math.log(3) + math.log(4)) / 2)


def test_attribute_loss_of_silent_classifiers_is_the_mean_log_of_the_values():
    things = drawn(Scene, 3)
    lessons = Lessons(things[0], 8, 4)
    for parameter in lessons.parameters():
        torch.nn.init.zeros_(parameter)
    expected = sum(math.log(len(values)) for values in Scene.VALUES.values()) / len(Scene.VALUES)
    for features in (torch.randn(3, 4), torch.randn(3, 2, 4)):
        assert lessons.features(features, things).item() == pytest.approx(expected, abs=1e-5)
    assert lessons.tower(torch.randn(3, 5, 8), things).item() == pytest.approx(expected, abs=1e-5)


def test_recall_counts_every_right_candidate():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    assert recall_at1(scores, torch.tensor([[True, True], [False, True]])) == 50.0
