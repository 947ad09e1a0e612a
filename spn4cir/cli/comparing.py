"""The commands that compare runs: `compare` and `runs`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spn4cir.cli.groups import command
from spn4cir.cli.outputs import check_outputs
from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.comparison.compare import ComparedRuns


@command("spn4cir compare main warm-tau --json differences.json")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Metrics files, git revisions, names of experiments, or workspace."),
    ],
    to: Annotated[
        Literal["paper"] | None, typer.Option("--to", help="Compare one run with the figures of the paper.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures into this file.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write a page of two runs, with their queries and images."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="Folder of the images of --html. Default: the data sets of the project in reach.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Compare only this data set of a revision.")
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", metavar="NAME", help="Compare only this family of a revision.")
    ] = None,
) -> None:
    """Compare runs query by query.

    Reads metrics files and the tables of queries that they name; those of a revision or an experiment are read
    through DVC. Compares each run after the first with the first and prints, for each score, the difference in
    percentage points with a 95 % interval (paired bootstrap over the queries), how many queries were won and lost, and
    whether the difference is within noise. With --html, also writes one HTML file with the settings that differ, the
    scores, and for each query the best candidates of both runs. With --to paper, prints the paper's figures for the
    run's family and data set, both protocols, and whether the two are comparable.
    """
    from spn4cir.comparison.runs import run_files

    _check_call(runs, to, html, images)
    check_outputs(json, html, reads=(file for name in runs for file in run_files(name)), images=images)
    if to:
        content = _beside_paper(runs[0], dataset, family)
    else:
        content, compared = _beside_first(runs, dataset, family)
        if html is not None:
            _write_page((runs[0], runs[1]), compared, html, images)
    if json is not None:
        from spn4cir.json_files import write_json

        write_json(json, content, indent=2)
        print(f"{json}: written")


def _check_call(runs: list[str], to: str | None, html: Path | None, images: Path | None) -> None:
    """Raises InputError for options that do not go together."""
    if to is None and len(runs) < 2:
        raise InputError("compare takes two or more runs, or one run with --to paper")
    if to is not None and len(runs) > 1:
        raise InputError(f"--to paper takes one run, got {len(runs)}; compare them one by one")
    if html is not None and len(runs) != 2:
        raise InputError(f"--html takes two runs, got {len(runs)}; write a page for each pair")
    if images is not None and html is None:
        raise InputError("--images is for the page of --html; give both, or neither")


def _beside_first(
    names: list[str], dataset: str | None, family: str | None
) -> tuple[dict[str, object], list["ComparedRuns"]]:
    """Prints the comparisons; returns the content of the JSON file, and the compared runs.

    The content is by score, or by run and score for several runs.
    """
    from spn4cir.comparison.compare import ComparedRuns, compare_runs, find_pairs
    from spn4cir.comparison.lines import comparison_content, comparison_lines, merge

    first, *others = names
    parts: dict[str, dict[str, dict[str, object]]] = {name: {} for name in others}
    compared = []
    for place, (a, *rest) in find_pairs(names, dataset, family):
        title = "/".join(place)
        for name, b in zip(others, rest, strict=True):
            found = compare_runs(a, b)
            for warning in found.warnings:
                print(f"warning: the protocols of {a.label} and {b.label} differ, {warning}", file=sys.stderr)
            print("\n".join(comparison_lines(title, first, name, found)), end="\n\n")
            parts[name][title] = comparison_content(found)
            compared.append(ComparedRuns(place, a, b, found))
    merged = {name: merge(content) for name, content in parts.items()}
    return next(iter(merged.values())) if len(others) == 1 else dict(merged), compared


def _write_page(names: tuple[str, str], compared: list["ComparedRuns"], path: Path, images: Path | None) -> None:
    """Writes the page of two runs, and prints its size and what it lacks."""
    from spn4cir.config.load import find_params, find_project
    from spn4cir.report.compare_page import write_compare_page
    from spn4cir.report.image_lookup import ImageLookup

    source = ImageLookup(find_params(Path.cwd()), find_project(Path.cwd()), images)
    page, size = write_compare_page(names, compared, source, path)
    for note in page.notes:
        print(f"warning: {note}", file=sys.stderr)
    print(f"{path}: written, {size / 1e6:.1f} MB, {page.shown} of {page.queries} queries")


def _beside_paper(name: str, dataset: str | None, family: str | None) -> dict[str, object]:
    """Prints each run that the paper has figures for. Raises InputError when it has none."""
    from spn4cir.comparison.compare import find_runs
    from spn4cir.comparison.lines import merge, paper_content, paper_lines
    from spn4cir.comparison.paper import compare_to_paper

    parts: dict[str, dict[str, dict[str, object]]] = {}
    failed: list[InputError] = []
    for place, run in find_runs(name, dataset, family).items():
        try:
            found = compare_to_paper(run)
        except InputError as error:
            failed.append(error)
            continue
        print("\n".join(paper_lines("/".join(place), name, found)), end="\n\n")
        parts["/".join(place)] = paper_content(found)
    if not parts:
        raise failed[0]
    for reason in failed:
        print(f"warning: {reason}", file=sys.stderr)
    return merge(parts)


@command("spn4cir runs --dataset demo_fiq")
def runs(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Metrics files, git revisions, names of experiments, or workspace. Default: see --commits.",
        ),
    ] = None,
    commits: Annotated[
        int,
        typer.Option(
            "--commits", metavar="N", min=-1, help="List the last N commits and their experiments; -1: all commits."
        ),
    ] = 1,
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="List only this data set.")] = None,
    family: Annotated[str | None, typer.Option("--family", metavar="NAME", help="List only this family.")] = None,
) -> None:
    """List experiments and revisions, the best first.

    Prints a table for each data set and family: the score that selects the best epoch, and the settings of params.yaml
    that differ between the runs. Lists the files on disk as workspace, the last commit and its experiments.
    """
    from spn4cir.comparison.run_table import list_runs, run_tables

    tables, reasons = run_tables(names or list_runs(commits), dataset, family)
    print("\n\n".join("\n".join(table.lines()) for table in tables))
    for reason in reasons:
        print(f"warning: {reason}", file=sys.stderr)
