"""Commands over data sets: `dedup` and `add-dataset`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spn4cir.cli.application import app, example
from spn4cir.cli.context import check_place, find_layout, layout_options, project_folder
from spn4cir.cli.options import (
    Annotations,
    Categories,
    Dataset,
    LayoutName,
    Missing,
    Root,
    TableSettings,
    Tasks,
    Workers,
)
from spn4cir.errors import InputError


@app.command(epilog=example("spn4cir dedup --layout fashioniq --root ~/fashion-iq --out optimized_images.json"))
def dedup(
    layout: LayoutName,
    root: Root,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The JSON file to write.")],
    annotations: Annotations = None,
    table: TableSettings = None,
    categories: Categories = None,
    missing: Missing = None,
    dataset: Dataset = None,
    workers: Workers = None,
) -> None:
    """Find the training images that are equal, pixel by pixel.

    Reads the images that the annotated training triplets name. Writes optimized_images.json in the published form: the
    names that are kept, their paths, and the row of every name.
    """
    from spn4cir.config.load import find_params
    from spn4cir.positives.dedup import deduplicate, write_optimized_images

    check_place(out)
    params = find_params(Path.cwd())
    opened = find_layout(params, layout, root, dataset, missing, annotations, table, categories)
    unique = deduplicate(opened.training_gallery(), params.machine.workers if workers is None else workers)
    write_optimized_images(unique, out)
    print(f"{out}: {len(unique.row)} images, {len(unique.row) - len(unique.gallery)} of them duplicates")


@app.command(epilog=example("spn4cir add-dataset mine --layout cirr --path ~/my-pictures --like demo_cirr"))
def add_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; letters, digits, '_' and '-'.")],
    layout: LayoutName,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="FOLDER", help="Where the data lie; they are only read.")
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(
            "--hub",
            metavar="OWNER/NAME",
            help="Of layout table: fetch the tables of this data set of the Hugging Face hub, in the place of --path. "
            "Neither: from where params.yaml says that NAME came.",
        ),
    ] = None,
    revision: Annotated[
        str, typer.Option("--revision", metavar="R", help="Branch, tag or commit of --hub; its commit is written down.")
    ] = "main",
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="OTHER", help="Copy this data set's settings. Default: the published ones."),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option("--pool", metavar="FOLDER", help="A CC3M folder: what the family zs_cc draws its triplets from."),
    ] = None,
    annotations: Annotations = None,
    table: TableSettings = None,
    categories: Categories = None,
    tasks: Tasks = None,
    check: Annotated[
        bool, typer.Option(help="Decode every picture first, as check-data does; it refuses nothing.")
    ] = True,
    run: Annotated[
        bool,
        typer.Option("--run", help="Set the lists of run in params.yaml to NAME, so that dvc repro runs it alone."),
    ] = False,
) -> None:
    """Make a folder of images, with captions or without, a data set or a benchmark of the pipeline.

    Run it in the folder of params.yaml and dvc.yaml, or in one below it. Links the folder at data/raw/NAME, makes the
    model folders under data/models/NAME (with the local models of OTHER), and copies OTHER's settings to NAME in
    params.yaml. Then says what is in the folder and what to type next. Running it again changes nothing. A benchmark
    (layouts circo, genecis) is only scored: it gets no models.
    """
    from spn4cir.datasets import is_trained_on
    from spn4cir.projects.add_benchmark import add_benchmark
    from spn4cir.projects.add_dataset import add_dataset, fetch_dataset

    project = project_folder()
    if not is_trained_on(layout):
        path = _only_path(layout, path, pool, annotations, table, hub, categories, run)
        print(add_benchmark(project, name, layout, path, like, check, layout_options(None, tasks=tasks)))
        return
    options = layout_options(None, table=table, categories=categories, tasks=tasks)
    if path is None:
        path, options = fetch_dataset(project, name, layout, hub, revision, options)
    elif hub is not None:
        raise InputError("give --path or --hub, not both")
    print(add_dataset(project, name, layout, path, like, pool, annotations, check, options, run))


def _only_path(layout: str, path: Path | None, *others: Any) -> Path:
    """The folder of a layout that takes nothing else."""
    if path is None or any(others):
        raise InputError(f"layout {layout} takes --path, --like and --tasks alone; leave the other options out")
    return path
