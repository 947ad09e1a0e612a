"""The command that prints settings: `settings`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.groups import command


@command("spn4cir settings fiq clip")
def settings(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A data set of params.yaml.")],
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="A model family of that data set.")],
) -> None:
    """Print the settings of a data set and family, and where each value comes from.

    Reads the params.yaml of the project, or outside a project the one that the package ships. Prints a line for each
    value: the key, the value, and the entry of params.yaml that contains it, as in train.fiq.clip or
    defaults.train.all.
    """
    from spn4cir.config.load import find_merged, find_project
    from spn4cir.config.pair_settings import describe_pair

    lines = [
        (f"{key}: {value}", origin) for key, value, origin in describe_pair(*find_merged(Path.cwd()), dataset, family)
    ]
    if (project := find_project(Path.cwd())) is None:
        print("# no params.yaml in reach: the settings that the package ships")
    else:
        print(f"# {project / 'params.yaml'}")
    width = min(60, max(len(line) for line, _ in lines))
    for line, origin in lines:
        print(f"{line:<{width}}  # {origin}")
