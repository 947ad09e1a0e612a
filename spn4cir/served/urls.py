"""The URLs of an endpoint: each request goes to one of them, and a URL that fails is left out."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from spn4cir.served.messages import ChatAnswer, ChatRequest, read_answer
from spn4cir.served.refusals import RequestRefused, api_key, cannot_be_reached, no_server, refusal, said, unanswered

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# The client's own retries: after timeouts, cut connections and the statuses 408, 409, 429 and 5xx. It waits twice as
# long each time, at most 8 seconds, or as long as `Retry-After` says, at most 2 minutes.
RETRIES = 6
# Seconds until a request without an answer is sent again.
TIMEOUT = 300.0
# Seconds before an answer that cannot be read is asked for again.
_PAUSES = (0.5, 1.0)
# A URL that fails for this many requests in succession is left out, although it has answered others before.
_MOST_FAILURES = 3


@dataclass
class _Server:
    """One URL.

    Attributes:
        url: the base URL.
        client: its client.
        waiting: number of its unanswered requests.
        has_answered: whether it has answered a request.
        failures: number of requests without an answer since its last answer.
        fault: why it is left out; empty if it is not.
    """

    url: str
    client: "AsyncOpenAI"
    waiting: int = 0
    has_answered: bool = False
    failures: int = 0
    fault: str = ""


class _Fault(NamedTuple):
    """Why there is no answer, and whether the server is at fault whatever the request."""

    text: str
    is_server: bool = False


class Urls:
    """The servers of one model, for use within one event loop.

    A request goes to the URL with the fewest unanswered requests. A URL that does not answer after all retries is left
    out from then on, unless it has answered other requests: then the request is at fault, until three in succession
    have failed there.

    Args:
        endpoint: name of the endpoint, for messages.
        urls: base URLs.
        model: the model's name at the servers.

    Raises:
        InputError: a URL has a port or a name that no server can have, or the API key contains what no header can.
    """

    def __init__(self, endpoint: str, urls: Sequence[str], model: str) -> None:
        self._endpoint, self._model = endpoint, model
        self._servers = [_Server(url, _client(endpoint, url)) for url in urls]

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """Returns the answer of the first server that gives one.

        Raises:
            InputError: no URL is left, the API key is refused, or the model is not served.
            RequestRefused: a server refuses this request, or servers that answer others do not answer it.
        """
        body = request.body(self._model)
        faults: dict[str, str] = {}
        while usable := [each for each in self._servers if not each.fault and each.url not in faults]:
            server = min(usable, key=lambda each: each.waiting)
            server.waiting += 1
            try:
                answer, found = await self._try(server, body)
            finally:
                server.waiting -= 1
            if answer is not None:
                server.has_answered, server.failures = True, 0
                return answer
            faults[server.url] = found.text
            server.failures += 1
            if found.is_server or not server.has_answered or server.failures >= _MOST_FAILURES:
                self._leave_out(server, found.text)
        if left := [each.url for each in self._servers if not each.fault]:
            reason = f"{faults[left[-1]]}, but answers other requests"
            raise RequestRefused(f"endpoint '{self._endpoint}', {left[-1]}", reason, "correct the request")
        raise no_server(self._endpoint, {each.url: each.fault for each in self._servers})

    async def close(self) -> None:
        """Closes the connections."""
        for server in self._servers:
            await server.client.close()

    async def _try(self, server: _Server, body: dict[str, Any]) -> tuple[ChatAnswer | None, "_Fault"]:
        """Returns the answer of a server, or None and why there is none."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        fault = "sends something else than a chat completion"
        for pause in (*_PAUSES, 0.0):
            try:
                if answer := read_answer(await server.client.chat.completions.create(**body)):
                    return answer, _Fault("")
            except APIConnectionError as error:
                return None, _Fault(cannot_be_reached(error), not isinstance(error, APITimeoutError))
            except APIStatusError as error:
                if unanswered(error):
                    return None, _Fault(f"answers with status {error.status_code} ({said(error)})")
                place = f"endpoint '{self._endpoint}', {server.url}"
                raise refusal(place, self._model, error, await _listed(server)) from None
            except (OpenAIError, ValueError) as error:  # no JSON, or only its beginning
                fault = f"sends an answer that cannot be read ({said(error)})"
            await asyncio.sleep(pause)
        return None, _Fault(fault)

    def _leave_out(self, server: _Server, fault: str) -> None:
        """Marks a URL; of several requests that fail at one URL, the first reports it."""
        if server.fault:
            return
        server.fault = fault
        if left := sum(not each.fault for each in self._servers):
            print(
                f"endpoint '{self._endpoint}': {server.url} {fault}; it is left out, {left} of {len(self._servers)} "
                "URLs remain",
                file=sys.stderr,
                flush=True,
            )


def _client(endpoint: str, url: str) -> "AsyncOpenAI":
    """Returns the client of a URL. Raises InputError for a port, a name or a key that no server can have."""
    from openai import AsyncOpenAI

    key = api_key()
    try:
        _ = urlsplit(url).port  # raises ValueError above 65535
        return AsyncOpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT)
    except Exception as error:  # InvalidURL of the library below the client, which differs with its version
        raise no_server(endpoint, {url: f"cannot be reached ({said(error)})"}) from None


async def _listed(server: _Server) -> list[str]:
    """Returns the names of the models that a server lists; none if it lists none."""
    from openai import OpenAIError

    try:
        page = await server.client.with_options(max_retries=0).models.list()
        return [each.id for each in page.data]
    except (OpenAIError, ValueError, AttributeError, TypeError):
        return []
