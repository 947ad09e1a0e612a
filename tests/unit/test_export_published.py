"""Export: the names that the original's module has, the same answers, and nothing of our own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spn4cir.checkpoints.export_published import export_checkpoint
from spn4cir.checkpoints.published import load_composer, save_composer
from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from tests.helpers import blip2, tgcir
from tests.helpers.published import FAMILIES, OPTIONS, options, write_published

TEXTS = ("is red", "has longer sleeves and is blue")
CASES = [(family, stage) for family in FAMILIES for stage in (1, 2)]
CLS = (
    *(f"predictions.{name}" for name in ("bias", "decoder.weight", "decoder.bias")),
    *(f"predictions.transform.{part}.{leaf}" for part in ("dense", "LayerNorm") for leaf in ("weight", "bias")),
)


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def state_of(path: Path) -> dict[str, Tensor]:
    (state,) = (value for value in content_of(path).values() if isinstance(value, dict))
    return state


def answers(composer: Composer) -> tuple[Tensor, Tensor]:
    """Queries and targets of two images with texts."""
    size = composer.preprocess.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = composer.encode_image(images)
        return composer.compose(features.reference, TEXTS), features.target


@pytest.mark.parametrize(("family", "stage"), CASES)
def test_an_export_gives_the_same_answers(tmp_path: Path, family: str, stage: int) -> None:
    """From a published file, and from one of ours, which carries its vocabulary; the export does not."""
    file = write_published(tmp_path / "in.pt", family, stage)
    composer = load_composer(file, family, options(family, tmp_path))
    expected = answers(composer)
    save_composer(composer, tmp_path / "ours.pt", stage, epoch=3)
    for source in (file, tmp_path / "ours.pt"):
        done = export_checkpoint(source, tmp_path / "out.pt", None, OPTIONS.get(family))
        assert (done.family, done.stage) == (family, stage)
        content = content_of(tmp_path / "out.pt")
        assert content.keys() == content_of(file).keys() == {"epoch", done.key}
        assert content["epoch"] == 3
        assert done.tensors == len(content[done.key])
        again = load_composer(tmp_path / "out.pt", family, options(family, tmp_path))
        assert all(torch.equal(one, other) for one, other in zip(expected, answers(again), strict=True))


@pytest.mark.parametrize(("family", "stage"), CASES)
def test_an_export_of_an_export_is_the_same(tmp_path: Path, family: str, stage: int) -> None:
    export_checkpoint(write_published(tmp_path / "in.pt", family, stage), tmp_path / "a.pt", None, OPTIONS.get(family))
    done = export_checkpoint(tmp_path / "a.pt", tmp_path / "b.pt", None, OPTIONS.get(family))
    first, second = state_of(tmp_path / "a.pt"), state_of(tmp_path / "b.pt")
    assert first.keys() == second.keys()
    assert all(first[name].dtype == second[name].dtype for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not done.widened


def extras(family: str, stage: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a published file may hold besides, the prefix of its container included."""
    if family == "tgcir":
        shapes = {name: tuple(tensor.shape) for name, tensor in tgcir.extras().items()}
        return {name: shape for name, shape in shapes.items() if stage == 1 or name != "loss_T"}
    if family == "blip2":
        words, width = blip2.EMBEDDINGS, blip2.WIDTH
        shapes = {"prompt_tokens": (1, blip2.QUERIES, width), "itm_head.weight": (2, width), "itm_head.bias": (2,)}
        ends = {"decoder.weight": (words, width), "decoder.bias": (words,), "dense.weight": (width, width)}
        for name in ("Qformer", "Qformer_query")[:stage]:
            shapes[f"{name}.bert.embeddings.position_ids"] = (1, blip2.POSITIONS)
            for leaf in CLS:
                end = leaf.removeprefix("predictions.").removeprefix("transform.")
                shapes[f"{name}.cls.{leaf}"] = ends.get(end, (words,) if end == "bias" else (width,))
        return {(blip2.PREFIX if stage == 2 else "") + name: shape for name, shape in shapes.items()}
    return {}


@pytest.mark.parametrize(("family", "stage"), CASES)
def test_an_export_has_every_name_of_the_original_and_lists_what_is_filled(
    tmp_path: Path, family: str, stage: int
) -> None:
    done = export_checkpoint(
        write_published(tmp_path / "in.pt", family, stage), tmp_path / "out.pt", None, OPTIONS.get(family)
    )
    given, state, expected = state_of(tmp_path / "in.pt"), state_of(tmp_path / "out.pt"), extras(family, stage)
    assert state.keys() == given.keys() | expected.keys()
    assert set(done.filled) == expected.keys()
    assert {name: tuple(state[name].shape) for name in expected} == expected
    kept = given.keys() - expected.keys() - ({"blip.temp"} if (family, stage) == ("blip", 2) else set())
    assert all(torch.equal(state[name], given[name]) for name in kept)


@pytest.mark.parametrize("stage", [1, 2])
def test_what_blip2_is_filled_with_leaves_its_embeddings_alone(tmp_path: Path, stage: int) -> None:
    """The original's decoder is its word embeddings under a second name: loading writes both into one tensor."""
    export_checkpoint(write_published(tmp_path / "in.pt", "blip2", stage), tmp_path / "out.pt")
    state = {name.removeprefix(blip2.PREFIX): tensor for name, tensor in state_of(tmp_path / "out.pt").items()}
    for name in ("Qformer", "Qformer_query")[:stage]:
        words = state[f"{name}.bert.embeddings.word_embeddings.weight"]
        assert torch.equal(state[f"{name}.cls.predictions.decoder.weight"], words)
        assert state[f"{name}.bert.embeddings.position_ids"].tolist() == [list(range(blip2.POSITIONS))]


def test_a_second_stage_of_tgcir_has_no_name_that_marks_the_first(tmp_path: Path) -> None:
    file = write_published(tmp_path / "in.pt", "tgcir", 2)
    assert export_checkpoint(file, tmp_path / "out.pt", "tgcir", tgcir.OPTIONS).stage == 2
    assert export_checkpoint(tmp_path / "out.pt", tmp_path / "b.pt", "tgcir", tgcir.OPTIONS).stage == 2


def test_half_precision_becomes_float32_and_is_reported(tmp_path: Path) -> None:
    """The published first-stage files contain BLIP-2's ViT matrices in half precision."""
    content = blip2.container(blip2.published_state())
    state = content["Blip2QformerCirAlignPrompt"]
    name = "visual_encoder.blocks.0.mlp.fc1.weight"
    state[name] = state[name].half()
    torch.save(content, tmp_path / "in.pt")
    assert export_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt").widened
    written = state_of(tmp_path / "out.pt")[name]
    assert written.dtype is torch.float32
    assert torch.equal(written, state[name].float())


def test_a_file_without_an_epoch_is_exported_as_epoch_0(tmp_path: Path) -> None:
    content = content_of(write_published(tmp_path / "in.pt", "clip"))
    torch.save({"CLIP": content["CLIP"]}, tmp_path / "in.pt")
    export_checkpoint(tmp_path / "in.pt", tmp_path / "out.pt", "zs_cc")
    assert content_of(tmp_path / "out.pt")["epoch"] == 0


def test_a_checkpoint_is_not_exported_onto_itself(tmp_path: Path) -> None:
    file = write_published(tmp_path / "in.pt", "clip")
    (tmp_path / "link.pt").symlink_to(file)
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"link\.pt: is the checkpoint itself; give the name of another file"):
        export_checkpoint(file, tmp_path / "link.pt")
    assert file.read_bytes() == before
