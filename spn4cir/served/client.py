"""Asks a model behind OpenAI-compatible URLs (vLLM, SGLang, llama.cpp, `transformers serve`), several requests at once.

A server that computes several requests together can round differently each time, so that the answers to equal requests
can differ.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from operator import length_hint
from typing import Any, TypeVar

from spn4cir.config.machine import Machine, unknown_endpoint
from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.served.messages import ChatAnswer, ChatRequest
from spn4cir.served.queue import ItemQueue, QueuedItem
from spn4cir.served.refusals import NoServer, RequestPutOff
from spn4cir.served.urls import Urls

Item = TypeVar("Item")
Result = TypeVar("Result")
Ask = Callable[[ChatRequest], Awaitable[ChatAnswer]]


@dataclass(frozen=True)
class ServedModel:
    """A model and the URLs that serve it.

    Attributes:
        endpoint: name of the endpoint, for messages.
        urls: base URLs of servers with the same model, as in `http://127.0.0.1:8000/v1`; one that fails is left out.
        model: the model's name at the servers.
        concurrency: largest number of requests, or of items of `each`, at one time.
    """

    endpoint: str
    urls: tuple[str, ...]
    model: str
    concurrency: int

    def answers(self, requests: Iterable[ChatRequest]) -> Iterator[ChatAnswer]:
        """Yields the answers in the order of the requests. Raises InputError as `each`."""
        early: dict[int, ChatAnswer] = {}
        following = 0
        for position, answer in self.each(lambda ask, request: ask(request), requests):
            early[position] = answer
            while following in early:
                yield early.pop(following)
                following += 1

    def each(
        self, work: Callable[[Ask, Item], Awaitable[Result]], items: Iterable[Item]
    ) -> Generator[tuple[int, Result], None, None]:
        """Runs `work` for each item, several at once, and yields their positions and results as they are finished.

        After an error no further item is begun; the error is raised when the items in work are finished. Ctrl-C cancels
        them.

        An item whose request is put off (see `Urls`) is begun again when all others are finished. If its own request
        may be the cause, that is so twice; the third time the request is refused. Otherwise it is repeated until it is
        answered or no URL is left.

        Args:
            work: returns the result of an item; its first argument asks the model one request. It is called again for
                an item that is put off.
            items: the items, which are taken one by one as they are begun.

        Raises:
            InputError: the package `openai` is not installed, no URL answers, the API key is refused, or the model is
                not served.
            RequestRefused: a server refuses one request, and `work` does not handle it.
        """
        if find_spec("openai") is None:
            raise InputError(f"the package openai is not installed; run {install_command('served')}")
        open_items = length_hint(items)
        queue, failure = ItemQueue(items), None
        running: dict[asyncio.Task[Result], QueuedItem[Item]] = {}
        with asyncio.Runner() as runner:
            urls = Urls(self.endpoint, self.urls, self.model)
            begin = runner.get_loop().create_task
            try:
                while True:
                    if failure is None:
                        for item in queue.take(self.concurrency - len(running), not running):
                            running[begin(_run(work, urls, item))] = item
                    if not running:
                        break
                    for task in runner.run(_finished(running)):
                        item, error = running.pop(task), task.exception()
                        if isinstance(error, RequestPutOff):
                            queue.put_off(item, error.by_request)
                        elif error:
                            failure = failure or error
                        else:
                            open_items -= 1
                            yield item.position, task.result()
            finally:
                runner.run(_end(tuple(running), urls))
        if failure:
            raise _counted(failure, open_items)


def open_model(machine: Machine, endpoint: str, model: str, key: str) -> ServedModel:
    """Returns a model of an endpoint that the settings name.

    Args:
        machine: the settings with the endpoints.
        endpoint: name of the endpoint.
        model: the model's name at the servers.
        key: the setting that names the endpoint, for messages.

    Raises:
        InputError: the settings have no such endpoint.
    """
    if fault := unknown_endpoint(machine, endpoint, key):
        raise InputError(fault)
    return ServedModel(endpoint, machine.endpoints[endpoint], model, machine.concurrency)


def _counted(failure: BaseException, open_items: int) -> BaseException:
    """Returns an error, with the number of items without a result if no URL is left and the number is known."""
    if isinstance(failure, NoServer) and open_items > 1:
        return NoServer(f"{failure}; {open_items:,} requests remain without an answer")
    return failure


async def _run(work: Callable[[Ask, Item], Awaitable[Result]], urls: Urls, item: QueuedItem[Item]) -> Result:
    return await work(partial(urls.ask, is_last=item.is_last), item.item)


async def _finished(running: Iterable[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    return finished


async def _end(tasks: Sequence[asyncio.Task[Any]], urls: Urls) -> None:
    """Cancels tasks and closes the connections."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await urls.close()
