"""The tables of counts in docs/reliability.md: `python -m tests.faults.page` writes them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from spn4cir.files import atomic_file
from tests.faults.parts import PARTS
from tests.faults.report import FOLDER, Part, load

START, END = "<!-- faults -->", "<!-- end -->"
# A bar within a cell of a table in Markdown.
_BAR = r"\|"
_PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def main() -> None:
    """Writes the section of the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.page", description=__doc__)
    parser.add_argument("--page", type=Path, default=_PAGE)
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder of the counts")
    arguments = parser.parse_args()
    text = with_section(arguments.page.read_text(encoding="utf-8"), render(load(arguments.results)))
    with atomic_file(arguments.page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{arguments.page}: written")


def render(parts: Sequence[Part], titles: Mapping[str, str] = PARTS) -> str:
    """Returns the section in Markdown, without its markers.

    Args:
        parts: the parts that have run.
        titles: titles by name of all parts, in the order of the page; parts that have none follow.
    """
    ran = {part.part: part for part in parts}
    names = [*titles, *(name for name in ran if name not in titles)]
    sections = [_section(titles.get(name, name), ran[name]) for name in names if name in ran]
    missing = [
        f"- {titles[name]}: has not run yet (`python -m tests.faults.{name}`).\n" for name in titles.keys() - ran
    ]
    return "\n".join([*sections, *(["".join(sorted(missing))] if missing else [])])


def _section(title: str, part: Part) -> str:
    rows = "".join(
        f"| {row.fault.replace('|', _BAR)} | {row.tried:,} | {row.survived:,} | {row.note} |\n" for row in part.rows
    )
    tried, survived = sum(row.tried for row in part.rows), sum(row.survived for row in part.rows)
    return (
        f"### {title}\n\n`{part.command}`, {part.seconds / 60:.1f} minutes: {tried:,} tried, {survived:,} survived.\n"
        f"Machine: {part.machine}.\n\n| fault | tried | survived | |\n|---|---:|---:|---|\n{rows}"
    )


def with_section(page: str, section: str) -> str:
    """Returns the page with the text between its markers replaced."""
    head, _, rest = page.partition(START)
    _, marker, tail = rest.partition(END)
    if not marker:
        raise ValueError(f"expected a page with {START} and {END}")
    return f"{head}{START}\n{section}{END}{tail}"


if __name__ == "__main__":
    main()
