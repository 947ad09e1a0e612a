"""Finds an image by its name, in a data set of the project or in a folder of images."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from spn4cir.comparison.runs import Place
from spn4cir.config.params import Params
from spn4cir.datasets import open_benchmark, open_layout
from spn4cir.datasets.protocol import Benchmark
from spn4cir.errors import InputError
from spn4cir.images.folders import require_images
from spn4cir.positives.listing import read_queries

# From the name of a split and of an image to its path; None for an unknown name.
Lookup = Callable[[str, str], Path | None]


class ImageLookup(NamedTuple):
    """The project or the folder in which the images of a page are looked up.

    Attributes:
        params: the settings in reach.
        project: the folder of these settings; None if there is no project.
        folder: a folder of images that takes precedence over the project's data sets; None for the data sets.
    """

    params: Params
    project: Path | None
    folder: Path | None

    def of_place(self, place: Place) -> Lookup:
        """The images of a data set and family. Raises InputError if they cannot be found."""
        if self.folder is not None:
            return images_in_folder(self.folder)
        if self.project is None:
            raise InputError(
                "there is no params.yaml in reach, whose data sets contain the images; give --images FOLDER"
            )
        return images_of_dataset(self.project, self.params, *place)


def images_of_dataset(project: Path, params: Params, dataset: str, family: str) -> Lookup:
    """The images of the queries and galleries of a data set or benchmark in `data/raw`.

    Raises InputError if the settings do not name it, its folder is absent, or its queries cannot be read.
    """
    return images_of_layout(_open(project, params, dataset, family))


def images_of_layout(layout: Benchmark) -> Lookup:
    """The images of a layout's queries and galleries."""
    splits = {split.name: split.places for split in layout.evaluation_splits()}
    return lambda split, name: splits[split].get(name) if split in splits else None


def _open(project: Path, params: Params, dataset: str, family: str) -> Benchmark:
    """The data set with its annotated queries, or with those that were held out of its generated triplets."""
    root = project / "data" / "raw" / dataset
    if dataset in params.benchmarks:
        benchmark = params.benchmarks[dataset]
        return open_benchmark(benchmark.layout, root, benchmark.missing, benchmark.options)
    if dataset not in params.datasets:
        raise InputError(f"{dataset}: is not a data set of the params.yaml in reach; give --images FOLDER")
    settings = params.datasets[dataset]
    layout = open_layout(settings.layout, root, settings.missing, settings.options)
    listing = project / "data" / "listing" / dataset / f"{family}.json"
    return layout.with_queries(*read_queries(listing)) if listing.is_file() else layout


def images_in_folder(folder: Path) -> Lookup:
    """The images in a folder and its subfolders, by their paths below it or their file names, with or without ending.

    A name that several images have finds none of them. Raises InputError if the folder contains no image.
    """
    paths = [PurePosixPath(name) for name in require_images(folder).names]
    found: dict[str, Path | None] = {}
    for names in (
        [path.as_posix() for path in paths],
        [path.with_suffix("").as_posix() for path in paths],
        [path.name for path in paths],
        [path.stem for path in paths],
    ):
        own: dict[str, Path | None] = {}
        for name, path in zip(names, paths, strict=True):
            own[name] = None if name in own else folder / path
        found = own | found
    return lambda _split, name: found.get(name)
