"""The training of the small BLIP and BLIP-2: on attributes of images, captions, and changes between images."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from demo.draw.attributes import Garment, Thing
from demo.draw.captions import free_caption
from demo.draw.changes import change_text
from demo.draw.images import TrainingImages, label_rows, read_images, value_counts
from demo.models.training import (
    FEATURE_SCALE,
    MAX_LOGIT_SCALE,
    attribute_losses,
    augmented,
    batches,
    mixed_batches,
    train,
)
from demo.settings import RetrieverSettings

# Numbers of attributes that a modification changes; all entries are equally likely.
CHANGES = (1, 1, 2, 2, 3)
FIRST_SCALE = 1 / 0.07


class Reader(Protocol):
    """A network of transformers with the functions that retrieval needs.

    Attributes:
        network: the network; its image tower is `vision_model`.
        tower_learns: whether the tower is also trained on captions and changes.
    """

    network: Any
    tower_learns: bool

    def targets(self, states: Float[Tensor, "batch tokens width"]) -> Tensor:
        """Returns the vectors that queries are compared with, at unit norm: one or several for each image."""

    def read(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries of texts alone."""

    def compose(self, states: Float[Tensor, "batch tokens width"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Returns unit-norm queries of images and modification texts."""

    def score(self, queries: Float[Tensor, "queries dim"], targets: Tensor) -> Float[Tensor, "queries gallery"]:
        """Returns the similarity of every query with every image."""


def see(reader: Reader, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch tokens width"]:
    """Returns the tokens of the image tower, which targets are made of and texts attend to."""
    states: Tensor = reader.network.vision_model(pixel_values=pixels).last_hidden_state
    return states


class Neighbours:
    """Pairs of things of one kind that differ in few attributes. Paired garments are of one category.

    Args:
        things: the things to pair.
        rng: determines the pairs.
    """

    def __init__(self, things: Sequence[Thing], rng: random.Random) -> None:
        self._labels = label_rows(things)
        self._fixed = list(things[0].VALUES).index("category") if isinstance(things[0], Garment) else None
        self._rng = rng

    def target(self, reference: int) -> int:
        """Returns the index of a thing that differs from the reference in a random number of attributes.

        If no thing differs in that number, the next larger one is taken, or else the next smaller one. Raises
        ValueError if every other thing is equal or of another category.
        """
        differs = self._labels != self._labels[reference]
        counts = differs.sum(dim=1)
        if self._fixed is not None:
            counts[differs[:, self._fixed]] = 0
        wished = self._rng.choice(CHANGES)
        for count in (*range(wished, self._labels.shape[1] + 1), *range(wished - 1, 0, -1)):
            if found := (counts == count).nonzero().flatten().tolist():
                return int(self._rng.choice(found))
        raise ValueError(f"none of {len(counts)} things can be the target of number {reference}; draw more things")

    def same(self, rows: Sequence[int]) -> Bool[Tensor, "rows rows"]:
        """Returns which pairs of these things are equal."""
        labels = self._labels[list(rows)]
        return (labels[:, None] == labels[None]).all(dim=2)


class Lessons(nn.Module):
    """Losses of a reader for one kind of things, with the parameters that only training needs.

    These are the scale of the scores, and classifiers of the attributes.

    Args:
        thing: any thing of the kind.
        width: width of the image tower.
        dim: dimension of queries.
    """

    def __init__(self, thing: Thing, width: int, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.heads = nn.Linear(dim, sum(value_counts(thing)))
        self.tower_heads = nn.Linear(width, sum(value_counts(thing)))

    def retrieval(
        self, scores: Float[Tensor, "queries gallery"], same: Bool[Tensor, "queries gallery"]
    ) -> Float[Tensor, ""]:
        """Returns the cross entropy of query b with image b. Other images that show an equal thing are no negatives."""
        labels = torch.arange(len(scores))
        others = same.scatter(1, labels[:, None], False)
        logits = self.log_scale.clamp(max=MAX_LOGIT_SCALE).exp() * scores
        return functional.cross_entropy(logits.masked_fill(others, -torch.inf), labels)

    def features(self, features: Float[Tensor, "things *several dim"], things: Sequence[Thing]) -> Float[Tensor, ""]:
        """Returns the mean cross entropy of the attributes, classified from unit-norm queries or targets.

        Several vectors of a thing have equal weight.
        """
        each = features.reshape(len(things), -1, features.shape[-1])
        repeated = [thing for thing in things for _ in range(each.shape[1])]
        return attribute_losses(self.heads(FEATURE_SCALE * each.flatten(0, 1)), repeated).mean()

    def tower(self, states: Float[Tensor, "things tokens width"], things: Sequence[Thing]) -> Float[Tensor, ""]:
        """Returns the mean cross entropy of the attributes, classified from the first tokens of the image tower."""
        return attribute_losses(self.tower_heads(states[:, 0]), things).mean()


def train_reader(reader: Reader, images: Path, settings: RetrieverSettings, label: str) -> float:
    """Trains the reader on the attributes of images, then on captions and changes. Returns the last loss."""
    shown = list(read_images(images).values())
    generator = torch.Generator().manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    lessons = [Lessons(kind.things[0], settings.vision_width, settings.embed_dim) for kind in shown]
    reader.network.train()
    train_images(reader, lessons, shown, settings, generator, f"{label}: images")
    neighbours = [Neighbours(kind.things, rng) for kind in shown]
    sources = [mixed_batches(kind.things, settings.batch_size, rng) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for step in range(settings.steps):
            number = step % len(shown)
            references = next(sources[number])
            rows = [neighbours[number].target(row) for row in references] + references
            things = [shown[number].things[row] for row in rows]
            with torch.set_grad_enabled(reader.tower_learns):
                states = see(reader, augmented(shown[number].pixels[rows], generator))
            yield lesson_loss(reader, lessons[number], things, states, neighbours[number].same(rows), rng)

    trained = [*reader.network.parameters(), *nn.ModuleList(lessons).parameters()]
    last = train(trained, losses(), settings.steps, settings.lr, f"{label}: texts")
    reader.network.eval()
    return last


def train_images(
    reader: Reader,
    lessons: Sequence[Lessons],
    shown: Sequence[TrainingImages],
    settings: RetrieverSettings,
    generator: torch.Generator,
    label: str,
) -> None:
    """Trains the image side alone to classify attributes: it is cheap, and captions and changes build on it."""
    sources = [batches(len(kind.things), settings.batch_size, generator) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for step in range(settings.image_steps):
            kind, rows = shown[step % len(shown)], next(sources[step % len(shown)])
            states, things = see(reader, augmented(kind.pixels[rows], generator)), [kind.things[row] for row in rows]
            lesson = lessons[step % len(shown)]
            yield lesson.tower(states, things) + lesson.features(reader.targets(states), things)

    trained = [*reader.network.parameters(), *nn.ModuleList(lessons).parameters()]
    train(trained, losses(), settings.image_steps, settings.lr, label)


def lesson_loss(
    reader: Reader,
    lessons: Lessons,
    things: Sequence[Thing],
    states: Float[Tensor, "things tokens width"],
    same: Bool[Tensor, "things things"],
    rng: random.Random,
) -> Float[Tensor, ""]:
    """Returns the loss of a batch: retrieval by captions and by changes, and attributes of changes and of images.

    A caption and a change are scored against the images of all targets and references; the positive is their target.

    Args:
        reader: the network.
        lessons: the losses of the kind.
        things: the targets, then the references of the changes.
        states: tokens of the image tower for the images of the things.
        same: which of the things are equal.
        rng: determines the words.
    """
    half = len(things) // 2
    targets, references = things[:half], things[half:]
    changes = [change_text(a, b, rng) for a, b in zip(references, targets, strict=True)]
    described = reader.read([free_caption(thing, rng) for thing in targets])
    composed = reader.compose(states[half:], changes)
    features = reader.targets(states)
    return (
        lessons.retrieval(reader.score(described, features), same[:half])
        + lessons.retrieval(reader.score(composed, features), same[:half])
        + lessons.features(composed, targets)
        + lessons.features(features, things)
    )
