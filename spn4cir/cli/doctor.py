"""The command `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.groups import command


@command("spn4cir doctor --dry-run")
def doctor(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")] = False,
    remove_work: Annotated[
        bool,
        typer.Option("--remove-work", help="Also remove work in progress, data/work, that no settings claim."),
    ] = False,
) -> None:
    """Mend what a crash left in the DVC workspace.

    Finds a cut .dvc/tmp/rwlock or dvc.lock, locks of processes that have ended, unfinished temporary files, stages that
    run without DVC, and work in progress that the settings do not claim. Mends what no process uses, and prints a line
    for each.
    Prints nothing if nothing is found. Ends with status 1 if something remains.
    """
    from spn4cir.projects.doctor import examine, find_workspace

    remains = False
    for finding in examine(find_workspace(Path.cwd()), dry_run, remove_work):
        print(finding.line)
        remains |= finding.remains
    if remains:
        raise typer.Exit(1)
