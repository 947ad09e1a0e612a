"""The guards of requests, each around a small application."""

import asyncio

import pytest
from fastapi import HTTPException

from spn4cir.serving.guard import BodyLimit, Guard

REQUEST = {"type": "http", "method": "POST", "path": "/", "headers": []}


async def read_all(_scope, receive, _send):
    """Reads the body, and then waits for the client to leave, as answers in parts do."""
    while (await receive()).get("more_body"):
        pass
    assert (await receive())["type"] == "http.disconnect"


def test_a_body_that_does_not_arrive_in_time_is_refused():
    async def receive():
        await asyncio.sleep(60)

    with pytest.raises(HTTPException) as error:
        asyncio.run(BodyLimit(read_all, most=lambda _: 10, seconds=0.01)(REQUEST, receive, None))
    assert error.value.status_code == 408
    assert error.value.detail == "the request did not arrive within 0 seconds; send it again"


def test_the_time_of_a_body_ends_with_the_body():
    messages = [{"type": "http.request", "body": b"1"}, {"type": "http.disconnect"}]

    async def receive():
        if len(messages) == 1:
            await asyncio.sleep(0.1)
        return messages.pop(0)

    asyncio.run(BodyLimit(read_all, most=lambda _: 10, seconds=0.05)(REQUEST, receive, None))
    assert not messages


def test_a_request_that_the_stop_of_the_server_interrupts_gets_503():
    sent = []

    async def never(_scope, _receive, _send):
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    async def stop():
        task = asyncio.create_task(Guard(never)(dict(REQUEST), None, send))
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(stop())
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"30") in sent[0]["headers"]
    assert b"the server stops" in sent[1]["body"]


def test_an_answer_that_has_begun_is_not_begun_again():
    sent = []

    async def begin(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    async def stop():
        task = asyncio.create_task(Guard(begin)(dict(REQUEST), None, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    assert [message["status"] for message in sent] == [200]
