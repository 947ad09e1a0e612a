"""Inputs of the stages that train and score: unique images, triplets and queries, annotated or from the listing."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from spn4cir.config.params import of_dataset
from spn4cir.datasets.packed_triplets import PackedTriplets
from spn4cir.datasets.protocol import Layout
from spn4cir.files import file_hash, value_hash
from spn4cir.positives.dedup import read_optimized_images
from spn4cir.positives.listing import read_listed_images, read_listing, read_queries
from spn4cir.types import Triplet, UniqueImages
from stages.common import Job
from stages.work import listing_hash


def scored_layout(job: Job) -> Layout:
    """The layout with its annotated queries, or with the queries that the listing holds out."""
    return job.layout().with_queries(*read_queries(job.listing_file))


def data_hash(job: Job) -> str:
    """Hash of `data/raw/<dataset>`, and of annotations outside of it."""
    root, options = job.layout().root, of_dataset(job.params.datasets, job.dataset, "datasets").options
    annotations = file_hash(root / options["annotations"]) if "annotations" in options else None
    return value_hash([listing_hash(root), annotations])


def unique_images(job: Job, which: str) -> UniqueImages:
    """The unique images of the `annotated` triplets, or of the `generated` triplets in the listing."""
    if which == "generated":
        return read_listed_images(job.listing_file)
    return read_optimized_images(job.dedup_file, job.layout().image_path)


def training_triplets(job: Job, which: str, images: str) -> Sequence[Triplet]:
    """The triplets that a stage trains on.

    Args:
        job: data set and family.
        which: `annotated`, `generated` or `both`.
        images: the unique images that the triplets name, as `unique_images` takes them. If `generated`, the triplets
            are those of the listing.
    """
    if images == "generated":
        return read_listing(job.listing_file).triplets
    layout = job.layout()
    return positives(layout, job.place("triplets") / layout.names.triplets_name(job.family), which)


def positives(layout: Layout, generated: Path, which: str) -> Sequence[Triplet]:
    """The training triplets of a layout: `annotated`, `generated` (read from a file), or `both`."""
    if which == "annotated":
        return layout.training_triplets()
    written = layout.read_generated(generated)
    return written if which == "generated" else PackedTriplets(chain(layout.training_triplets(), written))
