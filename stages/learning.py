"""What the stages that train read: images and triplets, annotated, or generated and listed."""

from spn4cir.dedup import read_optimized_images
from spn4cir.listing import read_listing
from spn4cir.types import Triplet, UniqueImages
from stages.common import Job


def unique_images(job: Job, which: str) -> UniqueImages:
    """The unique images of `annotated` triplets, or those of the listing's `generated` ones."""
    if which == "generated":
        return read_listing(job.listing_file).unique
    return read_optimized_images(job.dedup_file, job.layout().image_path)


def first_triplets(job: Job, which: str) -> tuple[Triplet, ...]:
    """The `annotated` training triplets, or the listing's `generated` ones."""
    if which == "generated":
        return read_listing(job.listing_file).triplets
    return job.layout().training_triplets()
