"""Loading of full-size state dicts, beside the bare assignment of their tensors, and without a second copy."""

from time import perf_counter

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from spn4cir.composers import composer_class
from spn4cir.composers.bert_tokenizer import BertWords
from spn4cir.composers.blip import ADDED_TOKENS, KEYS, BlipComposer
from spn4cir.composers.protocol import PUBLISHED
from tests.bench.conftest import PeakMemory, RatioToBare

WORDS = 30524
# Freed tensors return to the system at once, so that the peak does not contain free memory of the allocator.
BUILT = """
import ctypes
ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
from tests.bench.test_bench_keymaps import PUBLISHED, composer_class, full_state
state = full_state({family!r}, {dtype!r})
cls = composer_class({family!r})
"""
LOADED = 'network = cls.from_state(state, 1, "full size", PUBLISHED)\n'


def empty_network(family: str) -> nn.Module:
    """Returns a network of full size on the meta device: BLIP ViT-B/16 at 384 px with BERT base, or CLIP RN50x4."""
    with torch.device("meta"):
        if family == "blip":
            vision = BlipVisionModel(BlipVisionConfig(image_size=384, patch_size=16))
            text = BlipTextModel(BlipTextConfig(vocab_size=WORDS, encoder_hidden_size=768), add_pooling_layer=False)
            return BlipComposer(vision, text, 256, BertWords(PUBLISHED, ADDED_TOKENS, WORDS, "full size"))
        sizes = open_clip.get_model_config("RN50x4")
        vision_sizes, text_sizes = CLIPVisionCfg(**sizes["vision_cfg"]), CLIPTextCfg(**sizes["text_cfg"])
        return CLIP(sizes["embed_dim"], vision_sizes, text_sizes, quick_gelu=True)


def full_state(family: str, dtype: str = "float32") -> dict[str, Tensor]:
    """Returns tensors of ones in the published names and shapes, with all pages in memory."""
    state = empty_network(family).state_dict()
    named = KEYS[1].to_published(state) if family == "blip" else state
    wanted = getattr(torch, dtype)
    return {
        name: torch.ones(tensor.shape, dtype=wanted if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in named.items()
    }


def megabytes(values: int, dtype: str = "float32") -> float:
    """Returns the memory of that many values."""
    size: int = getattr(torch, dtype).itemsize
    return values * size / 1e6


@pytest.mark.parametrize("family", ["blip", "clip"])
def test_reading_names_costs_little(benchmark: BenchmarkFixture, ratio_to_bare: RatioToBare, family: str) -> None:
    """From published names to a network, beside building an empty network and assigning its tensors by our names.

    `assign seconds` are those of the assignment alone.
    """
    published = full_state(family)
    network = composer_class(family).from_state(dict(published), 1, "full size", PUBLISHED)
    ours = network.state_dict() if family == "blip" else network.clip.state_dict()  # type: ignore[attr-defined]
    assigning: list[float] = []

    def bare() -> None:
        empty = empty_network(family)
        started = perf_counter()
        empty.load_state_dict(ours, assign=True)
        assigning.append(perf_counter() - started)

    ratio = ratio_to_bare(
        lambda: composer_class(family).from_state(dict(published), 1, "full size", PUBLISHED), bare, rounds=5
    )
    benchmark.extra_info.update(
        megabytes=megabytes(sum(each.numel() for each in published.values())),
        assign_seconds=round(min(assigning), 4),
        limit=1.5,
    )
    assert ratio <= 1.5


@pytest.mark.parametrize(("family", "dtype"), [("blip", "float32"), ("clip", "float32"), ("clip", "float16")])
def test_no_second_copy_is_held(benchmark: BenchmarkFixture, peak_memory: PeakMemory, family: str, dtype: str) -> None:
    """The peak above the state dict: the additional memory of float32, and at most twice the largest tensor."""
    built = BUILT.format(family=family, dtype=dtype)
    peaks: dict[str, float] = {}

    def measure() -> None:
        peaks["state"] = peak_memory(built)
        peaks["network"] = peak_memory(built + LOADED)

    benchmark.pedantic(measure, rounds=1)
    values = [tensor.numel() for tensor in empty_network(family).state_dict().values()]
    limit = megabytes(sum(values)) - megabytes(sum(values), dtype) + megabytes(max(values))
    above = peaks["network"] - peaks["state"]
    benchmark.extra_info.update(network_mb=megabytes(sum(values)), peak_mb_above_state_dict=above, limit_mb=limit)
    assert above <= limit
