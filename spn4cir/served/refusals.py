"""Turns errors of a served model into messages for the user, without the API key."""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from spn4cir.errors import InputError, first_line

if TYPE_CHECKING:
    from openai import APIStatusError

KEYS = ("SPN4CIR_API_KEY", "OPENAI_API_KEY")
_NO_KEY = "none"
_LONGEST = 200
_SHOWN = 10
# The code of an error of status 429 that no pause ends.
_NO_QUOTA = b'"insufficient_quota"'


class _Response(Protocol):
    """A response of httpx or of httpx2, by the version of openai."""

    status_code: int

    @property
    def headers(self) -> MutableMapping[str, str]: ...

    @property
    def content(self) -> bytes: ...

    async def aread(self) -> bytes: ...


class RequestRefused(InputError):
    """A server refuses one request, e.g. for its content or its length; it may answer others.

    Args:
        place: the endpoint and the URL.
        reason: the status and what the server said, or why there is no answer; without the URL.
        remedy: what to do, for the message.

    Attributes:
        reason: as the argument; what is stored must not depend on the URL.
    """

    def __init__(self, place: str, reason: str, remedy: str) -> None:
        super().__init__(f"{place}: {reason}; {remedy}")
        self.reason = reason


class NoServer(InputError):
    """No URL of an endpoint answers."""


class RequestPutOff(Exception):
    """A request has no answer, from servers that are not given up; it is to be sent again after all others.

    Attributes:
        by_request: whether the request may be the cause: the servers have answered others meanwhile.
    """

    def __init__(self, by_request: bool) -> None:
        super().__init__("sent again after all others")
        self.by_request = by_request


def api_key() -> str:
    """Returns the API key of the environment, or a placeholder for servers that need none.

    Blanks and line breaks around it, as of a file of secrets, are removed.

    Raises InputError if it contains what no header can.
    """
    if (name := _variable()) is None:
        return _NO_KEY
    key = os.environ[name].strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{name}: contains a line break or another character that no API key has; set it again")
    return key


def _variable() -> str | None:
    """The environment variable with the API key; None if there is none."""
    return next((name for name in KEYS if os.environ.get(name, "").strip()), None)


def said(error: BaseException) -> str:
    """Returns what a server or the network said, in one line, without the API key."""
    body = getattr(error, "body", None)
    message = (body.get("message") or body.get("detail") or body.get("error")) if isinstance(body, dict) else None
    return _without_key(first_line(Exception(message or error)))


def said_instead(completion: Any) -> str:
    """Returns the error that a server sent as a completion, in brackets and without the API key; empty if none."""
    error = getattr(completion, "error", None)
    message = error.get("message") if isinstance(error, dict) else error
    return f" ({_without_key(first_line(Exception(message)))})" if isinstance(message, str) and message else ""


def _without_key(text: str) -> str:
    if (key := api_key()) != _NO_KEY:
        for form in (key, repr(key)[1:-1]):
            text = text.replace(form, "***")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def unanswered(error: "APIStatusError") -> bool:
    """Whether another try, or another server, may answer: the client has tried again already."""
    return is_tried_again(error.response)


def is_tried_again(response: "_Response") -> bool:
    """Whether the client sends a request again after this response; the body of one of status 429 is read."""
    if has_no_quota(response):
        return False
    return response.status_code in (408, 409, 429) or response.status_code >= 500


def cannot_be_reached(error: Exception) -> str:
    """Returns the fault of a URL whose connection fails, by the error of openai or of the client below it."""
    return f"cannot be reached ({said(error.__cause__ or error)})"


def has_too_many(error: "APIStatusError") -> bool:
    """Whether the status says that the server has too many requests, whatever their content."""
    return error.status_code in (429, 503)


def has_no_quota(response: "_Response") -> bool:
    """Whether a response, whose body is read, says that the account has used up its quota."""
    return response.status_code == 429 and _NO_QUOTA in response.content


async def retry_nothing_without_quota(response: "_Response") -> None:
    """Makes the client of openai raise an error at once if the quota is used up, by the header that it obeys."""
    if response.status_code == 429:
        await response.aread()
        if has_no_quota(response):
            response.headers["x-should-retry"] = "false"


def no_server(endpoint: str, faults: Mapping[str, str], is_busy: bool = False) -> NoServer:
    """Returns the error for an endpoint none of whose URLs answers.

    Args:
        endpoint: name of the endpoint.
        faults: why a URL does not answer, by URL.
        is_busy: whether the servers run, but have too many requests.
    """
    reasons = "; ".join(f"{url} {fault}" for url, fault in faults.items())
    start = f"start the server or correct machine.endpoints.{endpoint}, then run again"
    wait = "run again when the server is less busy, or with a smaller machine.concurrency"
    return NoServer(f"endpoint '{endpoint}': {reasons}; {wait if is_busy else start}")


def refusal(place: str, model: str, error: "APIStatusError", served: Sequence[str]) -> InputError:
    """Returns the error for a status that another try does not change.

    Args:
        place: the endpoint and the URL.
        model: the requested model.
        error: the error of the client.
        served: names of the models that the server lists.
    """
    status = f"status {error.status_code} ({said(error)})"
    if error.status_code in (401, 403):
        if name := _variable():
            return InputError(f"{place}: refuses the API key with {status}; set {name} to another key")
        return InputError(f"{place}: needs an API key, {status}; set {' or '.join(KEYS)} in the environment")
    if error.status_code == 402 or has_no_quota(error.response):
        return InputError(f"{place}: refuses the account with {status}; pay for it, or set another key")
    if error.status_code == 404:
        listed = f"it serves {', '.join(served[:_SHOWN])}" if served else "it lists no models; most URLs end in /v1"
        return InputError(f"{place}: finds no model '{model}', {status}; {listed}")
    return RequestRefused(place, f"refuses a request with {status}", "correct the settings of the request")
