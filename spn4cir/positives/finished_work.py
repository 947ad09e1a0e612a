"""Append-only files of finished work: one JSON object a line, so that a killed run loses only unfinished work."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spn4cir.errors import InputError
from spn4cir.files import disk_errors


def read_finished(path: Path, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the records of a file, none if it is absent; removes an incomplete last line from the file.

    Args:
        path: the file.
        fields: the keys that every record has.

    Raises:
        InputError: another line is not such a record.
    """
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                os.truncate(path, whole)
                return
            whole += len(line)
            yield _record(path, number, line, fields)


def _record(path: Path, number: int, line: bytes, fields: Sequence[str]) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record.keys() >= set(fields):
        raise InputError(f"{path}: line {number} is damaged; delete the file, its content is made again")
    return record


def append_finished(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends records and returns when they are on disk."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            os.fsync(stream.fileno())
