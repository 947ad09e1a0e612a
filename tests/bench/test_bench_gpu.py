"""Each family at its real sizes on a GPU: a stage-2 step at the published batch size, its memory, and encoding."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from pytest_benchmark.fixture import BenchmarkFixture
from transformers import (
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
)

from spn4cir.composers import blip, blip2
from spn4cir.composers.bert_tokenizer import BertWords
from spn4cir.composers.clip import AdditionComposer
from spn4cir.composers.protocol import Options
from spn4cir.composers.tgcir import TgcirComposer
from spn4cir.config.load import load_params
from spn4cir.config.training import Train
from spn4cir.losses import INFO_NCE, Contrast
from spn4cir.training.optimiser import TrainingRun, autocast_dtype, set_dropout
from tests.conformance.builders import Subject, images
from tests.conftest import CPU
from tests.helpers.contrasts import EXAMPLES, example
from tests.helpers.words import WORDS

# Size of FashionIQ's bank.
IMAGES = 25_136
ROUNDS = 5
TEXT = "is blue and has longer sleeves"


def _clip(model: str) -> tuple[CLIP, int]:
    sizes = open_clip.get_model_config(model)
    assert sizes is not None
    vision, text = CLIPVisionCfg(**sizes["vision_cfg"]), CLIPTextCfg(**sizes["text_cfg"])
    return CLIP(sizes["embed_dim"], vision, text, quick_gelu=True), sizes["vision_cfg"]["image_size"]


def _words(added: tuple[str, ...], embeddings: int) -> BertWords:
    """Returns the few words of the tests, filled up to the published number."""
    fill = tuple(f"[{number}]" for number in range(embeddings - len(added) - len(WORDS)))
    return BertWords(Options(vocabulary=(*WORDS, *fill)), added, embeddings, "full size")


def _blip() -> blip.BlipComposer:
    vision = BlipVisionModel(BlipVisionConfig(image_size=384, patch_size=16))
    text = BlipTextModel(BlipTextConfig(vocab_size=30524, encoder_hidden_size=768), add_pooling_layer=False)
    return blip.BlipComposer(vision, text, 256, _words(blip.ADDED_TOKENS, 30524))


def _blip2() -> blip2.Blip2Composer:
    qformer = Blip2QFormerConfig(vocab_size=30523, use_qformer_text_input=True)
    return blip2.Blip2Composer(Blip2VisionConfig(), qformer, 32, 256, _words(blip2.ADDED_TOKENS, 30523))


FULL: dict[str, Callable[[], Any]] = {
    "clip": lambda: AdditionComposer(*_clip("RN50x4")),
    "tgcir": lambda: TgcirComposer(*_clip("ViT-B-16")),
    "blip": _blip,
    "blip2": _blip2,
    "zs": lambda: AdditionComposer(*_clip("ViT-L-14")),
}


def published(family: str) -> Train:
    """Returns the settings of FashionIQ's second stage."""
    return load_params(Path(__file__).parents[2] / "params.yaml").train["fiq"][family]


def step_of(
    network: Any, settings: Train, rows: int, device: torch.device
) -> tuple[Callable[..., None], Callable[[], Any]]:
    """Returns a training step of the second stage against `rows` bank rows, and an encoding step.

    The training step takes the loss; every target is the first row.
    """
    run = TrainingRun.begin(network, settings, 2, 1, device)
    set_dropout(network, settings.dropout, 0)
    pixels = images(network, settings.batch_size).to(device)
    encode = torch.inference_mode()(partial(network.encode_image, pixels))
    with torch.no_grad():
        features = network.encode_image(pixels)
    bank = F.normalize(torch.randn(rows, *features.target.shape[1:], device=device), dim=-1)
    labels = torch.zeros(settings.batch_size, dtype=torch.long, device=device)
    dtype = autocast_dtype(settings, device)

    def step(contrast: Contrast = INFO_NCE) -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            texts = [TEXT] * settings.batch_size
            queries = network.compose(features.reference.float(), texts)
            loss = network.contrast(queries, bank, labels, network.temperature, contrast)
        run.optimiser.zero_grad(set_to_none=True)
        run.step(loss)

    return step, encode


def waited(operation: Callable[[], Any], device: torch.device) -> float:
    """Returns the seconds until the device has finished."""
    started = perf_counter()
    operation()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - started


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: steps at real sizes are measured on a GPU")
@pytest.mark.parametrize("family", FULL)
def test_a_step_at_real_sizes(benchmark: BenchmarkFixture, family: str) -> None:
    """Forward, backward and AdamW against 25,136 rows, float16 autocast; memory includes network, bank and batch.

    Then with each loss beside InfoNCE.
    """
    device, settings = torch.device("cuda"), published(family)
    torch.manual_seed(0)
    step, encode = step_of(FULL[family]().eval().to(device), settings, IMAGES, device)
    encoding = min(waited(encode, device) for _ in range(ROUNDS))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    benchmark.pedantic(waited, args=(step, device), rounds=ROUNDS, warmup_rounds=2)
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name(),
        batch=settings.batch_size,
        peak_mb=round(torch.cuda.max_memory_allocated() / 1e6),
        encoded_images_per_second=round(settings.batch_size / encoding),
    )
    for name in EXAMPLES:
        with_loss = partial(step, example(name, settings.batch_size, IMAGES))
        benchmark.extra_info[f"{name}_seconds"] = min(waited(with_loss, device) for _ in range(ROUNDS))


@pytest.mark.parametrize("loss", EXAMPLES)
@pytest.mark.parametrize("family", FULL)
def test_the_same_path_with_a_tiny_network(tmp_path: Path, family: str, loss: str) -> None:
    """On the CPU: the measured step trains the query side."""
    torch.manual_seed(0)
    settings = published(family).model_copy(update={"batch_size": 2})
    network = Subject(family, 1, tmp_path).load()
    step, encode = step_of(network, settings, 200, CPU)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    frozen = [tensor.clone() for _, tensor in network.frozen_tensors()]
    assert waited(partial(step, example(loss, 2, 200)), CPU) > 0
    assert any(not torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(torch.equal(now, then) for (_, now), then in zip(network.frozen_tensors(), frozen, strict=True))
    assert len(encode().target) == 2
