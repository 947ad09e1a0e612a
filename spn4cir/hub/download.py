"""Downloads files of the hub atomically, and resumes downloads that stopped before their end.

The bytes are received by plain HTTP into `blobs/<etag>.incomplete` of the hub's own cache. huggingface_hub's own
download deletes the received bytes when it fails, so that a file of several gigabytes would start from the beginning.
"""

import errno
import logging
import sys
import time
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.files import disk_errors, require_space
from spn4cir.hub.refusals import HubRequest, hub_said

_ATTEMPTS = 3  # attempts in a row without a new byte; the library retries several times in each
_SECONDS_BETWEEN_ATTEMPTS = 2.0


def download(wanted: HubRequest, url: str, etag: str, size: int | None) -> None:
    """Downloads the bytes to the place in the cache where the library expects them, one process at a time."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    cache = Path(constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=wanted.repository, repo_type=wanted.kind)
    blob = cache / folder / "blobs" / etag
    lock = cache / ".locks" / folder / f"{etag}.lock"
    with disk_errors(blob):
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _receive(wanted, url, blob, size)


def _receive(wanted: HubRequest, url: str, blob: Path, size: int | None) -> None:
    """Continues the partial file beside `blob`, and renames it when it is complete."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    logging.getLogger("huggingface_hub.file_download").setLevel(logging.ERROR)  # it warns of each of its own attempts
    partial = blob.with_name(f"{blob.name}.incomplete")
    have = _length(partial)
    if size is None or have > size:
        partial.unlink(missing_ok=True)
        have = 0
    if size is not None:
        require_space(partial, size - have)
    total = "" if size is None else f" {size / 1e6:,.1f} MB"
    kept = f", of which {have / 1e6:,.1f} are here" if have else ""
    print(f"{wanted}: downloading{total}{kept}", file=sys.stderr, flush=True)
    attempts = 0
    while True:
        try:
            _request(wanted, url, partial, size)
            partial.replace(blob)
            return
        except HTTPError as error:
            attempts = 1 if _length(partial) > have else attempts + 1
            have = _length(partial)
            if attempts >= _ATTEMPTS:
                raise _broken_off(wanted, have, size, error) from error
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)


def _request(wanted: HubRequest, url: str, partial: Path, size: int | None) -> None:
    """Requests the bytes that the partial file lacks. A response of another size is removed."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a compressed response has another length
    try:
        with partial.open("ab") as stream:
            http_get(
                url,
                stream,
                resume_size=_length(partial),
                headers=headers,
                expected_size=size,
                displayed_filename=wanted.file,
            )
    except HfHubHTTPError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{partial}: the disk is full; the {_length(partial) / 1e6:,.1f} MB of {wanted} that were received are "
                "kept: free some space, or set HF_HOME to a folder on a larger disk, and run again"
            ) from error
        if error.errno is not None:
            raise
        got = _length(partial)
        partial.unlink(missing_ok=True)
        raise InputError(
            f"{wanted}: expected {size} bytes but {got} were sent; they were removed: run again, or set HF_ENDPOINT "
            "to another mirror"
        ) from error


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _broken_off(wanted: HubRequest, have: int, size: int | None, error: Exception) -> InputError:
    total = f" of {size / 1e6:,.1f}" if size else ""
    return InputError(
        f"{wanted}: the download stopped at {have / 1e6:,.1f}{total} MB ({hub_said(error)}); the received bytes are "
        "kept: run again to resume"
    )
