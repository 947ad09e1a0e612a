"""DVC's lock files, `dvc.lock`, that DVC did not finish.

DVC writes a lock file in place after each stage, with the entries of all stages. If it is killed meanwhile, the file is
empty or ends in the middle of an entry, and the entries after that are lost. docs/reliability.md describes the fault.

A file that is cut at the end of a line is found if its last line is the heading of a section, which DVC cannot read.
Else DVC reads it, and runs the stages again whose entries are missing or incomplete.

A file without a last line break can end in the middle of a value that looks whole, such as `size: 12` of `size: 12345`.
It counts as cut, unless its last entry is that of the last commit: some editors remove the last line break.
"""

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from spn4cir.files import atomic_file
from spn4cir.projects.leftovers import Leftover, RunningProcess

_NAME = "dvc.lock"
_HEAD = "schema: '2.0'\nstages:\n"
_STAGE = re.compile(r"^ {2}\S.*:$", re.MULTILINE)
# `stages:`, a stage, its `deps:`, or a file of `params:`; a value that is absent has at least eight spaces.
_HEADING_AT_END = re.compile(r"^ {0,6}\S.*:\n\Z", re.MULTILINE)
_ENTRY = re.compile(r"^ {2}\S.*:\n(?: {4}.*\n)+", re.MULTILINE)


def find_cut_locks(workspace: Path, running: list[RunningProcess]) -> Iterator[Leftover]:
    """The lock files that are empty or cut. A process that uses the workspace may be writing them: none is reported.

    Args:
        workspace: the folder that contains `.dvc`.
        running: the processes that use the workspace.
    """
    if running:
        return
    for path in sorted((*workspace.glob(_NAME), *workspace.glob(f"*/{_NAME}"))):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if text.endswith("\n") and not _HEADING_AT_END.search(text):
            continue
        committed = _entries(_committed(path))
        if _ends_as_committed(text + "\n", committed):
            continue
        kept = {name: entry for name, entry in _entries(text).items() if name not in _STAGE.findall(text)[-1:]}
        committed = {name: entry for name, entry in committed.items() if name not in kept}
        counts = f"{len(kept)} entries kept, {len(committed)} taken from the last commit"
        yield Leftover(
            path.relative_to(workspace),
            "was not finished by a DVC that has ended",
            f"mended ({counts}); DVC runs the other stages again",
            partial(_write, path, [*kept.values(), *committed.values()]),
        )


def _ends_as_committed(text: str, committed: dict[str, str]) -> bool:
    """Whether a lock file is YAML, and its last entry is one of the last commit.

    Args:
        text: the content of the file, with a last line break.
        committed: the entries of the last commit.
    """
    name, entry = ([("", ""), *_entries(text).items()])[-1]
    if not entry or not text.endswith(entry) or committed.get(name) != entry:
        return False
    try:
        YAML(typ="safe").load(text)
    except YAMLError:
        return False
    return True


def _entries(text: str) -> dict[str, str]:
    """The entries of a lock file by their first line, the name of the stage."""
    return {entry.partition("\n")[0]: entry for entry in _ENTRY.findall(text)}


def _committed(path: Path) -> str:
    """The file in the last commit; empty if there is none."""
    done = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True)
    return "" if done.returncode else done.stdout.decode(errors="replace")


def _write(path: Path, entries: list[str]) -> None:
    if not entries:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as temporary:
        temporary.write_text(_HEAD + "".join(entries), encoding="utf-8")
