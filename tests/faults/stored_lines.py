"""Records that stages had stored at a kill, as captions: the next run keeps them and makes at most a batch again."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.faults.project import CAPTIONS_A_BATCH

# A space within the record: it is read as before, and a run that makes the same record again writes none.
_BEGINS, _MARKED = b'{"', b'{ "'


@dataclass(frozen=True)
class StoredLines:
    """The whole lines of the files of records in a project that was killed.

    Attributes:
        files: the lines of each file, marked.
    """

    files: dict[Path, list[bytes]]

    @classmethod
    def marked(cls, root: Path) -> "StoredLines":
        """Marks the lines, so that a record that is made again differs from the stored one."""
        files = {}
        for path in sorted((root / "data" / "work").rglob("*.jsonl")):
            *whole, half = path.read_bytes().split(b"\n")
            files[path] = [line.replace(_BEGINS, _MARKED, 1) if line.startswith(_BEGINS) else line for line in whole]
            path.write_bytes(b"\n".join([*files[path], half]))
        return cls(files)

    def faults(self, most: int = CAPTIONS_A_BATCH) -> list[str]:
        """Says which files have lost records, or have more than `most` that the next run made again."""
        found = []
        for path, before in self.files.items():
            after = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
            if lost := len(set(before) - set(after)):
                found.append(f"{path.parts[-3]}/{path.name}: lost {lost} of {len(before)} stored records")
            known = set(map(_inputs, before))
            again = sum(_inputs(line) in known for line in after if line not in before)
            if again > most:
                found.append(f"{path.parts[-3]}/{path.name}: repeats {again} records, expected at most {most}")
        return found


def _inputs(line: bytes) -> str:
    """A record without its caption."""
    record = json.loads(line)
    record.pop("caption", None)
    return json.dumps(record, sort_keys=True)
