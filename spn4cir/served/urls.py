"""The URLs of an endpoint: each request goes to one of them, and a URL that fails is left out."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spn4cir.served.messages import ChatAnswer, ChatRequest, read_answer
from spn4cir.served.refusals import api_key, cannot_be_reached, no_server, refusal, said, unanswered

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# The client's own retries: after timeouts, cut connections and the statuses 408, 409, 429 and 5xx. It waits twice as
# long each time, at most 8 seconds, or as long as `Retry-After` says, at most 2 minutes.
RETRIES = 6
# Seconds until a request without an answer is sent again.
TIMEOUT = 300.0
# Seconds before an answer that cannot be read is asked for again.
_PAUSES = (0.5, 1.0)


@dataclass
class _Server:
    """One URL: its client, the number of its unanswered requests, and why it is left out (empty: it is not)."""

    url: str
    client: "AsyncOpenAI"
    waiting: int = 0
    fault: str = ""


class Urls:
    """The servers of one model, for use within one event loop.

    A request goes to the URL with the fewest unanswered requests. A URL that does not answer after all retries is left
    out from then on.

    Args:
        endpoint: name of the endpoint, for messages.
        urls: base URLs.
        model: the model's name at the servers.
    """

    def __init__(self, endpoint: str, urls: Sequence[str], model: str) -> None:
        from openai import AsyncOpenAI

        self._endpoint, self._model = endpoint, model
        self._servers = [
            _Server(url, AsyncOpenAI(base_url=url, api_key=api_key(), max_retries=RETRIES, timeout=TIMEOUT))
            for url in urls
        ]

    async def ask(self, request: ChatRequest) -> ChatAnswer:
        """Returns the answer of the first server that gives one.

        Raises:
            InputError: no URL is left, the API key is refused, or the model is not served.
            RequestRefused: a server refuses this request.
        """
        body = request.body(self._model)
        while usable := [each for each in self._servers if not each.fault]:
            server = min(usable, key=lambda each: each.waiting)
            server.waiting += 1
            try:
                answer, fault = await self._try(server, body)
            finally:
                server.waiting -= 1
            if answer is not None:
                return answer
            self._leave_out(server, fault)
        raise no_server(self._endpoint, {each.url: each.fault for each in self._servers})

    async def close(self) -> None:
        """Closes the connections."""
        for server in self._servers:
            await server.client.close()

    async def _try(self, server: _Server, body: dict[str, Any]) -> tuple[ChatAnswer | None, str]:
        """Returns the answer of a server, or None and why there is none."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        fault = "sends something else than a chat completion"
        for pause in (*_PAUSES, 0.0):
            try:
                if answer := read_answer(await server.client.chat.completions.create(**body)):
                    return answer, ""
            except APIConnectionError as error:
                return None, cannot_be_reached(error)
            except APIStatusError as error:
                if unanswered(error):
                    return None, f"answers with status {error.status_code} ({said(error)})"
                place = f"endpoint '{self._endpoint}', {server.url}"
                raise refusal(place, self._model, error, await _listed(server)) from None
            except (OpenAIError, ValueError) as error:  # no JSON, or only its beginning
                fault = f"sends an answer that cannot be read ({said(error)})"
            await asyncio.sleep(pause)
        return None, fault

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


async def _listed(server: _Server) -> list[str]:
    """Returns the names of the models that a server lists; none if it lists none."""
    from openai import OpenAIError

    try:
        page = await server.client.with_options(max_retries=0).models.list()
        return [each.id for each in page.data]
    except (OpenAIError, ValueError, AttributeError, TypeError):
        return []
