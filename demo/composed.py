"""What the small BLIP and BLIP-2 are taught and measured by: captions of pictures, and changes from one to another."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from torch.nn import functional

from demo.attributes import Garment, Scene, Thing
from demo.captions import free_caption
from demo.changes import garment_captions, scene_caption
from demo.pictures import Shown, label_rows, read_pictures, value_counts
from demo.pretrain import FEATURE_SCALE, MAX_LOGIT_SCALE, attribute_losses, augmented, batches, mixed_batches, train
from demo.settings import Retriever
from demo.words import vocabulary

# How many attributes a modification changes, each as likely as it stands here.
CHANGES = (1, 1, 2, 2, 3)
FIRST_SCALE = 1 / 0.07
# Spread of first weights: the published one suits widths many times larger, and learns slowly here.
FIRST_WEIGHTS = 0.05
# Places in a picture must tell from the start beside the patches, whose vectors spread about three times as far.
FIRST_PLACES = 0.2


class Seen(NamedTuple):
    """A batch of pictures.

    Attributes:
        states: what the text's cross-attention reads.
        targets: what queries are compared with, unit norm.
    """

    states: Float[Tensor, "batch tokens width"]
    targets: Tensor


class Reader(Protocol):
    """A network in transformers' form with what retrieval asks of it."""

    network: Any

    def see(self, pixels: Float[Tensor, "batch 3 size size"]) -> Seen:
        """The pictures' states and targets, from one pass of the image tower."""

    def read(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Unit-norm queries of texts alone."""

    def compose(self, states: Float[Tensor, "batch tokens width"], texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Unit-norm queries of pictures and modification texts."""

    def score(self, queries: Float[Tensor, "queries dim"], targets: Tensor) -> Float[Tensor, "queries gallery"]:
        """Similarity of every query with every picture."""


def spread_places(vision_model: Any) -> None:
    """Gives a tower's place and class vectors their first values."""
    for vectors in (vision_model.embeddings.position_embedding, vision_model.embeddings.class_embedding):
        nn.init.normal_(vectors, std=FIRST_PLACES)


class Words:
    """A lower-casing WordPiece tokenizer of the demo's words.

    Args:
        added: special tokens whose ids follow those of the words.
    """

    def __init__(self, added: Sequence[str]) -> None:
        rows = {word: row for row, word in enumerate([*vocabulary(), *added])}
        self.count = len(rows)
        self.ids = rows
        self._tokenizer = BertWordPieceTokenizer(vocab=rows, lowercase=True)
        self._tokenizer.enable_padding(pad_id=rows["[PAD]"])

    def encode(self, texts: Sequence[str]) -> dict[str, Int[Tensor, "texts length"]]:
        """Ids from `[CLS]` to `[SEP]`, padded to the longest, and which of them are no padding."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids, masks = [each.ids for each in encoded], [each.attention_mask for each in encoded]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}


def change_text(reference: Thing, target: Thing, rng: random.Random) -> str:
    """What a person, or two of them, might say to get from one thing to the other."""
    if isinstance(reference, Scene) and isinstance(target, Scene):
        return scene_caption(reference, target, rng)
    assert isinstance(reference, Garment)
    assert isinstance(target, Garment)
    captions = garment_captions(reference, target, rng)
    return rng.choice([" and ".join(captions), " and ".join(captions[::-1]), *captions])


class Neighbours:
    """Pairs of things of one kind that differ in few attributes, in a garment's category never.

    Args:
        things: what there is.
        rng: decides the pairs.
    """

    def __init__(self, things: Sequence[Thing], rng: random.Random) -> None:
        self._labels = label_rows(things)
        self._fixed = list(things[0].VALUES).index("category") if isinstance(things[0], Garment) else None
        self._rng = rng

    def target(self, reference: int) -> int:
        """Index of a thing that differs as wished, or by more or less where none does.

        Raises ValueError when every other thing is equal or of another category.
        """
        differs = self._labels != self._labels[reference]
        counts = differs.sum(dim=1)
        if self._fixed is not None:
            counts[differs[:, self._fixed]] = 0
        wished = self._rng.choice(CHANGES)
        for count in (*range(wished, self._labels.shape[1] + 1), *range(wished - 1, 0, -1)):
            if found := (counts == count).nonzero().flatten().tolist():
                return int(self._rng.choice(found))
        raise ValueError(f"of {len(counts)} things none can be made of number {reference}: there must be more")

    def same(self, rows: Sequence[int]) -> Bool[Tensor, "rows rows"]:
        """Which pairs of these things are equal."""
        labels = self._labels[list(rows)]
        return (labels[:, None] == labels[None]).all(dim=2)


class Lessons(nn.Module):
    """What a reader learns by beside itself: the scale of its scores, and classifiers of a kind's attributes.

    Args:
        thing: one of the kind.
        width: of the image tower.
        dim: of queries.
    """

    def __init__(self, thing: Thing, width: int, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.heads = nn.Linear(dim, sum(value_counts(thing)))
        self.tower_heads = nn.Linear(width, sum(value_counts(thing)))

    def retrieval(
        self, scores: Float[Tensor, "queries gallery"], same: Bool[Tensor, "queries gallery"]
    ) -> Float[Tensor, ""]:
        """Cross entropy of query b with picture b; another picture that shows the same is no negative."""
        labels = torch.arange(len(scores))
        others = same.scatter(1, labels[:, None], False)
        logits = self.log_scale.clamp(max=MAX_LOGIT_SCALE).exp() * scores
        return functional.cross_entropy(logits.masked_fill(others, -torch.inf), labels)

    def queries(self, queries: Float[Tensor, "things dim"], things: Sequence[Thing]) -> Float[Tensor, ""]:
        """How far unit-norm queries are from telling every attribute of their targets."""
        return attribute_losses(self.heads(FEATURE_SCALE * queries), things).mean()

    def tower(self, states: Float[Tensor, "things tokens width"], things: Sequence[Thing]) -> Float[Tensor, ""]:
        """How far the image tower's first tokens are from telling every attribute."""
        return attribute_losses(self.tower_heads(states[:, 0]), things).mean()


def train_reader(reader: Reader, pictures: Path, settings: Retriever, label: str) -> float:
    """Teaches the image tower attributes, then all of it captions and changes. Returns the last loss."""
    shown = list(read_pictures(pictures).values())
    generator = torch.Generator().manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    lessons = [Lessons(kind.things[0], settings.vision_width, settings.embed_dim) for kind in shown]
    reader.network.train()
    train_tower(reader, lessons, shown, settings, generator, f"{label} tower")
    neighbours = [Neighbours(kind.things, rng) for kind in shown]
    sources = [mixed_batches(kind.things, settings.batch_size, rng) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for step in range(settings.steps):
            number = step % len(shown)
            references = next(sources[number])
            rows = [neighbours[number].target(row) for row in references] + references
            things = [shown[number].things[row] for row in rows]
            seen = reader.see(augmented(shown[number].pixels[rows], generator))
            yield lesson_loss(reader, lessons[number], things, seen, neighbours[number].same(rows), rng)

    trained = [*reader.network.parameters(), *nn.ModuleList(lessons).parameters()]
    last = train(trained, losses(), settings.steps, settings.lr, label)
    reader.network.eval()
    return last


def train_tower(
    reader: Reader,
    lessons: Sequence[Lessons],
    shown: Sequence[Shown],
    settings: Retriever,
    generator: torch.Generator,
    label: str,
) -> None:
    """Teaches the image tower alone: what it sees is the ground for all else, and costs little to learn by itself."""
    sources = [batches(len(kind.things), settings.batch_size, generator) for kind in shown]

    def losses() -> Iterator[Tensor]:
        for step in range(settings.tower_steps):
            kind, rows = shown[step % len(shown)], next(sources[step % len(shown)])
            states = reader.network.vision_model(pixel_values=augmented(kind.pixels[rows], generator)).last_hidden_state
            yield lessons[step % len(shown)].tower(states, [kind.things[row] for row in rows])

    trained = [*reader.network.vision_model.parameters(), *nn.ModuleList(lessons).parameters()]
    train(trained, losses(), settings.tower_steps, settings.lr, label)


def lesson_loss(
    reader: Reader,
    lessons: Lessons,
    things: Sequence[Thing],
    seen: Seen,
    same: Bool[Tensor, "things things"],
    rng: random.Random,
) -> Float[Tensor, ""]:
    """Captions find targets, changes find them among targets and references; changes and pictures tell attributes.

    Args:
        reader: the network.
        lessons: those of the kind.
        things: the targets, then the references of the changes.
        seen: their pictures.
        same: which of the things are equal.
        rng: decides the words.
    """
    half = len(things) // 2
    targets, references = things[:half], things[half:]
    changes = [change_text(a, b, rng) for a, b in zip(references, targets, strict=True)]
    described = reader.read([free_caption(thing, rng) for thing in targets])
    composed = reader.compose(seen.states[half:], changes)
    return (
        lessons.retrieval(reader.score(described, seen.targets), same[:half])
        + lessons.retrieval(reader.score(composed, seen.targets), same[:half])
        + lessons.queries(composed, targets)
        + lessons.tower(seen.states, things)
    )
