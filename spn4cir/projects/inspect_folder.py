"""Reports the contents of a data folder, and faults of it that would stop the pipeline later."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spn4cir.config.params import Params, of_dataset
from spn4cir.datasets import has_server, open_layout, submittable
from spn4cir.datasets.protocol import Layout
from spn4cir.errors import InputError


@dataclass(frozen=True)
class Contents:
    """The contents of a data folder.

    Attributes:
        triplets: number of annotated training triplets that have both images.
        images: number of training images: those that the triplets name or, without annotations, all.
        queries: number of annotated validation queries, by split.
        missing: number of validation images that are absent or, under `skip`, cannot be decoded.
        test: number of test queries; None if there are none to submit.
        test_fault: the reason why there are none; empty otherwise.
    """

    triplets: int
    images: int
    queries: dict[str, int]
    missing: int
    test: int | None
    test_fault: str


def inspect_folder(params: Params, name: str, folder: Path) -> tuple[Contents, list[str]]:
    """Returns the contents of the folder, and remarks on faults that do not prevent its use.

    Raises InputError for a folder that does not have the data set's layout or contains no training images.
    """
    settings = of_dataset(params.datasets, name, "datasets")
    scope = of_dataset(params.caption, name, "caption").images
    try:
        layout = open_layout(settings.layout, folder, settings.missing, settings.options)
        contents, faults = _count(layout, settings.layout, scope), []
    except InputError as error:
        if settings.missing == "skip":
            raise
        skipping = open_layout(settings.layout, folder, "skip", settings.options)
        contents = _count(skipping, settings.layout, scope)
        faults = [f"with datasets.{name}.missing: error the pipeline will stop: {error}"]
    return contents, [*faults, *_link_remarks(folder)]


def _count(layout: Layout, name: str, scope: Literal["split", "triplets"]) -> Contents:
    if "train" in (absent := layout.absent_splits) and layout.annotated_splits():
        raise InputError(
            f"{layout.root}: the annotation files of train are absent (all of: {', '.join(absent)}), and a data set is "
            "trained on; add them, or score the folder with --root alone (spn4cir validate, submit)"
        )
    triplets = layout.training_triplets()
    gallery = layout.training_gallery()
    if not len(gallery):
        raise InputError(f"{layout.root}: no training triplet has its images; check the captions and the image folder")
    layout.caption_images(scope)
    splits = layout.evaluation_splits()
    test, fault = _count_test(layout, name)
    return Contents(
        triplets=len(triplets),
        images=len(gallery),
        queries={split.name: len(split.triplets) for split in splits},
        missing=sum(split.missing for split in splits),
        test=test,
        test_fault=fault,
    )


def _count_test(layout: Layout, name: str) -> tuple[int | None, str]:
    if not has_server(name):
        return None, f"layout {name} has no test server"
    try:
        return len(submittable(name, layout).test_split().triplets), ""
    except InputError as error:
        return None, str(error)


def _link_remarks(folder: Path) -> list[str]:
    """Returns a remark on links to folders inside the data folder, which DVC does not follow.

    DVC follows the link to the data folder itself, and links to files.
    """
    links = list(_inner_links(folder))
    if not links:
        return []
    more = f" and {len(links) - 1} more" if len(links) > 1 else ""
    return [
        f"{links[0]}{more}: a link to a folder further down; DVC does not see what changes behind it: put the folder "
        "itself there, or after such a change type: dvc repro --force"
    ]


def _inner_links(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        for name in sorted(folders):
            if (path := Path(place, name)).is_symlink():
                yield path


def generated_families(params: Params, name: str) -> tuple[str, ...]:
    """Returns the families that are trained only on triplets generated from the data set's own images."""
    pooled = of_dataset(params.caption, name, "caption").pool
    return tuple(
        family
        for family, settings in params.checkpoint.get(name, {}).items()
        if settings.positives == "generated" and family not in pooled
    )
