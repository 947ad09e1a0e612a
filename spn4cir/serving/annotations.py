"""The CSV file of annotations that the annotation page writes; the state on disk is the only one."""

import csv
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from spn4cir.datasets.rows import NEEDED, OPTIONAL, Row, read_table
from spn4cir.datasets.splits import states_splits
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.readable import check_text_file
from spn4cir.serving.annotation_text import Annotation, CsvContents, one_line, read_records
from spn4cir.serving.service import MAX_TEXT

_SPLIT = "val"
_HEADER = (*NEEDED, "split")


class AnnotationFile:
    """A CSV file with the columns of layout `folder`, to which queries are appended.

    Each change reads the file again, writes the whole new file beside it and renames it, so that the file never
    contains half a row. A lock on the folder orders the changes of several servers. The rows of others are kept byte
    for byte. The methods may be called from any thread.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        """Checks the file; an absent or empty one is written with the first query.

        Args:
            path: the file.
            split: the split of the queries, train, val or test; None: val, or none if the rows of the file have none.

        Raises:
            InputError: the file is not such a CSV file, has other columns or groups, states no split although one is
                given, is a link, or cannot be read or written.
        """
        self.path = path
        self._given = split
        self._lock = Lock()
        _check_place(path)
        self._read()

    def rows(self) -> tuple[Row, ...]:
        """The rows that the file contains now, in file order. Raises InputError if it was damaged meanwhile."""
        return self._read().rows

    @property
    def split(self) -> str:
        """The split of the queries that are appended; empty if the rows of the file state none."""
        return self._read().split

    def append(self, query: Annotation) -> Annotation:
        """Adds a row, which is on disk when this returns.

        Returns:
            The query as it was written, with its text in one line.

        Raises:
            InputError: the text is empty, too long or no valid Unicode, the target is the reference, the row exists
                already, or the file was damaged or cannot be written.
        """
        query = query._replace(text=one_line(query.text))
        _check_query(query)
        with self._changing() as contents:
            if query in contents.queries:
                raise InputError(f"{self.path.name} already contains this query; write another text")
            self._write(contents.with_row(query))
        return query

    def remove(self, query: Annotation) -> bool:
        """Removes the last row that equals what `append` wrote for this query.

        Returns:
            False if the file no longer contains such a row, because another program changed it.

        Raises:
            InputError: the file was damaged or cannot be written.
        """
        with self._changing() as contents:
            if query not in contents.queries:
                return False
            self._write(contents.without_row(query))
        return True

    @contextmanager
    def _changing(self) -> Iterator[CsvContents]:
        """Yields the contents while no other server changes the file. What was written is on disk afterwards."""
        with self._lock, _locked_folder(self.path.parent) as folder:
            yield self._read()
            with suppress(OSError):  # some file systems cannot do this for a folder
                os.fsync(folder)

    def _write(self, text: str) -> None:
        mode = self.path.stat().st_mode if self.path.exists() else None
        with atomic_file(self.path) as temporary, temporary.open("wb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            self.path.chmod(mode & 0o7777)

    def _read(self) -> CsvContents:
        text = _read_text(self.path)
        if not text.strip("\ufeff\r\n"):
            return CsvContents(text, _HEADER, (), (), self._given or _SPLIT)
        try:
            parts = read_records(text)
        except csv.Error as error:
            raise InputError(f"{self.path}: is not a CSV file ({error}); mend it, or name another file") from None
        header = parts[0].cells
        _check_columns(header, self.path)
        rows = read_table(self.path) if len(parts) > 1 else ()
        if any(row.group for row in rows):
            raise InputError(f"{self.path}: has rows with a group, which the page cannot give; name another file")
        return CsvContents(text, header, tuple(parts), rows, self._split(header, rows))

    def _split(self, header: Sequence[str], rows: Sequence[Row]) -> str:
        if "split" in header and (not rows or states_splits(row.split for row in rows)):
            return self._given or _SPLIT
        if self._given is not None:
            raise InputError(
                f"{self.path}: its rows state no split, so a row of {self._given} cannot be added; write a split into "
                "the column 'split' of every row, or leave out --split"
            )
        return ""


def _check_place(path: Path) -> None:
    if path.suffix.lower() == ".parquet":
        raise InputError(f"{path}: the annotation page writes CSV; name a file that ends in .csv")
    if path.is_symlink():
        raise InputError(f"{path}: is a link; name the file itself, or if DVC made the link, run dvc unprotect first")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file; name a CSV file for the annotations")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; create it, or name another file for the annotations")
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise InputError(f"{place}: cannot be written (its permissions forbid it); name another file")


def _check_columns(header: Sequence[str], path: Path) -> None:
    if not {*NEEDED} <= {*header} <= {*NEEDED, *OPTIONAL} or len({*header}) < len(header):
        raise InputError(
            f"{path}: has the columns {', '.join(header)[:100]}, expected {', '.join(NEEDED)} and optionally "
            f"{', '.join(OPTIONAL)}, each once; name another file"
        )


def _check_query(query: Annotation) -> None:
    if not query.text:
        raise InputError("the text is empty; describe the change, as in 'is red with long sleeves'")
    if len(query.text) > MAX_TEXT:  # `csv` reads no field of more than 131,072 characters
        raise InputError(f"the text has {len(query.text):,} characters, more than {MAX_TEXT:,}; shorten it")
    if query.target == query.reference:
        raise InputError("the target is the reference; choose another image")
    try:
        "".join(query).encode()
    except UnicodeEncodeError:
        raise InputError("the text or a name is not valid Unicode; write it again, or rename the image") from None


def _read_text(path: Path) -> str:
    """The text with its byte order mark and line ends; empty for an absent file."""
    check_text_file(path)
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a CSV file in UTF-8 ({error}); save it as one") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


@contextmanager
def _locked_folder(folder: Path) -> Iterator[int]:
    """Holds a lock on a folder, so that no lock file is needed; another process waits for it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror}); restart the server") from None
    try:
        with suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
