"""The origin of generated triplets: the data set's own images, or its pool."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.config.params import of_dataset
from spn4cir.positives.caption_files import read_captions
from spn4cir.positives.partners import random_pairs, read_partners
from spn4cir.positives.triplets import Written
from spn4cir.types import Triplet
from stages.common import Job
from stages.pools import open_pool

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class TripletOrigin:
    """The images that triplets are generated from, and the layout of their files.

    Attributes:
        name: file name of the triplets.
        place: path of a published file of such triplets.
        pairs: returns the names of references and targets, and the captions of both.
        record: converts a triplet to its record in the published file.
        read: reads the triplets of a published file.
        image_path: path of an image, by name.
        hold_out: splits triplets into those to train on and those held out as queries.
    """

    name: str
    place: Path
    pairs: Callable[[], tuple[Pairs, dict[str, str]]]
    record: Callable[[Written], dict[str, Any]]
    read: Callable[[Path], Sequence[Triplet]]
    image_path: Callable[[str], Path]
    hold_out: Callable[[Sequence[Triplet]], tuple[Sequence[Triplet], Sequence[Triplet]]]


def triplet_origin(job: Job) -> TripletOrigin:
    """The pool if the family reads the pool's captions, otherwise the data set's own images."""
    return _pooled(job) if job.family in of_dataset(job.params.caption, job.dataset, "caption").pool else _own(job)


def _own(job: Job) -> TripletOrigin:
    layout = job.layout()

    def pairs() -> tuple[Pairs, dict[str, str]]:
        words = job.of_family(of_dataset(job.params.caption, job.dataset, "caption").words, "caption.{}.words")
        window = job.of_family(of_dataset(job.params.match, job.dataset, "match").window, "match.{}.window")
        partners = read_partners(job.shared("match") / "partners.parquet", window)
        captions = read_captions(job.shared("caption") / layout.names.captions_name(words))
        return ((partner.reference_name, partner.target_name) for partner in partners), captions

    return TripletOrigin(
        layout.names.triplets_name(job.family),
        layout.names.triplets(job.family),
        pairs,
        lambda each: layout.generated_record(*each),
        layout.read_generated,
        layout.image_path,
        layout.hold_out,
    )


def _pooled(job: Job) -> TripletOrigin:
    layout, pool = job.layout(), open_pool(job)
    name = pool.generated_name(layout.published)

    def pairs() -> tuple[Pairs, dict[str, str]]:
        words = of_dataset(job.params.caption, job.dataset, "caption").pool[job.family]
        captions: dict[str, str] = {}
        for part in dict.fromkeys(pool.part_of(image.name) for image in pool.images()):
            captions |= read_captions(job.shared("caption") / pool.captions_name(part, words))
        return random_pairs(list(captions), job.params.seed), captions

    return TripletOrigin(
        name,
        layout.names.triplets(job.family).with_name(name),
        pairs,
        lambda each: pool.generated_record(each.triplet),
        pool.read_generated,
        pool.image_path,
        lambda triplets: (triplets, ()),
    )
