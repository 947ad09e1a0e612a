"""The text of a CSV file of annotations: its records with their places, and the text with one more or one fewer."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import NamedTuple

from spn4cir.datasets.rows import NEEDED, Row

# Line ends, tabs and other control characters, which a cell should not contain.
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Annotation(NamedTuple):
    """A query that a person wrote.

    Attributes:
        reference: name of the query image: its path from the gallery's folder.
        target: name of the image to find.
        text: what should change, in one line.
    """

    reference: str
    target: str
    text: str


def one_line(text: str) -> str:
    """The text with each run of white space and control characters as one space, and none at the ends."""
    return _BREAKS.sub(" ", text).strip()


class Record(NamedTuple):
    """A line of cells, and where it begins and ends in the text."""

    cells: list[str]
    start: int
    end: int


@dataclass(frozen=True)
class CsvContents:
    """A file that was read.

    Attributes:
        text: all of it.
        header: names of the columns.
        records: all records, the header first.
        rows: the rows.
        split: split of the rows to append; empty for none.
    """

    text: str
    header: Sequence[str]
    records: Sequence[Record]
    rows: tuple[Row, ...]
    split: str

    @property
    def queries(self) -> list[Annotation]:
        """The rows as queries, without their split."""
        places = [self.header.index(name) for name in NEEDED]
        return [Annotation(*(record.cells[place] for place in places)) for record in self.records[1:]]

    def with_row(self, query: Annotation) -> str:
        """The text with one more row at its end, in the line ends of the file."""
        end = "\r\n" if "\r\n" in self.text else "\n"
        start = self.text
        if not start.strip("\ufeff\r\n"):
            start = start.rstrip("\r\n") + _line(self.header, end)
        elif not start.endswith(("\n", "\r")):
            start += end
        values = query._asdict() | {"split": self.split}
        return start + _line([values.get(name, "") for name in self.header], end)

    def without_row(self, query: Annotation) -> str:
        """The text without the last row of a query, which must exist."""
        queries = self.queries
        record = self.records[len(queries) - queries[::-1].index(query)]
        return self.text[: record.start] + self.text[record.end :]


def read_records(text: str) -> list[Record]:
    """The records with their places in the text; blank lines between them are no records."""
    lines = StringIO(text, newline="").readlines()
    reader = csv.reader([line.removeprefix("\ufeff") for line in lines], strict=True)
    found: list[Record] = []
    start = line = 0
    for cells in reader:
        end = start + sum(map(len, lines[line : reader.line_num]))
        if cells or not found:  # a blank first line is a header without columns
            found.append(Record(cells, start, end))
        start, line = end, reader.line_num
    return found


def _line(cells: Sequence[str], end: str) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(cells)  # so that cells with either character get quotes
    return stream.getvalue().removesuffix("\r\n") + end
