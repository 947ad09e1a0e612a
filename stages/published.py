"""Published files that a stage takes instead of making them: from the data set's folder, or from the hub."""

from pathlib import Path
from typing import Any

from spn4cir.config.base import HubFile
from spn4cir.errors import InputError
from spn4cir.files import copy_file, file_hash
from spn4cir.hub.fetch import fetch, record
from spn4cir.json_files import write_json
from stages.common import Job

Origin = dict[str, Any]


def find(job: Job, source: str, path: Path, hub: HubFile | None) -> tuple[Path, Origin]:
    """Finds a published file, and returns its path and its origin with its sha256.

    Args:
        job: its settings name the repository on the hub.
        source: `path` or `hub`.
        path: local path of a published file.
        hub: the file in the repository on the hub.

    Raises:
        InputError: the file is absent or cannot be downloaded.
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
    """Copies the file to `out` and writes its origin to `source.json` in the same folder, both atomically."""
    copy_file(path, out)
    write_json(out.parent / "source.json", origin, indent=2)
