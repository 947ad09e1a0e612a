"""The URLs of an endpoint: each request goes to one of them, and a URL that fails is left out."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from spn4cir.progress import say_once
from spn4cir.served.messages import ChatAnswer, ChatRequest, plain, read_answer
from spn4cir.served.refusals import (
    RequestPutOff,
    RequestRefused,
    api_key,
    cannot_be_reached,
    has_too_many,
    is_tried_again,
    no_server,
    refusal,
    retry_nothing_without_quota,
    said,
    said_instead,
    unanswered,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# The client's own retries: after timeouts, cut connections and the statuses 408, 409, 429 and 5xx. It waits twice as
# long each time, at most 8 seconds, or as long as `Retry-After` says, at most 2 minutes.
RETRIES = 6
# Seconds until a request without an answer is sent again.
TIMEOUT = 300.0
# Seconds before an answer that cannot be read is asked for again.
_PAUSES = (0.5, 1.0)
# A URL is left out when this many requests in succession have no answer there: as it is busy, or for another reason.
# It is one for another reason, and the second number for a busy URL, if the URL has answered nothing yet.
_MOST_BUSY, _MOST_OTHERS = 20, 3
# A busy URL is at fault unless it answers another request this many times in succession, each at the first try. If it
# refuses a share p of all requests by chance, the fault is seen in one request with probability p^7 (1 - p)^3, at most
# 0.0022, each round.
_ANSWERS = 3


class _Fault(NamedTuple):
    """Why there is no answer.

    Attributes:
        text: the reason.
        by_request: whether the request may be the cause, rather than the server.
        is_busy: whether the server runs, but has too many requests.
    """

    text: str
    by_request: bool = False
    is_busy: bool = False


@dataclass
class _Server:
    """One URL.

    Attributes:
        url: the base URL.
        client: its client.
        waiting: number of its unanswered requests.
        answers: number of its answers.
        answered: the last request that it has answered; None if there is none.
        failures: number of requests without an answer since its last answer.
        fault: why it is left out; None if it is not.
    """

    url: str
    client: "AsyncOpenAI"
    waiting: int = 0
    answers: int = 0
    answered: ChatRequest | None = None
    failures: int = 0
    fault: _Fault | None = None


class Urls:
    """The servers of one model, for use within one event loop.

    A request goes to the URL with the fewest unanswered requests. After all retries without an answer it goes to the
    others, and is then put off. Whose fault it is:

    - The server's, whatever the request: connections that fail. A URL is left out after three such requests in
      succession, or at the first if it has answered nothing yet.
    - Perhaps the request's: the statuses 429 and 503, if the URL then answers the last request that it has answered
      before, three times in succession and each at the first try; APIs answer 429 to a request that is too large.
      Otherwise the URL is busy, and is left out after 20 such requests in succession, or after three if it has
      answered nothing yet.
    - Perhaps the request's: other statuses of 5xx, 408 and 409, timeouts and answers that cannot be read, if the URL
      answers others. It has answered one since the request was sent, or it answers the same request with plain grey
      images and a short text. Otherwise the URL is at fault, as for connections.

    The plain request is also sent to a busy URL that has answered nothing yet.

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

    async def ask(self, request: ChatRequest, is_last: bool = False) -> ChatAnswer:
        """Returns the answer of the first server that gives one.

        Args:
            request: the request.
            is_last: whether a request that may itself be the cause is refused, rather than put off.

        Raises:
            InputError: no URL is left, the API key is refused, or the model is not served.
            RequestRefused: a server refuses this request, or does not answer it and `is_last` is true.
            RequestPutOff: servers that are not left out do not answer.
        """
        faults: dict[str, _Fault] = {}
        while usable := [each for each in self._servers if not each.fault and each.url not in faults]:
            server = min(usable, key=lambda each: each.waiting)
            before = server.answers
            answer, fault = await self._send(server, request)
            if answer is not None:
                server.answered, server.failures = request, 0
                return answer
            if fault.is_busy or (fault.by_request and server.answers == before):
                fault = await self._probed(server, request, fault)
            faults[server.url] = fault
            self._count_failure(server, fault)
        raise self._unanswered(faults, is_last)

    def _unanswered(self, faults: Mapping[str, _Fault], is_last: bool) -> Exception:
        """Returns the error for a request that no server has answered."""
        left = [each.url for each in self._servers if not each.fault]
        if not left:
            given_up = {each.url: each.fault for each in self._servers if each.fault}
            reasons = {url: fault.text for url, fault in given_up.items()}
            return no_server(self._endpoint, reasons, any(fault.is_busy for fault in given_up.values()))
        by_request = all(faults[url].by_request for url in left)
        if not (by_request and is_last):
            return RequestPutOff(by_request)
        reason = f"{faults[left[-1]].text}, but answers other requests"
        return RequestRefused(f"endpoint '{self._endpoint}', {left[-1]}", reason, "correct the request")

    async def _send(
        self, server: _Server, request: ChatRequest, is_once: bool = False
    ) -> tuple[ChatAnswer | None, _Fault]:
        """Returns what `_try` returns, and counts the answer. The client retries nothing if `is_once` is true."""
        client = server.client.with_options(max_retries=0) if is_once else server.client
        server.waiting += 1
        try:
            answer, fault = await self._try(server, client, request.body(self._model))
        finally:
            server.waiting -= 1
        server.answers += answer is not None
        return answer, fault

    async def _probed(self, server: _Server, request: ChatRequest, fault: _Fault) -> _Fault:
        """Returns the fault of a request if the server answers another one, else that of the server.

        To a busy server the other one is as large as those that it answers: it may have room for small ones only.
        """
        other = (fault.is_busy and server.answered) or plain(request)
        try:
            for _ in range(_ANSWERS if fault.is_busy else 1):
                answer, found = await self._send(server, other, is_once=fault.is_busy)
                if answer is None:
                    return found._replace(by_request=False)
        except RequestRefused:
            return fault._replace(by_request=False)
        return fault._replace(by_request=True)

    def _count_failure(self, server: _Server, fault: _Fault) -> None:
        """Leaves a URL out if too many requests in succession have no answer there, and are not the cause."""
        server.failures = 0 if fault.by_request else server.failures + 1
        few, many = (_MOST_OTHERS, _MOST_BUSY) if fault.is_busy else (1, _MOST_OTHERS)
        if server.failures >= (many if server.answers else few):
            self._leave_out(server, fault)

    async def close(self) -> None:
        """Closes the connections."""
        for server in self._servers:
            await server.client.close()

    async def _try(
        self, server: _Server, client: "AsyncOpenAI", body: dict[str, Any]
    ) -> tuple[ChatAnswer | None, _Fault]:
        """Returns the answer of a server, or None and why there is none."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        fault = ""
        for pause in (*_PAUSES, 0.0):
            try:
                completion = await client.chat.completions.create(**body)
                if answer := read_answer(completion):
                    return answer, _Fault("")
                fault = f"sends something else than a chat completion{said_instead(completion)}"
            except APIConnectionError as error:
                return None, _Fault(cannot_be_reached(error), by_request=isinstance(error, APITimeoutError))
            except APIStatusError as error:
                if unanswered(error):
                    text, busy = f"answers with status {error.status_code} ({said(error)})", has_too_many(error)
                    return None, _Fault(text, by_request=not busy, is_busy=busy)
                place = f"endpoint '{self._endpoint}', {server.url}"
                raise refusal(place, self._model, error, await _listed(server)) from None
            except (OpenAIError, ValueError) as error:  # no JSON, or only its beginning
                fault = f"sends an answer that cannot be read ({said(error)})"
            await asyncio.sleep(pause)
        return None, _Fault(fault, by_request=True)

    def _leave_out(self, server: _Server, fault: _Fault) -> None:
        """Marks a URL; of several requests that fail at one URL, the first reports it."""
        if server.fault:
            return
        server.fault = fault
        if left := sum(not each.fault for each in self._servers):
            rest = f"it is left out, {left} of {len(self._servers)} URLs remain"
            print(f"endpoint '{self._endpoint}': {server.url} {fault.text}; {rest}", file=sys.stderr, flush=True)


def _http_client(endpoint: str, url: str) -> Any:
    """Returns the client below that of openai; an answer that comes in slowly counts as none.

    The limits of openai's own apply to each read, so a server that sends a byte now and then would hold a request
    forever. A fault after which a request is sent again, which takes up to a minute, is reported once.
    """
    from openai import DefaultAsyncHttpxClient

    # httpx or httpx2, by the version of openai
    library = sys.modules[DefaultAsyncHttpxClient.__bases__[0].__module__.partition(".")[0]]

    def report(fault: str) -> None:
        say_once(f"endpoint '{endpoint}': {url} {fault}; it is asked again")

    async def report_status(response: Any) -> None:
        if is_tried_again(response):
            report(f"answers with status {response.status_code}")

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            try:
                async with asyncio.timeout(TIMEOUT):
                    return await super().send(request, **options)
            except TimeoutError:
                error = library.ReadTimeout(f"no whole answer in {TIMEOUT:g} s", request=request)
            except library.TransportError as fault:
                error = fault
            report(cannot_be_reached(error))
            raise error from None

    return Client(event_hooks={"response": [retry_nothing_without_quota, report_status]})


def _client(endpoint: str, url: str) -> "AsyncOpenAI":
    """Returns the client of a URL. Raises InputError for a port, a name or a key that no server can have."""
    from openai import AsyncOpenAI

    key = api_key()
    try:
        _ = urlsplit(url).port  # raises ValueError above 65535
        http = _http_client(endpoint, url)
        return AsyncOpenAI(base_url=url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT, http_client=http)
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
