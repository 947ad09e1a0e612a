"""Unicom: the image encoder that computes the similarities for matching."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spn4cir.errors import InputError, some_names
from spn4cir.images.encode import encoded_batches
from spn4cir.images.preprocess import Preprocess
from spn4cir.images.workers import Workers
from spn4cir.progress import progress
from spn4cir.weights import HEAD_WIDTH, check_tensors, read_plain, unwrapped

_LISTED = 8
_LABEL = "match: encode"


@dataclass(frozen=True)
class UnicomSizes:
    """The sizes of a Unicom network.

    Attributes:
        image_size: side of the square input, in pixels.
        patch_size: side of a patch, in pixels.
        width: dimension of the patch tokens.
        depth: number of transformer blocks.
        heads: attention heads per block. Files do not contain it; it is width / 64, as published (1 below 64).
        mlp_width: hidden dimension of the blocks' feed-forward layers.
        hidden_dim: dimension between the two linear layers of the head.
        dim: dimension of the feature.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    hidden_dim: int
    dim: int


class Unicom(nn.Module):
    """A vision transformer without class token; its head reads every patch token.

    Its parameters have the names of the published `.pt` files: timm's, and `feature.{0,1,2,3}` for the head.
    Source: An et al., "Unicom: Universal and Compact Representation Learning for Image Retrieval", ICLR 2023,
    https://github.com/deepglint/unicom.
    """

    def __init__(self, sizes: UnicomSizes) -> None:
        super().__init__()
        trunk = _trunk(sizes)
        self.sizes = sizes
        self.patch_embed = trunk.patch_embed
        self.pos_embed = trunk.pos_embed
        self.blocks = trunk.blocks
        self.norm = trunk.norm
        patches = (sizes.image_size // sizes.patch_size) ** 2
        self.feature = nn.Sequential(
            nn.Linear(sizes.width * patches, sizes.hidden_dim, bias=False),
            nn.BatchNorm1d(sizes.hidden_dim, eps=2e-5),
            nn.Linear(sizes.hidden_dim, sizes.dim, bias=False),
            nn.BatchNorm1d(sizes.dim, eps=2e-5),
        )

    @property
    def preprocess(self) -> Preprocess:
        """CLIP's preprocessing: short side resized to the input size, centre crop, no padding, CLIP mean and std."""
        return Preprocess(size=self.sizes.image_size, target_ratio=None)

    def forward(self, images: Float[Tensor, "images 3 image_size image_size"]) -> Float[Tensor, "images dim"]:
        """Returns the features of preprocessed images, not normalised."""
        tokens = self.patch_embed(images) + self.pos_embed
        tokens = self.norm(self.blocks(tokens))
        features: Tensor = self.feature(tokens.flatten(1))
        return features


def _trunk(sizes: UnicomSizes) -> Any:
    """Returns timm's transformer without a head."""
    return VisionTransformer(
        img_size=sizes.image_size,
        patch_size=sizes.patch_size,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        mlp_ratio=sizes.mlp_width / sizes.width,
        qkv_bias=False,
        class_token=False,
        num_classes=0,
        global_pool="",
        act_layer=nn.ReLU6,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
    )


def sizes_of(state: Mapping[str, Tensor]) -> UnicomSizes:
    """Reads the sizes from the shapes of a state dict. Raises KeyError or ValueError if it is not of a Unicom."""
    width, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    if width > HEAD_WIDTH and width % HEAD_WIDTH:
        raise ValueError(f"width {width}: it is not a multiple of the head width {HEAD_WIDTH}")
    side = math.isqrt(state["pos_embed"].shape[1])
    blocks = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    return UnicomSizes(
        image_size=side * patch_size,
        patch_size=patch_size,
        width=width,
        depth=max(blocks) + 1,
        heads=max(width // HEAD_WIDTH, 1),
        mlp_width=state["blocks.0.mlp.fc1.weight"].shape[0],
        hidden_dim=state["feature.0.weight"].shape[0],
        dim=state["feature.2.weight"].shape[0],
    )


def load_unicom(path: Path) -> Unicom:
    """Loads the network of a published `.pt` file, in float32 and eval mode, with sizes read from the shapes.

    Raises InputError if the file is absent, is not a checkpoint, contains code, or has missing, unexpected or misshapen
    tensors, which it lists.
    """
    state = _read_state(path)
    try:
        model = Unicom(sizes_of(state))
    except (KeyError, ValueError, IndexError) as error:
        held = some_names(sorted(state), _LISTED)
        raise InputError(
            f"{path}: is not a Unicom checkpoint (no usable {str(error)[:80]}; it contains {held}); "
            "give a file as https://github.com/deepglint/unicom releases them, such as FP16-ViT-L-14.pt"
        ) from None
    check_tensors(state, model.state_dict(), str(path))
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    state = read_plain(path)
    if not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        found = some_names([str(name) for name in state], _LISTED) or "nothing"
        raise InputError(f"{path}: is not a Unicom checkpoint (it contains {found}, expected a tensor under each name)")
    return unwrapped(state, str(path))


def encode_images(
    model: Unicom, paths: Sequence[Path], batch_size: int, workers: Workers, device: torch.device, done: int = 0
) -> Iterator[Float32[Tensor, "batch dim"]]:
    """Yields the unit-norm features of `paths[done:]` in order, one batch at a time, on the CPU.

    A cluster ignores `device`; `done` is the number of images that an earlier run encoded, in whole batches.

    Raises InputError if an image cannot be decoded, or a batch does not fit into the GPU's memory.
    """
    batches = encoded_batches(model.eval(), _unit_features, paths[done:], batch_size, workers, device, _LABEL)
    yield from progress(batches, -(-len(paths) // batch_size), _LABEL, "batches", done // batch_size)


def _unit_features(
    model: Unicom, images: Float[Tensor, "images 3 image_size image_size"], _row: int
) -> Float32[Tensor, "images dim"]:
    return nn.functional.normalize(model(images).float()).cpu()
