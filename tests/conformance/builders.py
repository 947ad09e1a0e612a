"""Tiny networks of every registered family, in the published form."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spn4cir.checkpoints.published import load_composer, save_tensors
from spn4cir.composers.protocol import PUBLISHED, Options
from tests.conformance.toy import ToyComposer
from tests.helpers import blip, blip2, checkpoints, tgcir
from tests.helpers.words import WORDS

_WORDS = {"vocabulary": list(WORDS)}


@dataclass(frozen=True)
class Builder:
    """How the tiny network of a family is made.

    Attributes:
        published: from a stage to what a published file of it holds, the network's weights random.
        options: values that such a file does not contain.
    """

    published: Callable[[int], dict[str, Any]]
    options: Options = PUBLISHED


def _clip(tower: checkpoints.Tower, seed: int, stage: int) -> dict[str, Any]:
    """No norm at its initial 0 or 1: an untrained ResNet would hardly distinguish images. Variances stay positive."""
    state = checkpoints.tiny_state(tower, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        if tensor.ndim == 1:
            tensor += torch.rand(tensor.shape, generator=generator)
        elif name.startswith("visual."):
            tensor *= 2
    return checkpoints.container(state, stage)


def _toy(stage: int) -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(stage)
        return ToyComposer().published(stage, 3)


BUILDERS = {
    "clip": Builder(partial(_clip, "resnet", 0)),
    "tgcir": Builder(lambda stage: tgcir.container(tgcir.published_state(stage)), tgcir.OPTIONS),
    "blip": Builder(lambda stage: blip.container(blip.published_state(stage), stage) | _WORDS),
    "blip2": Builder(lambda stage: blip2.container(blip2.published_state(stage), stage) | _WORDS),
    "zs": Builder(partial(_clip, "vit", 0)),
    "zs_cc": Builder(partial(_clip, "vit", 1)),
    "toy": Builder(_toy),
}


def builder(family: str) -> Builder:
    """Returns the family's builder; fails the test for a registered family without one."""
    if family not in BUILDERS:
        pytest.fail(
            f"family '{family}' is registered but has no tiny network here: add it to BUILDERS in "
            "tests/conformance/builders.py, as docs/new-family.md shows"
        )
    return BUILDERS[family]


@dataclass(frozen=True)
class Subject:
    """A family under test, at one stage.

    Attributes:
        family: name in the registry.
        stage: stage of the file from which the network is read.
        folder: folder of the file.
    """

    family: str
    stage: int
    folder: Path

    def load(self, path: Path | None = None) -> Any:
        """Loads a new network, which the test may change."""
        return load_composer(path or self.published, self.family, builder(self.family).options)

    @property
    def published(self) -> Path:
        """The file of the tiny network."""
        path = self.folder / f"{self.family}{self.stage}.pt"
        if not path.exists():
            save_tensors(builder(self.family).published(self.stage), path)
        return path

    @property
    def network(self) -> Any:
        """The network for tests that do not change it."""
        return _shared(self)


@cache
def _shared(subject: Subject) -> Any:
    return subject.load()


def images(network: Any, count: int = 4, seed: int = 0) -> Tensor:
    """Returns normalised pixels at the input size of the network; each image has its own colour."""
    size, generator = network.preprocess.size, torch.Generator().manual_seed(seed)
    colours = torch.randn(count, 3, 1, 1, generator=generator)
    return colours + torch.randn(count, 3, size, size, generator=generator)
