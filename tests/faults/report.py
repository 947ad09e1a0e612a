"""The counts of the campaign, one file a part: `metrics/faults/PART.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spn4cir.json_files import read_json, write_json
from tests.helpers.machine import machine

FOLDER = Path(__file__).parents[2] / "metrics" / "faults"


class Row(NamedTuple):
    """One fault.

    Attributes:
        fault: what was done.
        tried: how many times.
        survived: how many times everything that the part checks was true.
        note: what else was counted; empty if nothing.
    """

    fault: str
    tried: int
    survived: int
    note: str = ""


class Part(NamedTuple):
    """A part of the campaign, as it is stored.

    Attributes:
        part: name, also of the file.
        command: the command that counted.
        seconds: duration of the command.
        machine: the machine, in words.
        rows: the counts.
    """

    part: str
    command: str
    seconds: float
    machine: str
    rows: tuple[Row, ...]


def store(part: str, command: str, seconds: float, rows: Sequence[Row], folder: Path = FOLDER) -> Path:
    """Writes the counts of a part, whole or not at all. Returns the file.

    Raises ValueError if a row survived more often than it was tried.
    """
    wrong = [row.fault for row in rows if not 0 <= row.survived <= row.tried]
    if wrong:
        raise ValueError(f"{part}: more survived than were tried: {', '.join(wrong)}")
    path = folder / f"{part}.json"
    value = Part(part, command, round(seconds, 1), machine(), ())._asdict()
    write_json(path, value | {"rows": [row._asdict() for row in rows]}, indent=2)
    return path


def load(folder: Path = FOLDER) -> list[Part]:
    """Reads the parts that have run, in the order of their names."""
    found = [read_json(path) for path in sorted(folder.glob("*.json"))]
    return [Part(**{**each, "rows": tuple(Row(**row) for row in each["rows"])}) for each in found]
