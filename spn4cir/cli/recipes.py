"""The command that writes a named recipe: `recipe`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.context import project_folder
from spn4cir.cli.groups import command
from spn4cir.errors import InputError


@command("spn4cir recipe plus --dataset fiq --family clip")
def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The recipe: paper, the published one, or plus.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="A data set of params.yaml.")],
    family: Annotated[
        str | None,
        typer.Option("--family", metavar="NAME", help="A model family of it. Default: all of its families."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the changes and write nothing.")] = False,
) -> None:
    """Write a named recipe into the params.yaml of the project.

    Sets the keys of the recipe for the data set, for one family or for all families of the data set, and keeps the
    comments and all other values. Prints each key that changes, with its value before and after, and the command that
    trains. The recipe paper sets the published values again.
    """
    from spn4cir.config.load import find_project, load_params
    from spn4cir.config.params import PARAMS_FILE
    from spn4cir.projects.apply_recipe import apply_recipe, run_lines, write_recipe

    if find_project(Path.cwd()) is None:
        raise InputError(f"there is no project with {PARAMS_FILE} in reach; change into its folder")
    project = project_folder()
    path = project / PARAMS_FILE
    load_params(path)
    applied = apply_recipe(path.read_bytes().decode(), str(path), name, dataset, family)
    for path_kept in applied.kept:
        print(f"{'.'.join(path_kept)}: kept; no value is published for {dataset}")
    if not applied.changes:
        print(f"{path}: has the recipe '{name}' for {dataset} already; nothing is written")
        return
    if not dry_run:
        write_recipe(path, applied)
    print(f"{path}: {'would change' if dry_run else 'changed'}")
    for change in applied.changes:
        print(f"  {'.'.join(change.path)}: {json.dumps(change.before)} -> {json.dumps(change.after)}")
    if not dry_run:
        print("\n".join(run_lines(project, dataset, applied)))
