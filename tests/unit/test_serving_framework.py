"""What is changed in the framework of the pages, without a page."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from fastapi import HTTPException
from nicegui import core
from nicegui.client import Client, templates

from spn4cir.serving import framework
from spn4cir.serving.framework import BrokenMessages, check_room
from spn4cir.serving.guard import NONCE

REQUEST = {"type": "http", "method": "POST", "path": "/_nicegui_ws/socket.io/", "headers": []}
SOCKET = {"type": "websocket", "path": "/_nicegui_ws/socket.io/", "headers": []}


def sent_for(scope, error: Exception, *before) -> list:
    """What the guard sends for an application that sends messages and then raises an error."""
    sent = []

    async def broken(scope, _receive, send):
        scope["path"] = "/socket.io/"  # as the framework does for its own applications
        for message in before:
            await send(message)
        raise error

    async def send(message):
        sent.append(message)

    asyncio.run(BrokenMessages(broken)(dict(scope), None, send))
    return sent


@pytest.mark.parametrize(
    "error", [ValueError("invalid literal"), KeyError(0), IndexError(), TypeError(), AttributeError(), UnicodeError()]
)
def test_a_message_that_cannot_be_parsed_is_refused(error):
    answer = sent_for(REQUEST, error)
    assert answer[0]["status"] == 400
    assert answer[1]["body"] == b'{"detail":"the message is broken; reload the page"}'
    assert sent_for(SOCKET, error) == [{"type": "websocket.close", "code": 1007}]


def test_an_answer_that_has_begun_is_left_as_it_is():
    start = {"type": "http.response.start", "status": 200, "headers": []}
    assert sent_for(REQUEST, ValueError(), start) == [start]


@pytest.mark.parametrize("error", [RuntimeError("Unexpected ASGI message 'websocket.close'"), OSError()])
def test_a_socket_that_is_closed_is_not_closed_again(error):
    """By either side, before its last packet is read: the server then takes no message."""

    async def broken(_scope, _receive, _send):
        raise ValueError("invalid literal")

    async def refuse(_message):
        raise error

    asyncio.run(BrokenMessages(broken)(dict(SOCKET), None, refuse))


@pytest.mark.parametrize(
    ("scope", "error"),
    [(REQUEST | {"path": "/api/search"}, ValueError), (REQUEST, RuntimeError), ({"type": "lifespan"}, ValueError)],
)
def test_other_errors_are_raised(scope, error):
    with pytest.raises(error):
        sent_for(scope, error())


MESSAGES = [(), (None,), ("x",), (1,), ([],), ({},), ({"client_id": []},), ({"client_id": "known"},), ({}, {})]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_an_event_that_is_broken_is_refused(monkeypatch, message):
    handlers = dict(core.sio.handlers["/"])
    monkeypatch.setitem(core.sio.handlers, "/", handlers)
    monkeypatch.setattr(Client, "instances", {"known": SimpleNamespace()})
    framework._guard_events()
    events = handlers.keys() - {"disconnect"}
    assert events >= {"handshake", "event", "javascript_response", "ack", "log"}
    for event in events - {"connect"}:
        assert asyncio.run(handlers[event]("sid", *message)) is False


def test_an_event_that_is_whole_is_answered():
    async def later(sid):
        return f"{sid} later"

    assert asyncio.run(framework._guarded(lambda sid: f"{sid} now")("sid")) == "sid now"
    assert asyncio.run(framework._guarded(later)("sid")) == "sid later"


def test_scripts_of_templates_get_the_nonce_and_those_of_values_do_not(monkeypatch):
    monkeypatch.setattr(templates.env, "extensions", {})
    templates.env.add_extension(framework._ScriptNonce)
    template = templates.env.from_string("<script>1</script><script type=module>2</script>{{ value | safe }}")
    request = SimpleNamespace(scope={NONCE: "abc"})
    assert template.render(request=request, value="<script>3</script>") == (
        '<script nonce="abc" >1</script><script nonce="abc"  type=module>2</script><script>3</script>'
    )


def test_pages_that_no_browser_opened_make_room(monkeypatch):
    ended = []

    def page(age: float, connected: bool) -> SimpleNamespace:
        name = str(len(pages))
        return SimpleNamespace(
            id=name, has_socket_connection=connected, _delete_tasks={}, created=time.time() - age,
            delete=lambda: ended.append(pages.pop(name)),
        )  # fmt: skip

    pages: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(Client, "instances", pages)
    monkeypatch.setattr(framework, "MAX_PAGES", 3)
    for age, connected in ((100, True), (5, False)):
        pages[str(len(pages))] = page(age, connected)
    asyncio.run(check_room())
    pages["2"] = page(20, False)
    asyncio.run(check_room())
    assert [each.id for each in ended] == ["2"]
    pages["2"] = page(5, False)
    with pytest.raises(HTTPException) as error:
        asyncio.run(check_room())
    assert (error.value.status_code, error.value.headers) == (503, {"Retry-After": "10"})
    assert len(pages) == 3
