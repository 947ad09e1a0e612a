"""Fetches published files from the Hugging Face hub into the hub's own cache, and checks them.

huggingface_hub looks files up, authorises the requests and links the files. It reads `HF_HOME`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE` and `HF_TOKEN` when it is first imported.
"""

import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from spn4cir.errors import InputError
from spn4cir.files import disk_errors, file_hash
from spn4cir.hub.download import download
from spn4cir.hub.refusals import BY_HAND, HubRequest, hub_address, hub_said, refusal
from spn4cir.hub.variables import check_hub_variables

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """A file of the hub in the cache.

    Attributes:
        path: path in the cache; the file must not be changed.
        repository: repository as `owner/name`.
        revision: the requested branch, tag or commit.
        commit: the commit that the revision refers to.
        file: path within the repository.
        sha256: sha256 of the cached bytes, in hex.
        size: number of bytes.
    """

    path: Path
    repository: str
    revision: str
    commit: str
    file: str
    sha256: str
    size: int


def fetch(
    repository: str,
    file: str,
    revision: str,
    sha256: str | None = None,
    remedy: str = BY_HAND,
    kind: Literal["model", "dataset"] = "model",
) -> Fetched:
    """Downloads a file unless it is in the cache, resumes an earlier download, and checks the bytes.

    A file of a commit is read from the cache without a request. A branch or a tag is looked up; the cached copy is used
    if the hub does not respond.

    Args:
        repository: repository as `owner/name`.
        file: path within the repository.
        revision: branch, tag or commit.
        sha256: expected sha256 of the bytes; None trusts the hash that the hub publishes for large files.
        remedy: advice for a user without the hub, for messages.
        kind: kind of the repository.

    Raises:
        InputError: a variable of the hub is wrong, the hub cannot be reached or refuses, the file does not exist, the
            download stopped, the disk is full, or the bytes have another hash.
    """
    wanted = HubRequest(repository, file, revision, remedy, kind)
    if "\0" in file or not {"", ".", ".."}.isdisjoint(re.split(r"[/\\]", file)):
        raise InputError(f"file '{file}': is not a path within {repository}; write it as on its page: folder/name.pt")
    pinned = sha256.lower() if sha256 else None
    path = _locate(wanted, pinned)
    digest = file_hash(path)
    _require_intact(wanted, path, digest, pinned)
    commit = path.parents[len(PurePosixPath(file).parts) - 1].name
    return Fetched(path, repository, revision, commit, file, digest, path.stat().st_size)


def record(fetched: Fetched) -> dict[str, Any]:
    """Returns the origin of a file as a stage records it: everything except the path on this machine."""
    return {name: value for name, value in asdict(fetched).items() if name != "path"}


def _locate(wanted: HubRequest, pinned: str | None) -> Path:
    """Returns the file's path in the cache, and downloads the file if necessary."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of httpx or httpx2, by its version
        EntryNotFoundError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    cached = None
    try:
        cached = _cached(wanted, wanted.revision)
        if cached and _COMMIT.fullmatch(wanted.revision):
            return cached
        return _look_up_and_download(wanted, pinned)
    except HFValidationError:
        raise InputError(
            f"repository '{wanted.repository}': is not a valid name on the hub; write it as owner/name, of letters, "
            "digits, '-', '_' and '.'"
        ) from None
    except (HTTPError, EntryNotFoundError, OfflineModeIsEnabled) as error:
        if cached is None or isinstance(error, (EntryNotFoundError, RevisionNotFoundError)):
            raise refusal(wanted, error) from error
        if not isinstance(error, OfflineModeIsEnabled):
            print(f"{wanted}: using the cached copy ({hub_said(error)})", file=sys.stderr, flush=True)
        return cached


def _cached(wanted: HubRequest, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(wanted.repository, wanted.file, revision=revision, repo_type=wanted.kind)
    return Path(found) if isinstance(found, str) else None


def _look_up_and_download(wanted: HubRequest, pinned: str | None) -> Path:
    check_hub_variables()
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        found = get_hf_file_metadata(
            hf_hub_url(wanted.repository, wanted.file, revision=wanted.revision, repo_type=wanted.kind)
        )
    except ValueError as error:
        if type(error) is not ValueError:  # an error of the library
            raise
        raise _not_a_hub(wanted, str(error)) from None
    commit, etag = found.commit_hash or "", found.etag or ""
    if not _COMMIT.fullmatch(commit) or not re.fullmatch(r"[\w-]+", etag):
        raise _not_a_hub(wanted, f"X-Repo-Commit '{commit}', ETag '{etag}'")
    if _SHA256.fullmatch(etag):
        _require_pinned(wanted, etag, pinned)
    if not _cached(wanted, commit):
        url = hf_hub_url(wanted.repository, wanted.file, revision=commit, repo_type=wanted.kind)
        download(wanted, url, etag, None if found.size is None or found.size < 0 else found.size)
    with disk_errors(Path(constants.HF_HUB_CACHE)):
        return Path(hf_hub_download(wanted.repository, wanted.file, revision=wanted.revision, repo_type=wanted.kind))


def _not_a_hub(wanted: HubRequest, reason: str) -> InputError:
    return InputError(
        f"{hub_address()}: its response for {wanted} is not that of a Hugging Face hub ({reason}); check HF_ENDPOINT, "
        "and whether the network requires a login page"
    )


def _require_intact(wanted: HubRequest, path: Path, digest: str, pinned: str | None) -> None:
    """Removes a file with an unexpected hash from the cache. Raises InputError for it, and for a wrong pinned hash."""
    link = path.readlink() if path.is_symlink() else None
    name = link.name if link else ""
    published = name if _SHA256.fullmatch(name) else None
    expected = published or pinned
    if expected and digest != expected:
        if link:
            (path.parent / link).unlink()
        path.unlink()
        raise InputError(
            f"{wanted}: expected sha256 {expected}, got {digest}; the copy in the cache was removed: run again to "
            "download it again, and if the hash is the same then, correct sha256 or try another mirror (HF_ENDPOINT)"
        )
    _require_pinned(wanted, digest, pinned)


def _require_pinned(wanted: HubRequest, published: str, pinned: str | None) -> None:
    """Raises InputError for a file that the hub publishes with another hash than the settings name."""
    if pinned and published != pinned:
        raise InputError(
            f"{wanted}: expected sha256 {pinned}, got {published}, which is what the hub publishes there; "
            "correct sha256, or pin the revision that it belongs to"
        )
