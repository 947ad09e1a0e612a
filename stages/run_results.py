"""The results of a data set and family that a report shows, read from the outs of the other stages."""

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from spn4cir.comparison.adjusted import compare_adjusted
from spn4cir.comparison.paper import PaperComparison, compare_to_paper
from spn4cir.comparison.query_pairs import pair_queries
from spn4cir.comparison.runs import read_runs
from spn4cir.comparison.stages import compare_stages
from spn4cir.config.pair_settings import pair_settings, short_key
from spn4cir.config.params import of_dataset
from spn4cir.errors import InputError
from spn4cir.json_files import read_json
from spn4cir.positives.caption_files import read_captions
from spn4cir.positives.dedup import read_optimized_images
from spn4cir.positives.filter_table import read_filter
from spn4cir.positives.listing import read_listing
from spn4cir.positives.rank_samples import read_samples
from spn4cir.report.image_lookup import images_of_layout
from spn4cir.report.inputs import input_hashes
from spn4cir.report.run import RunResults
from spn4cir.types import Triplet
from stages.common import Job
from stages.inputs import scored_layout


def collect(job: Job) -> RunResults:
    """Reads the outs of the other stages."""
    layout = scored_layout(job)
    triplets, triplet_path = generated(job)
    settings = _settings(job)
    metrics = Path("metrics") / job.dataset / f"{job.family}.json"
    (run,) = read_runs(str(metrics)).values()
    stages = compare_stages(run)
    return RunResults(
        dataset=job.dataset,
        family=job.family,
        settings=settings,
        inputs=input_hashes(layout.root, _inputs(job)),
        date=read_json(job.place("validate") / "scored.json")["date"],
        metrics=run.metrics,
        stages=stages,
        adjusted=compare_adjusted(run),
        baselines=read_json(Path("metrics") / job.dataset / "baselines.json"),
        paper=beside_paper(metrics) if job.dataset == layout.published else None,
        recall_ks=layout.protocol.recall_ks,
        queries=tuple(pair_queries(stages.a, stages.b)),
        curves={"stage 1": job.place("checkpoint") / "figures", "stage 2": job.place("train") / "figures"},
        triplets=triplets,
        filtered=read_filter(job.place("filter")),
        text_origin=_text_origin(job),
        captions=_captions(job),
        unique=read_optimized_images(job.dedup_file, layout.image_path),
        samples=read_samples(job.shared("match") / "ranks.json"),
        window=settings["match"]["window"],
        images=images_of_layout(layout),
        triplet_path=triplet_path,
    )


def beside_paper(metrics: Path) -> PaperComparison | None:
    """Compares a metrics file with the paper; None if the paper has no scores for the family."""
    (scored,) = read_runs(str(metrics)).values()
    try:
        return compare_to_paper(scored)
    except InputError:
        return None


def _inputs(job: Job) -> dict[str, Path]:
    return {
        "stage-1 weights": job.stage1_file,
        "stage-2 weights": job.place("train") / "best.pt",
        "bank, manifest": job.place("bank") / "manifest.json",
        "bank, targets": job.place("bank") / "target.npy",
        "unique images": job.dedup_file,
        "generated triplets": job.place("triplets"),
        "filter of generated triplets": job.place("filter"),
        "scored queries": job.place("validate") / "queries.parquet",
    }


def _text_origin(job: Job) -> dict[str, Any]:
    path = job.place("triplets") / "source.json"
    return dict(read_json(path)) if path.is_file() else {}


def _words(job: Job) -> int:
    captions = of_dataset(job.params.caption, job.dataset, "caption")
    return job.of_family(captions.words | captions.pool, "caption.{}.words")


def _captions(job: Job) -> dict[str, str]:
    """The captions that the family's triplets are written from, by image name."""
    files = sorted(job.shared("caption").glob(f"*_{_words(job)}.json"))
    return {name: caption for file in files for name, caption in read_captions(file).items()}


def generated(job: Job) -> tuple[Sequence[Triplet], Callable[[str], Path]]:
    """The generated triplets, and a function that returns the path of an image; both from the listing if it has any."""
    layout = job.layout()
    if not read_json(job.listing_file):
        written = layout.read_generated(job.place("triplets") / layout.names.triplets_name(job.family))
        return written, layout.image_path
    listing = read_listing(job.listing_file)
    return listing.triplets, lambda name: listing.unique.gallery.paths[listing.unique.row[name]]


def _settings(job: Job) -> dict[str, Any]:
    """The settings of this data set and family in `params.yaml`, by section."""
    found: dict[str, Any] = {}
    for path, value in pair_settings(job.params, job.dataset, job.family).items():
        *sections, key = short_key(path, job.family)
        reduce(lambda inner, name: inner.setdefault(name, {}), sections, found)[key] = value
    return found
