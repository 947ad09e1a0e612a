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
    """Size of the drawn FashionIQ layout, per category."""

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
    """Size of the drawn CIRR layout. Every group has six images."""

    seed: int
    train_groups: Positive
    train_triplets: Positive
    duplicates: NotNegative
    val_groups: Positive
    val_triplets: Positive
    test1_groups: Positive
    test1_triplets: Positive


class CircoSize(Settings):
    """Size of the drawn CIRCO layout. For each query 1 to `most_targets` images of its target are drawn."""

    seed: int
    val_queries: Positive
    test_queries: Positive
    most_targets: Positive
    near_misses: NotNegative


class EmojiSize(Settings):
    """Size of the data set of emoji.

    `image_size` is the side of the images in pixels, `val_share` the share of the images in val, and `things_share` the
    share of the triplets that show neither persons nor hands.
    """

    seed: int
    image_size: Annotated[int, Field(ge=16, le=512)]
    val_share: Annotated[float, Field(gt=0, lt=1)]
    things_share: Share
    train_triplets: Positive
    val_triplets: Positive


class Draw(Settings):
    """Sizes of the demo's data sets, by the name of the data set."""

    demo_fiq: FashionIQSize
    demo_cirr: CirrSize
    demo_circo: CircoSize
    demo_emoji: EmojiSize


class PoolSize(Settings):
    """Size of the drawn pool: the numbers of its part files, and the number of images in each."""

    seed: int
    parts: Annotated[tuple[NotNegative, ...], Field(min_length=1)]
    images: Annotated[int, Field(gt=0, le=10_000)]


class DrawPool(Settings):
    """Sizes of the drawn pools, by the name of the data set that uses the pool."""

    demo_fiq: PoolSize
    demo_cirr: PoolSize


class ImagesSettings(Settings):
    """Settings of the images that the small models are trained and measured on."""

    seed: int
    image_size: Positive
    train_per_kind: Positive
    held_out_per_kind: Positive


class ClipTraining(Settings):
    """Sizes of a small CLIP and the settings of its training."""

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


class Clip(ClipTraining):
    """Settings of the small CLIP of the drawn images."""

    measured_batch: Positive
    wanted_recall: float


class CaptionerSettings(Settings):
    """Settings of the small LLaVA. Its vision tower has the sizes of the small CLIP.

    It is trained in at most `rounds` rounds of `steps` steps. The first `kept_apart` training images of each kind are
    not trained on; training ends when the accuracy of the worst attribute on them is at least `enough` percent.
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
    """Settings that the small BLIP and BLIP-2 share. The head widths are those of the published networks."""

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
    """Settings of the small BLIP."""


class Blip2(RetrieverSettings):
    """Settings of the small BLIP-2. Its text sizes are those of the Q-Former."""

    query_tokens: Positive


class EncoderTraining(Settings):
    """Sizes of a small image encoder in Unicom's format and the settings of its training."""

    seed: int
    steps: Positive
    batch_size: Positive
    lr: float
    patch_size: Positive
    width: Positive
    layers: Positive
    embed_dim: Positive


class EncoderSettings(EncoderTraining):
    """Settings of the small image encoder of the drawn images."""

    neighbours: Positive
    wanted_gain: float


class EmojiModels(Settings):
    """Settings of the small models that are trained on the train split of the emoji; `image_size` in pixels."""

    image_size: Positive
    clip: ClipTraining
    encoder: EncoderTraining


class DemoParams(Settings):
    """The content of `demo/params.yaml`."""

    drawn: tuple[Literal["demo_fiq", "demo_cirr", "demo_circo"], ...]
    fetched: tuple[Literal["demo_emoji"], ...]
    draw: Draw
    draw_pool: DrawPool
    images: ImagesSettings
    clip: Clip
    captioner: CaptionerSettings
    blip: Blip
    blip2: Blip2
    encoder: EncoderSettings
    emoji_models: EmojiModels


def read_settings(path: Path = PARAMS_FILE) -> DemoParams:
    """Reads and validates the settings. Raises InputError that names the first wrong key."""
    try:
        return DemoParams.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the root of the repository") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {place}: {first['msg']} (got {first['input']!r})") from None
