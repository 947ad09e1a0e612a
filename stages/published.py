"""Published files in the place of what a stage would make: from the data set's folder, or from the hub."""

from pathlib import Path
from typing import Any

from spn4cir.config.base import HubFile
from spn4cir.errors import InputError
from spn4cir.files import copy_file, file_hash, write_json
from spn4cir.hub.fetch import fetch, record
from stages.common import Job

Origin = dict[str, Any]


def find(job: Job, source: str, path: Path, hub: HubFile | None) -> tuple[Path, Origin]:
    """The published file and where it came from, its sha256 with it.

    Args:
        job: whose settings name the hub's repository.
        source: `path` or `hub`.
        path: where a published file lies on this machine.
        hub: the file in the repository.

    Raises:
        InputError: the file cannot be had.
    """
    if source == "hub":
        assert hub is not None, "the params refuse source hub without a file"
        settings = job.params.hub
        fetched = fetch(settings.repository, hub.file, settings.revision, hub.sha256)
        return fetched.path, {"source": source, **record(fetched)}
    if not path.is_file():
        raise InputError(f"{path}: no such file; put the published file there, or set source to make or hub")
    return path, {"source": source, "file": path.as_posix(), "sha256": file_hash(path)}


def take(path: Path, origin: Origin, out: Path) -> None:
    """Copies the file to its place, with a word on its origin beside it, both whole."""
    copy_file(path, out)
    write_json(out.parent / "source.json", origin, indent=2)
