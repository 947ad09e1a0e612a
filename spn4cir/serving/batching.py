"""Batching: one thread answers the questions of many clients in batches."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, Self, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batcher(Generic[Question, Answer]):
    """Collects questions that arrive close together and answers them in one call.

    Use it as an asynchronous context manager; it works inside the context. `answer` runs in one thread, one batch at a
    time, so it need not be thread-safe and does not block the event loop.
    """

    def __init__(self, answer: Callable[[list[Question]], list[Answer]], largest: int, window: float) -> None:
        """Creates a batcher.

        Args:
            answer: function from a list of questions to their answers, in order.
            largest: largest number of questions in a batch.
            window: seconds that the first question of a batch waits for others.
        """
        self._answer = answer
        self._largest = largest
        self._window = window
        self._questions: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "batch")

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Question) -> Answer:
        """Returns the answer to a question, or raises the exception of `answer`.

        If `answer` raises for a batch, it is called for each question of the batch alone, so that one bad question does
        not fail the others.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._questions.put_nowait((question, future))
        return await future

    async def _collect(self) -> None:
        while True:
            batch = [await self._questions.get()]
            await asyncio.sleep(self._window)
            while len(batch) < self._largest and not self._questions.empty():
                batch.append(self._questions.get_nowait())
            await self._settle(batch)

    async def _settle(self, batch: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._answer, [question for question, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    await self._settle([each])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():  # a client that disconnected has cancelled its future
                future.set_result(answer)
