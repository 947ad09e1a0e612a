"""The settings of the demo: `demo/params.yaml` as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from spn4cir.config.base import Positive, Settings
from spn4cir.errors import InputError

PARAMS_FILE = Path("demo/params.yaml")
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class FashionIQSize(Settings):
    """How large the drawn FashionIQ layout is, per category."""

    seed: int
    train_images: Positive
    train_triplets: Positive
    train_used: Share
    duplicates: NotNegative
    val_images: Positive
    val_triplets: Positive
    test_images: Positive
    test_triplets: Positive


class CirrSize(Settings):
    """How large the drawn CIRR layout is; every group has six images."""

    seed: int
    train_groups: Positive
    train_triplets: Positive
    duplicates: NotNegative
    val_groups: Positive
    val_triplets: Positive
    test1_groups: Positive
    test1_triplets: Positive


class CircoSize(Settings):
    """How large the drawn CIRCO layout is; a query has up to `most_targets` images of its target drawn for it."""

    seed: int
    val_queries: Positive
    test_queries: Positive
    most_targets: Positive
    near_misses: NotNegative


class Draw(Settings):
    """Sizes of the drawn data sets; the keys are the data sets' names."""

    demo_fiq: FashionIQSize
    demo_cirr: CirrSize
    demo_circo: CircoSize


class PoolSize(Settings):
    """How large the drawn pool is; `parts` are the numbers of its part files, `images` are those of each."""

    seed: int
    parts: Annotated[tuple[NotNegative, ...], Field(min_length=1)]
    images: Annotated[int, Field(gt=0, le=10_000)]


class DrawPool(Settings):
    """Sizes of the drawn pools; the keys are the data sets that they serve."""

    demo_fiq: PoolSize
    demo_cirr: PoolSize


class ImagesSettings(Settings):
    """The images that the small models learn from and are measured on."""

    seed: int
    image_size: Positive
    train_per_kind: Positive
    held_out_per_kind: Positive


class Clip(Settings):
    """The small CLIP."""

    seed: int
    steps: Positive
    batch_size: Positive
    lr: float
    patch_size: Positive
    vision_width: Positive
    vision_layers: Positive
    text_width: Positive
    text_layers: Positive
    context_length: Positive
    embed_dim: Positive
    measured_batch: Positive
    wanted_recall: float


class CaptionerSettings(Settings):
    """The small LLaVA; its vision tower has the small CLIP's sizes.

    It is trained in rounds of `steps`, at most `rounds`, until its accuracy on the worst attribute of the first
    `kept_apart` training images of each kind, which it does not learn from, is `enough` percent.
    """

    seed: int
    rounds: Positive
    steps: Positive
    kept_apart: Positive
    enough: float
    batch_size: Positive
    lr: float
    width: Positive
    layers: Positive
    wanted_mean_accuracy: float
    wanted_attribute_accuracy: float


class RetrieverSettings(Settings):
    """What the small BLIP and BLIP-2 have in common; head widths are those of the published networks."""

    seed: int
    image_steps: Positive
    steps: Positive
    batch_size: Positive
    lr: float
    patch_size: Positive
    vision_width: Positive
    vision_layers: Positive
    text_width: Positive
    text_layers: Positive
    embed_dim: Positive
    wanted_recall: float


class Blip(RetrieverSettings):
    """The small BLIP."""


class Blip2(RetrieverSettings):
    """The small BLIP-2; its text sizes are the Q-Former's."""

    query_tokens: Positive


class EncoderSettings(Settings):
    """The small image encoder in Unicom's format."""

    seed: int
    steps: Positive
    batch_size: Positive
    lr: float
    patch_size: Positive
    width: Positive
    layers: Positive
    embed_dim: Positive
    neighbours: Positive
    wanted_gain: float


class DemoParams(Settings):
    """All of `demo/params.yaml`."""

    drawn: tuple[Literal["demo_fiq", "demo_cirr", "demo_circo"], ...]
    draw: Draw
    draw_pool: DrawPool
    images: ImagesSettings
    clip: Clip
    captioner: CaptionerSettings
    blip: Blip
    blip2: Blip2
    encoder: EncoderSettings


def read_settings(path: Path = PARAMS_FILE) -> DemoParams:
    """The validated settings. Raises InputError naming the first wrong key."""
    try:
        return DemoParams.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the repository's root") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {place}: {first['msg']} (got {first['input']!r})") from None
