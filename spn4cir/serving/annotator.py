"""What the annotation page does apart from its elements: proposals of references, and the visits that undo needs."""

import asyncio
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from spn4cir.images.spelling import Spellings
from spn4cir.serving.annotation_text import Annotation
from spn4cir.serving.annotations import AnnotationFile


@dataclass(frozen=True)
class Visit:
    """The state of one tab of a browser, which survives a reload.

    Attributes:
        reference: the query image; None: none is left.
        target: the chosen target; None: not chosen yet.
        text: the text so far.
        written: the queries that this tab wrote, oldest first.
        passed: references that this tab skipped or annotated.
        again: whether references that have a query are proposed too.
    """

    reference: str | None = None
    target: str | None = None
    text: str = ""
    written: tuple[Annotation, ...] = ()
    passed: frozenset[str] = frozenset()
    again: bool = False


@dataclass(frozen=True)
class Progress:
    """The state of the file.

    Attributes:
        queries: number of rows with the split that is written.
        split: that split; empty if the rows of the file state none.
        references: names of the references of all rows.
    """

    queries: int
    split: str
    references: frozenset[str]


class Annotator:
    """The annotation of one gallery by all visitors of a server."""

    def __init__(self, file: AnnotationFile, order: Collection[str], goal: int) -> None:
        """Creates an annotator.

        Args:
            file: the file to which queries are appended.
            order: the order in which images are proposed as references.
            goal: the wanted number of queries.
        """
        self.file = file
        self.goal = goal
        self._order = order
        self._shown: dict[str, str] = {}

    async def progress(self) -> Progress:
        """Reads the file. Raises InputError if it was damaged."""
        return await asyncio.to_thread(self._progress)

    def _progress(self) -> Progress:
        rows, split = self.file.rows(), self.file.split
        count = sum(not split or row.split == split for row in rows)
        return Progress(count, split, frozenset(row.reference for row in rows))

    def propose(self, visit: Visit, progress: Progress, client: str) -> Visit:
        """The visit with its next reference: the first in the order that is not left out.

        Left out are references that have a query, unless the visit asks for them again, those that the visit passed,
        and those that other clients show. If no other image is left, those that the visit passed come again.
        """
        others = {name for each, name in self._shown.items() if each != client}
        left_out = others if visit.again else others | progress.references
        found = self._first_without(left_out | visit.passed)
        if found is None:
            visit = replace(visit, passed=frozenset())
            found = self._first_without(left_out)
        return replace(visit, reference=found, target=None, text="")

    def _first_without(self, left_out: Collection[str]) -> str | None:
        return next((name for name in self._order if name not in left_out), None)

    def show(self, client: str, reference: str | None) -> None:
        """Notes the reference that a client shows, so that no other client gets it as a proposal; None: no longer."""
        self._shown.pop(client, None)
        if reference is not None:
            self._shown[client] = reference

    async def save(self, visit: Visit) -> Visit:
        """Writes the query of a visit, which has a reference and a target. Raises InputError as `append` does."""
        assert visit.reference is not None
        assert visit.target is not None
        query = Annotation(visit.reference, visit.target, visit.text)
        written = await asyncio.to_thread(self.file.append, query)
        return replace(visit, written=(*visit.written, written), passed=visit.passed | {written.reference})

    async def undo(self, visit: Visit) -> tuple[Visit, bool]:
        """Removes the last query that a visit wrote from the file. Raises InputError as `remove` does.

        Returns:
            The visit with this query to be edited, and True; or the visit as it was but for `written`, and False, if
            another program has changed the row.
        """
        *earlier, last = visit.written
        visit = replace(visit, written=tuple(earlier))
        if not await asyncio.to_thread(self.file.remove, last):
            return visit, False
        passed = visit.passed - {last.reference}
        return replace(visit, reference=last.reference, target=last.target, text=last.text, passed=passed), True


def skip(visit: Visit) -> Visit:
    """The visit with its reference passed."""
    return visit if visit.reference is None else replace(visit, passed=visit.passed | {visit.reference})


def report_absent(file: AnnotationFile, names: Collection[str]) -> None:
    """Warns on stderr if rows of the file name images that are not in the gallery, as those of another one do."""
    spellings, there = Spellings(names, Path("the gallery")), frozenset(names)
    absent = [
        name
        for row in file.rows()
        for name in (row.reference, row.target)
        if name not in there and spellings.find(name) is None
    ]
    if absent:
        print(
            f"warning: {file.path}: {len(absent):,} names are not images of the gallery, such as "
            f"'{absent[0]}'; spn4cir check-data lists them",
            file=sys.stderr,
        )
