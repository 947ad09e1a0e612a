"""The files of the counts and the section of the page."""

from pathlib import Path

import pytest

from tests.faults.cases import all_cases
from tests.faults.page import END, START, render, with_section
from tests.faults.parts import PARTS, run_missing
from tests.faults.report import FOLDER, Row, load, store

ROWS = [Row("kill -9 in train", 7, 7, "1 epoch repeated"), Row("kill -9 in bank", 3, 2)]


def test_counts_are_read_as_they_were_stored(tmp_path: Path) -> None:
    store("kills", "python -m tests.faults.kills", 61.04, ROWS, tmp_path)
    (part,) = load(tmp_path)
    assert (part.part, part.command, part.seconds, part.rows) == (
        "kills",
        "python -m tests.faults.kills",
        61.0,
        tuple(ROWS),
    )
    assert "Python" in part.machine


def test_more_survivors_than_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kills: more survived than were tried: odd"):
        store("kills", "command", 1, [Row("odd", 1, 2)], tmp_path)
    assert load(tmp_path) == []


def test_the_page_shows_the_counts_and_names_the_parts_that_have_not_run(tmp_path: Path) -> None:
    store("kills", "python -m tests.faults.kills", 90, ROWS, tmp_path)
    section = render(load(tmp_path), {"kills": "Runs that are killed", "disk": "A full disk"})
    assert "### Runs that are killed\n\n`python -m tests.faults.kills`, 1.5 minutes: 10 tried, 9 survived." in section
    assert "| kill -9 in train | 7 | 7 | 1 epoch repeated |" in section
    assert "- A full disk: has not run yet (`python -m tests.faults.disk`).\n" in section


def test_parts_that_have_ended_do_not_run_again_after_an_interruption(tmp_path: Path) -> None:
    ran: list[str] = []

    def run(part: str) -> int:
        if part == "disk" and "disk" not in ran:
            ran.append(part)
            raise KeyboardInterrupt
        ran.append(part)
        return int(part == "workers")

    with pytest.raises(KeyboardInterrupt):
        run_missing(tmp_path / "parts.json", run)
    assert run_missing(tmp_path / "parts.json", run) == ["workers"]
    parts = list(PARTS)
    assert ran == [*parts[: parts.index("disk") + 1], *parts[parts.index("disk") :]]
    assert not (tmp_path / "parts.json").exists()


def test_the_section_replaces_the_old_one_and_nothing_else() -> None:
    page = f"before\n{START}\nold\n{END}\nafter\n"
    assert with_section(page, "new\n") == f"before\n{START}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="expected a page with"):
        with_section("no markers", "new\n")


def test_the_page_has_the_stored_counts() -> None:
    """`python -m tests.faults.page` writes them."""
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert page == with_section(page, render(load(FOLDER)))


def test_the_stored_tables_have_the_rows_of_the_present_code() -> None:
    """Otherwise a table is of older code: measure it again by the command of its part."""
    from tests.faults.targets import TARGETS  # imports torch

    stored = {part.part: {row.fault for row in part.rows} for part in load(FOLDER)}
    groups = {case.kind if case.status else f"{case.kind}, valid" for case in all_cases()}
    assert stored["cases"] == groups
    assert stored["fuzz"] == {target.name for target in TARGETS}
