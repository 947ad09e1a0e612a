"""triplets: writes triplets from captions of matched images, and a listing for recipes that learn only from them."""

from collections.abc import Callable, Iterable
from importlib import import_module

from open_clip import SimpleTokenizer

from spn4cir.config.params import of_family
from spn4cir.json_files import write_json
from spn4cir.positives.listing import write_listing
from spn4cir.positives.triplets import Written, write_triplets
from stages import published
from stages.common import Job, run
from stages.triplet_origin import TripletOrigin, triplet_origin
from stages.writers import WRITERS


def main(job: Job) -> None:
    """Writes `data/triplets/<dataset>/<family>/` in the published form, and `data/listing/<dataset>/<family>.json`."""
    settings = of_family(job.params.triplets, job.dataset, job.family, "triplets")
    origin = triplet_origin(job)
    out = job.place("triplets") / origin.name
    if settings.source == "make":
        write_json(out, map(origin.record, _written(job, origin)))
    elif settings.source == "none":
        write_json(out, [])
    else:
        path, source = published.find(job, settings.source, origin.place, settings.hub)
        origin.read(path)
        published.take(path, source, out)
    triplets = origin.read(out)
    training, queries = origin.hold_out(triplets) if _is_first(job) else ((), ())
    write_listing(training, origin.image_path, job.listing_file, job.params.machine.workers, queries)
    held = f", {len(training):,} to train on, {len(queries):,} held out as queries" if queries else ""
    print(f"triplets: {len(triplets):,} generated{held}")


def _is_first(job: Job) -> bool:
    """Whether the family's first stage learns from these triplets, or its bank contains their images."""
    first = of_family(job.params.checkpoint, job.dataset, job.family, "checkpoint").positives
    images = of_family(job.params.bank, job.dataset, job.family, "bank").images
    return "generated" in (first, images)


def _written(job: Job, origin: TripletOrigin) -> Iterable[Written]:
    settings = of_family(job.params.triplets, job.dataset, job.family, "triplets")
    pairs, captions = origin.pairs()
    tokenizer = SimpleTokenizer()
    references = {triplet.reference_name for triplet in job.layout().training_triplets()} if settings.refer else ()
    return _writer(settings.writer, job, origin)(
        pairs,
        captions,
        settings,
        references=frozenset(references),
        seed=job.params.seed,
        count_tokens=lambda text: len(tokenizer.encode(text)) + 2,
    )


def _writer(name: str, job: Job, origin: TripletOrigin) -> Callable[..., Iterable[Written]]:
    """Returns the function that writes triplets: `write_triplets`, or one with its arguments."""
    if name not in WRITERS:
        return write_triplets
    module, kind = WRITERS[name].split(":")
    writer: Callable[..., Iterable[Written]] = getattr(import_module(module), kind)(job, origin)
    return writer


if __name__ == "__main__":
    run(main)
