"""Turns refusals of the Hugging Face hub, and network failures, into messages for the user."""

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal
from urllib.parse import urlsplit

from spn4cir.errors import InputError, first_line

_ALTERNATIVES = 10
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
BY_HAND = "or download the file by hand and name it with source: path"


@dataclass(frozen=True)
class HubRequest:
    """A requested file.

    Attributes:
        repository: repository as `owner/name`.
        file: path within the repository.
        revision: branch, tag or commit.
        remedy: advice for a user without the hub, for messages.
        kind: kind of the repository.
    """

    repository: str
    file: str
    revision: str
    remedy: str = BY_HAND
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        return f"{self.repository}/{self.file} at revision {self.revision}"


def hub_address() -> str:
    """Returns the hub's address, without the user name and the password that HF_ENDPOINT can contain."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def hub_said(error: Exception) -> str:
    """Returns the first line of an error, without the token and the password of the hub's address."""
    from huggingface_hub import constants, get_token

    text = first_line(error)
    for secret in filter(None, (get_token(), urlsplit(constants.ENDPOINT).password)):
        text = text.replace(secret, "***")
    return text


def refusal(wanted: HubRequest, error: Exception) -> InputError:
    """Returns the InputError for an error of huggingface_hub or of its HTTP client."""
    from huggingface_hub import errors

    repository = wanted.repository
    if isinstance(error, errors.OfflineModeIsEnabled):
        return InputError(f"{wanted}: is not in the cache and HF_HUB_OFFLINE is set; unset it, {wanted.remedy}")
    if isinstance(error, errors.GatedRepoError):
        return InputError(f"{repository}: is gated; ask for access at {hub_address()}/{repository}, then {_LOG_IN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{repository}: has no revision '{wanted.revision}'; name a branch, a tag or a whole commit hash"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return InputError(f"{repository}: has no file '{wanted.file}' at revision {wanted.revision}; {_others(wanted)}")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return InputError(
            f"{repository}: is not on {hub_address()}, or is private; check the name, and if it is private, {_LOG_IN}"
        )
    said = f"answers with status {status}" if status else f"cannot be reached ({hub_said(error)})"
    return InputError(
        f"{wanted}: {hub_address()} {said}; run again with a network, set HF_ENDPOINT to a mirror, {wanted.remedy}"
    )


def _others(wanted: HubRequest) -> str:
    """Returns a phrase that lists the repository's files, most similar names first."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        names = HfApi().list_repo_files(wanted.repository, revision=wanted.revision, repo_type=wanted.kind)
    except HTTPError:
        return "its files cannot be listed: look at its page"
    names.sort(key=lambda name: SequenceMatcher(None, name, wanted.file).ratio(), reverse=True)
    more = f" and {len(names) - _ALTERNATIVES} more" if len(names) > _ALTERNATIVES else ""
    return (
        f"choose one of its files: {', '.join(names[:_ALTERNATIVES])}{more}" if names else "it has none; name another"
    )
