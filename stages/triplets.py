"""triplets: modification texts from the captions of matched images, and a listing for recipes that begin with them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip import SimpleTokenizer

from spn4cir.config.params import of_dataset, of_family
from spn4cir.files import write_json
from spn4cir.positives.caption_files import read_captions
from spn4cir.positives.listing import write_listing
from spn4cir.positives.partners import random_pairs, read_partners
from spn4cir.positives.triplets import Written, write_triplets
from spn4cir.types import Triplet
from stages import published
from stages.common import Job, run
from stages.pools import open_pool

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Origin:
    """What triplets are written from: the data set's own images, or its pool.

    Attributes:
        name: file name of the triplets.
        place: where a published file of them lies.
        pairs: names of references and targets, and the captions of both.
        record: a triplet in the published form.
        read: the triplets of a published file.
        image_path: where the image of a name lies.
        hold_out: parts those to learn from and those held out as queries.
    """

    name: str
    place: Path
    pairs: Callable[[], tuple[Pairs, dict[str, str]]]
    record: Callable[[Written], dict[str, Any]]
    read: Callable[[Path], tuple[Triplet, ...]]
    image_path: Callable[[str], Path]
    hold_out: Callable[[Sequence[Triplet]], tuple[tuple[Triplet, ...], tuple[Triplet, ...]]]


def main(job: Job) -> None:
    """Writes `data/triplets/<dataset>/<family>/` in the published form, and `data/listing/<dataset>/<family>.json`."""
    settings = of_family(job.params.triplets, job.dataset, job.family, "triplets")
    origin = _pooled(job) if job.family in of_dataset(job.params.caption, job.dataset, "caption").pool else _own(job)
    out = job.place("triplets") / origin.name
    if settings.source == "make":
        write_json(out, [origin.record(each) for each in _written(job, origin)])
    else:
        path, source = published.find(job, settings.source, origin.place, settings.hub)
        origin.read(path)
        published.take(path, source, out)
    triplets = origin.read(out)
    training, queries = origin.hold_out(triplets) if _is_first(job) else ((), ())
    write_listing(training, origin.image_path, job.listing_file, job.params.machine.workers, queries)
    held = f", {len(training)} to learn from, {len(queries)} held out as queries" if queries else ""
    print(f"triplets: {len(triplets)} generated{held}")


def _is_first(job: Job) -> bool:
    """Whether the family's first stage, or its bank, is made of these triplets."""
    first = of_family(job.params.checkpoint, job.dataset, job.family, "checkpoint").positives
    images = of_family(job.params.bank, job.dataset, job.family, "bank").images
    return "generated" in (first, images)


def _written(job: Job, origin: Origin) -> list[Written]:
    settings = of_family(job.params.triplets, job.dataset, job.family, "triplets")
    pairs, captions = origin.pairs()
    tokenizer = SimpleTokenizer()
    references = {triplet.reference_name for triplet in job.layout().training_triplets()} if settings.refer else ()
    return write_triplets(
        pairs,
        captions,
        settings,
        references=frozenset(references),
        seed=job.params.seed,
        count_tokens=lambda text: len(tokenizer.encode(text)) + 2,
    )


def _own(job: Job) -> Origin:
    layout = job.layout()

    def pairs() -> tuple[Pairs, dict[str, str]]:
        words = job.of_family(of_dataset(job.params.caption, job.dataset, "caption").words, "caption.{}.words")
        window = job.of_family(of_dataset(job.params.match, job.dataset, "match").window, "match.{}.window")
        partners = read_partners(job.shared("match") / "partners.parquet", window)
        captions = read_captions(job.shared("caption") / layout.names.captions_name(words))
        return ((partner.reference_name, partner.target_name) for partner in partners), captions

    return Origin(
        layout.names.triplets_name(job.family),
        layout.names.triplets(job.family),
        pairs,
        lambda each: layout.generated_record(*each),
        layout.read_generated,
        layout.image_path,
        layout.hold_out,
    )


def _pooled(job: Job) -> Origin:
    layout, pool = job.layout(), open_pool(job)
    name = pool.generated_name(layout.published)

    def pairs() -> tuple[Pairs, dict[str, str]]:
        words = of_dataset(job.params.caption, job.dataset, "caption").pool[job.family]
        captions: dict[str, str] = {}
        for part in dict.fromkeys(pool.part_of(image.name) for image in pool.images()):
            captions |= read_captions(job.shared("caption") / pool.captions_name(part, words))
        return random_pairs(list(captions), job.params.seed), captions

    return Origin(
        name,
        layout.names.triplets(job.family).with_name(name),
        pairs,
        lambda each: pool.generated_record(each.triplet),
        pool.read_generated,
        pool.image_path,
        lambda triplets: (tuple(triplets), ()),
    )


if __name__ == "__main__":
    run(main)
