"""Commands over data sets: `dedup` and `add-dataset`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from spn4cir.cli.context import dataset_files, find_benchmark, find_image_workers, project_folder
from spn4cir.cli.groups import LayoutOptions, SettingsOptions, TrainingOptions, command
from spn4cir.cli.options import LayoutName, Root, Workers
from spn4cir.cli.outputs import check_outputs
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.datasets.protocol import Layout


@command("spn4cir dedup --layout fashioniq --root ~/fashion-iq --out optimized_images.json")
def dedup(
    layout: LayoutName,
    root: Root,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The JSON file to write.")],
    *,
    how: TrainingOptions,
    whose: SettingsOptions,
    workers: Workers = None,
) -> None:
    """Find training images that are equal pixel by pixel.

    Reads the images that the annotated training triplets name. Writes optimized_images.json in the published form: the
    names that are kept, their paths, and the row of every name.
    """
    from spn4cir.config.load import find_params
    from spn4cir.datasets import every_file, require_training
    from spn4cir.positives.dedup import deduplicate, write_optimized_images

    params = find_params(Path.cwd())
    reads = dataset_files(params, root, whose.dataset, how.annotations)
    check_outputs(out, reads=reads, all_read=every_file(layout))
    require_training(layout)
    opened, _ = find_benchmark(params, layout, root, whose, how.given())
    unique = deduplicate(cast("Layout", opened).training_gallery(), find_image_workers(params, workers))
    write_optimized_images(unique, out)
    print(f"{out}: {len(unique.row)} images, {len(unique.row) - len(unique.gallery)} of them duplicates")


@command("spn4cir add-dataset mine --layout cirr --path ~/my-images --like demo_cirr")
def add_dataset(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the data set; letters, digits, '_' and '-'.")
    ],
    layout: LayoutName,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="FOLDER", help="The folder of the data; it is only read.")
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(
            "--hub",
            metavar="OWNER/NAME",
            help="Layout table: fetch the tables of this data set of the Hugging Face hub, instead of --path. Default "
            "without --path: the repository that params.yaml names for NAME.",
        ),
    ] = None,
    revision: Annotated[
        str, typer.Option("--revision", metavar="R", help="Branch, tag or commit of --hub; its commit is stored.")
    ] = "main",
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="OTHER", help="Copy this data set's settings. Default: the published ones."),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option("--pool", metavar="FOLDER", help="A CC3M folder, from which the family zs_cc makes its triplets."),
    ] = None,
    *,
    how: LayoutOptions,
    check: Annotated[
        bool, typer.Option(help="Decode every image first, as check-data does; problems are only reported.")
    ] = True,
    run: Annotated[
        bool,
        typer.Option("--run", help="Set the lists of run in params.yaml to NAME, so that dvc repro runs only NAME."),
    ] = False,
) -> None:
    """Add a folder of images, with or without captions, to the pipeline as a data set or a benchmark.

    Run it in the folder of params.yaml and dvc.yaml, or below it. Links the folder at data/raw/NAME, makes the model
    folders under data/models/NAME (with the local models of OTHER), and copies OTHER's settings to NAME in params.yaml.
    Then prints the contents of the folder and the next commands. A second run changes nothing. A benchmark (layouts
    circo, genecis) is only scored and gets no models.
    """
    from spn4cir.datasets import is_trained_on
    from spn4cir.projects.add_benchmark import add_benchmark
    from spn4cir.projects.add_dataset import add_dataset, fetch_dataset

    project = project_folder()
    if not is_trained_on(layout):
        path = _only_path(layout, path, pool, hub, run, replace(how, tasks=None).given())
        print(add_benchmark(project, name, layout, path, like, check, how.given()))
        return
    options = replace(how, annotations=None).given()
    if path is None:
        path, options = fetch_dataset(project, name, layout, hub, revision, options)
    elif hub is not None:
        raise InputError("give --path or --hub, not both")
    print(add_dataset(project, name, layout, path, like, pool, how.annotations, check, options, run).report)


def _only_path(layout: str, path: Path | None, *others: Any) -> Path:
    """The folder of a layout that takes no other option."""
    if path is None or any(others):
        raise InputError(f"layout {layout} takes only --path, --like and --tasks; leave out the other options")
    return path
