"""The command `check-data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spn4cir.cli.context import dataset_files, find_image_workers, project_folder
from spn4cir.cli.groups import LayoutOptions, command
from spn4cir.cli.options import Workers
from spn4cir.cli.outputs import check_outputs
from spn4cir.datasets import LAYOUTS
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.config.params import Params
    from spn4cir.datasets.protocol import Benchmark


@command("spn4cir check-data --layout fashioniq --root ~/fashion-iq --json found.json")
def check_data(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A data set of the params.yaml in reach; instead of the options."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", metavar="|".join(LAYOUTS), help="How the folder is laid out.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="FOLDER", help="Root folder of the data set; it is only read.")
    ] = None,
    *,
    how: LayoutOptions,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the whole result into this file.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Do not shorten long lists.")] = False,
    workers: Workers = None,
) -> None:
    """Decode every image that the annotations name, and report problems.

    Lists by name the images that are missing, broken, or in the folder but not named, and how many training triplets,
    queries and gallery images that costs, by split and category, beside the official totals of published data sets.
    Ends with status 1 when an image that the annotations need is missing or broken.
    """
    from spn4cir.config.load import find_params
    from spn4cir.json_files import write_json
    from spn4cir.projects.check import check_data
    from spn4cir.projects.check_lines import check_lines

    params = find_params(Path.cwd())
    place = root if name is None else _linked(name)
    check_outputs(json, reads=dataset_files(params, place, name, how.annotations))
    check = check_data(_open(params, name, layout, root, how.given()), find_image_workers(params, workers))
    print("\n".join(check_lines(check, everything)))
    if json is not None:
        write_json(json, check.as_dict(), indent=2)
        print(f"{json}: written")
    if not check.is_whole:
        raise typer.Exit(1)


def _open(
    params: "Params", name: str | None, layout: str | None, root: Path | None, options: dict[str, Any]
) -> "Benchmark":
    """The data set that NAME or the options ask for."""
    from spn4cir.config.params import of_dataset
    from spn4cir.datasets import open_benchmark

    if name is not None:
        if layout or root or options:
            raise InputError("give NAME, or --layout and --root; not both")
        settings = params.benchmarks.get(name) or of_dataset(params.datasets, name, "datasets")
        place = _linked(name)
        if not place.is_dir():
            raise InputError(
                f"{place}: no such folder; run check-data in the project that has it, or link it with add-dataset"
            )
        return open_benchmark(settings.layout, place, settings.missing, settings.options)
    if layout is None or root is None:
        raise InputError("no data set is named: give --layout and --root, or the NAME of a data set of params.yaml")
    return open_benchmark(layout, root, "error", options)


def _linked(name: str) -> Path:
    """The folder of a data set in the project in reach."""
    return project_folder() / "data" / "raw" / name
