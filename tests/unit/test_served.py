"""The client of served models, against a real HTTP server."""

import base64
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from threading import Event

import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from spn4cir.config.machine import Machine
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_rgb
from spn4cir.progress import say_once
from spn4cir.served import client as client_module
from spn4cir.served import urls
from spn4cir.served.client import Ask, ServedModel, open_model
from spn4cir.served.messages import ChatRequest, exact, jpeg
from spn4cir.served.queue import ROUNDS
from spn4cir.served.refusals import RequestRefused
from tests.helpers.chat_server import MODEL, ChatServer, Fault, images_of, prompt_of, refusal, serve_chat
from tests.helpers.params import published_params

pytest.importorskip("openai")
KEY = "sk-secret-123"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries as published, but after milliseconds. What was said once in an earlier test may be said again."""
    say_once.cache_clear()
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)
    monkeypatch.setattr(urls, "_PAUSES", (0.001, 0.001))
    monkeypatch.setattr(urls, "RETRIES", 2)
    for name in ("SPN4CIR_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A URL at which nothing listens; no other program can take its port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


def served(*places: str, model: str = MODEL, concurrency: int = 4) -> ServedModel:
    return ServedModel("writer", places, model, concurrency)


def ask(model: ServedModel, *prompts: str) -> list[str]:
    return [answer.text for answer in model.answers(ChatRequest(prompt) for prompt in prompts)]


def test_answers_have_the_order_of_the_requests_although_the_first_comes_last(chat):
    chat.faults = [Fault(503, seconds=0.2)]
    prompts = [f"question {number}" for number in range(20)]
    assert ask(served(chat.url), *prompts) == [f"text for {prompt}" for prompt in prompts]
    assert len(chat.requests) == 21


def test_a_request_has_the_settings_that_determine_its_answer(chat):
    model = served(chat.url)
    (answer,) = model.answers([ChatRequest("why", temperature=0.5, seed=7, max_tokens=9)])
    assert answer.text == "text for why"
    assert answer.finish == "stop"
    message = {"role": "user", "content": "why"}
    expected = {"model": MODEL, "messages": [message], "temperature": 0.5, "seed": 7, "max_tokens": 9}
    assert chat.requests == [expected]


def test_images_precede_the_text_and_are_jpeg_files_of_at_most_768_pixels(chat):
    file = jpeg(Image.new("RGB", (1000, 500), (200, 0, 0)))
    list(served(chat.url).answers([ChatRequest("which", images=(file, file))]))
    (body,) = chat.requests
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    head, data = images_of(body)[0].split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (768, 384))


def test_a_small_image_keeps_its_size():
    with Image.open(BytesIO(jpeg(Image.new("RGB", (30, 20))))) as image:
        assert image.size == (30, 20)


def test_images_of_a_small_size_can_be_sent_without_loss(tmp_path):
    """A JPEG file is sent as it is, unless a server would turn it; all else as PNG, and what is too large as JPEG."""
    pixels = Image.effect_noise((60, 40), 90).convert("RGB")
    upright, turned, grey = tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"
    pixels.save(upright)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    pixels.save(turned, exif=orientation)
    pixels.convert("L").save(grey)
    for path, ending in ((upright, "JPEG"), (turned, "PNG"), (grey, "PNG")):
        image = open_rgb(path)
        file = exact(image, path.read_bytes)
        with Image.open(BytesIO(file)) as found:
            assert (found.format, found.convert("RGB").tobytes()) == (ending, image.tobytes())
            assert ImageOps.exif_transpose(found).size == (60, 40)
        assert (file == path.read_bytes()) == (ending == "JPEG")
        assert images_of(ChatRequest("", images=(file,)).body(MODEL))[0].startswith(f"data:image/{ending.lower()};")
    large = Image.new("RGB", (1000, 500))
    assert exact(large, bytes) == jpeg(large)


def test_log_probabilities_of_the_first_token_are_returned_if_asked_for(chat):
    chat.logprobs = {"Yes": -0.1, "No": -2.4}
    (asked,) = served(chat.url).answers([ChatRequest("is it", max_tokens=1, top_logprobs=5)])
    assert dict(asked.first_token) == {"Yes": -0.1, "No": -2.4}
    assert (chat.requests[0]["logprobs"], chat.requests[0]["top_logprobs"]) == (True, 5)
    (plain,) = served(chat.url).answers([ChatRequest("is it")])
    assert plain.first_token == {}


def test_no_more_requests_are_open_than_allowed(chat):
    chat.reply = lambda body: time.sleep(0.02) or "text"
    ask(served(chat.url, concurrency=3), *map(str, range(12)))
    assert chat.most == 3


def test_items_are_taken_when_they_are_begun(chat):
    """The images of later requests are not in memory."""
    taken, first_is_taken = [], Event()
    chat.reply = lambda body: (prompt_of(body) == "0" or first_is_taken.wait(60)) and "an answer"

    def requests() -> Iterator[ChatRequest]:
        for number in range(30):
            taken.append(number)
            yield ChatRequest(str(number))

    answers = served(chat.url, concurrency=2).answers(requests())
    next(answers)
    assert len(taken) <= 6
    first_is_taken.set()
    answers.close()


@pytest.mark.parametrize(
    "fault",
    [
        refusal(500, "out of memory"),
        refusal(429, "slow down", headers=(("Retry-After", "0.01"),)),
        Fault(200, b'{"choices": [{"mess', headers=()),
        Fault(200, b'{"choices": [{"message": {"content": "half"}}]}', cut=True),
        Fault(200, b'{"choices": []}'),
        Fault(200, b'{"choices": ["x"]}'),
        Fault(200, b'{"choices": {"a": 1}}'),
        Fault(200, b'{"choices": [{"message": "x"}]}'),
        Fault(200, b'{"choices": [{"message": {"content": 5}}]}'),
        Fault(200, b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}]}'),
        Fault(200, b"<html>log in</html>", headers=(("Content-Type", "text/html"),)),
    ],
    ids=[
        "500",
        "429",
        "half JSON",
        "cut connection",
        "no choice",
        "a choice that is text",
        "choices that are no list",
        "a message that is text",
        "a number",
        "no candidates",
        "a page",
    ],
)
def test_a_fault_that_passes_is_retried(chat, fault):
    chat.faults = [fault]
    assert ask(served(chat.url), "why") == ["text for why"]
    assert len(chat.requests) == 2


def test_a_text_in_parts_is_joined(chat):
    parts = b'{"choices": [{"message": {"content": [{"type": "text", "text": "red "}, {"text": "dress"}]}}]}'
    chat.faults = [Fault(200, parts)]
    assert ask(served(chat.url), "why") == ["red dress"]


@pytest.mark.parametrize("fault", [refusal(500, "too large"), Fault(200, b'{"choices": [{"mess')], ids=["500", "half"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_request_that_no_server_answers_while_they_answer_others_is_refused_alone(chat, fault, concurrency):
    """The others are answered; bad ones in succession, and one that is asked alone, do not end the run."""
    chat.reply = lambda body: time.sleep(0.02) or fault if prompt_of(body).startswith("bad") else "fine"
    prompts = ["a", "bad 1", "b", "bad 2", "bad 3", "bad 4", "c", "d"]
    found = outcomes(served(chat.url, concurrency=concurrency), prompts)
    for prompt in prompts:
        expected = r"endpoint 'writer', {}: .*, but answers other requests; correct the request$"
        assert re.match(expected.format(chat.url) if prompt.startswith("bad") else "fine$", found[prompt])
    assert "but answers other requests" in outcomes(served(chat.url), ["bad 1"])["bad 1"]


def outcomes(model: ServedModel, prompts: list[str]) -> dict[str, str]:
    """The answer to each prompt, or why it is refused."""

    async def answer(ask: Ask, prompt: str) -> str:
        try:
            return (await ask(ChatRequest(prompt))).text
        except RequestRefused as error:
            return str(error)

    return {prompts[position]: text for position, text in model.each(answer, prompts)}


def test_a_request_is_refused_for_no_answer_only_after_all_others_and_the_third_time(chat):
    chat.reply = lambda body: refusal(500, "too large") if prompt_of(body) == "bad" else "fine"
    outcomes(served(chat.url, concurrency=1), ["bad", "a", "b"])
    sent = [prompt_of(body) for body in chat.requests]
    tries = urls.RETRIES + 1
    assert sent == [*["bad"] * tries, "Answer yes.", "a", "b", *(["bad"] * tries + ["Answer yes."]) * 2]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_busy_server_is_no_fault_of_a_request(chat, status, concurrency):
    """Three of four answers are a refusal, so that many requests have no answer after all retries."""
    chances = random.Random(0)
    chat.reply = lambda body: refusal(status, "slow down") if chances.random() < 0.75 and chat.requests[1:] else "fine"
    prompts = list(map(str, range(20)))
    assert set(outcomes(served(chat.url, concurrency=concurrency), prompts).values()) == {"fine"}


def test_a_server_that_stays_busy_ends_the_run_with_what_remains(chat):
    chat.reply = lambda body: refusal(429, "slow down") if len(chat.requests) > 5 else "fine"
    with pytest.raises(InputError, match=r"status 429 \(slow down\); run again when .* less busy.*") as raised:
        outcomes(served(chat.url, concurrency=1), list(map(str, range(50))))
    assert str(raised.value).endswith("; 45 requests remain without an answer")
    assert len(chat.requests) == 5 + urls._MOST_BUSY * (urls.RETRIES + 1 + 1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_request_for_which_a_server_is_always_busy_is_refused_alone(chat, status, concurrency):
    """APIs answer 429 to a request with more tokens than they allow in a minute."""
    chat.reply = lambda body: refusal(status, "too large") if prompt_of(body).startswith("bad") else "fine"
    prompts = ["a", *(f"bad {number}" for number in range(25)), "b"]
    found = outcomes(served(chat.url, concurrency=concurrency), prompts)
    expected = f"{chat.url}: answers with status {status} (too large), but answers other requests; correct the request"
    for prompt in prompts:
        assert found[prompt] == (f"endpoint 'writer', {expected}" if prompt.startswith("bad") else "fine")
    chat.requests.clear()
    assert "but answers other requests" in outcomes(served(chat.url), ["bad 1"])["bad 1"]
    assert len(chat.requests) == ROUNDS * (urls.RETRIES + 1 + urls._ANSWERS)


def test_a_server_that_has_room_for_small_requests_only_is_busy(chat):
    """The other requests are as large as those that it has answered, and not the plain ones."""
    asked = served(chat.url, concurrency=1).each(lambda ask, each: ask(ChatRequest(each)), ["a", "b"])
    assert next(asked)[0] == 0
    chat.reply = lambda body: "fine" if prompt_of(body) == "Answer yes." else refusal(429, "slow down")
    with pytest.raises(InputError, match="run again when the server is less busy"):
        next(asked)


def test_a_server_that_is_busy_from_the_start_ends_the_run_after_few_requests(chat):
    chat.reply = lambda body: refusal(429, "slow down")
    with pytest.raises(InputError, match="run again when the server is less busy"):
        outcomes(served(chat.url), ["a"])
    assert len(chat.requests) == urls._MOST_OTHERS * (urls.RETRIES + 1 + 1)


def test_a_connection_that_fails_is_no_fault_of_a_request(chat):
    """The others are answered before the run ends."""
    chat.reply = lambda body: Fault(200, b"{      }", cut=True) if prompt_of(body) == "bad" else "fine"
    finished = served(chat.url).each(lambda ask, each: ask(ChatRequest(each)), ["a", "bad", "b", "c"])
    assert {position for position, _ in islice(finished, 3)} == {0, 2, 3}
    with pytest.raises(InputError, match=r"cannot be reached \(.*start the server"):
        next(finished)


def test_retry_after_is_waited_for(chat):
    chat.faults = [refusal(429, "slow down", headers=(("Retry-After", "0.3"),))]
    begun = time.monotonic()
    ask(served(chat.url), "why")
    assert time.monotonic() - begun >= 0.3


def test_a_status_that_is_tried_again_is_said_once(chat, capsys):
    chat.faults = [refusal(503, "busy"), refusal(503, "busy"), refusal(500, "a fault")]
    assert ask(served(chat.url), "why") == ["text for why"]
    line = f"endpoint 'writer': {chat.url} answers with status {{}}; it is asked again"
    assert capsys.readouterr().err.splitlines() == [line.format(503), line.format(500)]


def test_a_connection_that_is_cut_is_said_once(chat, capsys):
    chat.faults = [Fault(200, b"{      }", cut=True), Fault(200, b"{      }", cut=True)]
    assert ask(served(chat.url), "why") == ["text for why"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"endpoint 'writer': {chat.url} cannot be reached (")
    assert line.endswith("); it is asked again")


def test_a_request_without_an_answer_is_sent_again(chat, monkeypatch):
    monkeypatch.setattr(urls, "TIMEOUT", 2.0)
    chat.faults = [Fault(seconds=4.0)]
    assert ask(served(chat.url), "why") == ["text for why"]


def test_an_answer_that_never_ends_is_no_answer(chat, monkeypatch):
    """Each byte comes within the limit, but not the whole answer."""
    monkeypatch.setattr(urls, "TIMEOUT", 1.0)
    chat.faults = [Fault(body=b" " * 1000, drip=0.1)]
    assert ask(served(chat.url), "why") == ["text for why"]
    assert len(chat.requests) >= 2


def test_half_of_a_surrogate_pair_is_replaced(chat):
    """JSON may contain it, a file in UTF-8 not."""
    chat.reply = lambda body: "a \ud800 dress"
    assert ask(served(chat.url), "why") == ["a ? dress"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refusal(500, "out of memory"), r"answers with status 500 \(out of memory\)"),
        (Fault(200, b'{"choices": [{"mess'), r"sends an answer that cannot be read \("),
        (Fault(200, b"[1]"), "sends something else than a chat completion"),
        (refusal(200, "model is loading"), r"sends something else than a chat completion \(model is loading\)"),
        (Fault(200, b'{"error": "no model"}'), r"sends something else than a chat completion \(no model\)"),
    ],
)
def test_a_fault_that_stays_is_one_line(chat, fault, said):
    chat.reply = lambda body: fault
    with pytest.raises(
        InputError, match=rf"^endpoint 'writer': {chat.url} {said}.*machine\.endpoints\.writer"
    ) as raised:
        ask(served(chat.url), "why")
    assert "\n" not in str(raised.value)
    assert len(chat.requests) == 3 + 3


def test_without_a_server_the_url_is_named(dead_url):
    with pytest.raises(InputError, match=rf"'writer': {dead_url} cannot be reached \(.*start the server"):
        ask(served(dead_url), "why", "when")


@pytest.mark.parametrize("place", ["http://127.0.0.1:99999/v1", "http://\u00e4..b/v1"])
def test_a_url_that_no_server_can_have_is_one_line(place):
    with pytest.raises(InputError, match=rf"'writer': {place} cannot be reached \(.*machine\.endpoints\.writer"):
        ask(served(place), "why")


def test_a_url_that_is_dead_is_left_out_and_reported_once(chat, dead_url, capsys):
    prompts = list(map(str, range(10)))
    assert ask(served(dead_url, chat.url), *prompts) == [f"text for {prompt}" for prompt in prompts]
    fault = f"endpoint 'writer': {dead_url} cannot be reached (All connection attempts failed)"
    again, left_out = capsys.readouterr().err.splitlines()
    assert (again, left_out) == (f"{fault}; it is asked again", f"{fault}; it is left out, 1 of 2 URLs remain")


def test_requests_are_shared_among_urls(chat):
    with serve_chat() as other:
        for server in (chat, other):
            server.reply = lambda body: time.sleep(0.01) or "text"
        ask(served(chat.url, other.url), *map(str, range(20)))
        assert min(len(chat.requests), len(other.requests)) >= 5
        assert len(chat.requests) + len(other.requests) == 20


def test_a_model_that_is_not_served_is_refused_with_those_that_are(chat):
    with pytest.raises(InputError, match=rf"no model 'other', status 404 \(The model .*; it serves {MODEL}$"):
        ask(served(chat.url, model="other"), "why")
    with pytest.raises(InputError, match=r"status 404 \(Not Found\); it lists no models; most URLs end in /v1"):
        ask(served(chat.url.removesuffix("/v1")), "why")


def test_a_request_that_a_server_refuses_leaves_the_others(chat):
    chat.reply = lambda body: refusal(400, "content policy") if prompt_of(body) == "bad" else "text"

    async def work(asked, prompt: str) -> str:
        try:
            return (await asked(ChatRequest(prompt))).text
        except RequestRefused as error:
            return str(error)

    found = dict(served(chat.url).each(work, ["good", "bad", "good"]))
    assert (found[0], found[2]) == ("text", "text")
    assert "refuses a request with status 400 (content policy)" in found[1]


def test_after_an_error_the_requests_in_work_are_finished_and_no_other_is_begun(chat):
    chat.reply = lambda body: refusal(400, "bad") if prompt_of(body) == "0" else time.sleep(0.05) or "text"
    finished = served(chat.url, concurrency=3).each(lambda asked, p: asked(ChatRequest(p)), map(str, range(50)))
    found = []
    with pytest.raises(RequestRefused):
        found.extend(position for position, _ in finished)
    assert 0 not in found
    assert len(chat.requests) <= 6


@pytest.mark.parametrize("name", ["SPN4CIR_API_KEY", "OPENAI_API_KEY"])
def test_the_key_comes_from_the_environment_and_is_in_no_message(chat, dead_url, monkeypatch, capsys, name):
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv(name, KEY)
    ask(served(chat.url), "why")
    assert chat.keys == [f"Bearer {KEY}"]
    chat.reply = lambda body: refusal(401, f"Incorrect API key provided: {KEY}")
    with pytest.raises(
        InputError, match=rf"refuses the API key with status 401 .*\*\*\*.*set {name} to another key"
    ) as raised:
        ask(served(chat.url), "why")
    chat.reply = lambda body: refusal(500, f"cannot check {KEY}")
    with pytest.raises(InputError, match="status 500") as other:
        ask(served(dead_url, chat.url), "why")
    said = "".join((str(raised.value), str(other.value), *capsys.readouterr()))
    assert KEY not in said


@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}\r", f" {KEY} "])
def test_blanks_around_a_key_are_removed(chat, monkeypatch, value):
    monkeypatch.setenv("SPN4CIR_API_KEY", value)
    ask(served(chat.url), "why")
    assert chat.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("value", ["sk-a\r\nb", "sk-\u00e9", "sk-\x7f1"])
def test_a_key_that_no_header_can_contain_is_refused_and_not_shown(chat, monkeypatch, value):
    monkeypatch.setenv("SPN4CIR_API_KEY", value)
    with pytest.raises(InputError, match=r"^SPN4CIR_API_KEY: contains a line break or another") as raised:
        ask(served(chat.url), "why")
    assert "sk-" not in str(raised.value)
    assert not chat.requests


def test_an_account_that_is_not_paid_ends_the_run(chat):
    chat.reply = lambda body: refusal(402, "no credits")
    with pytest.raises(InputError, match=r"refuses the account with status 402 \(no credits\); pay for it"):
        outcomes(served(chat.url), ["a", "b"])


def test_a_quota_that_is_used_up_ends_the_run_at_once(chat, capsys):
    body = (
        b'{"error": {"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    )
    chat.reply = lambda _: Fault(429, body)
    with pytest.raises(
        InputError, match=r"refuses the account with status 429 \(You exceeded your quota\); pay for it"
    ):
        outcomes(served(chat.url), ["a"])
    assert len(chat.requests) == 1
    assert "asked again" not in capsys.readouterr().err


def test_a_missing_key_is_asked_for(chat):
    chat.reply = lambda body: refusal(401, "who are you")
    with pytest.raises(InputError, match=r"needs an API key, status 401 .*set SPN4CIR_API_KEY or OPENAI_API_KEY in"):
        ask(served(chat.url), "why")


def test_a_server_without_keys_gets_a_placeholder(chat):
    ask(served(chat.url), "why")
    assert chat.keys == ["Bearer none"]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(client_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"openai is not installed; run pip install .*\[served\]"):
        ask(served("http://127.0.0.1:1/v1"), "why")


def test_an_interrupt_ends_at_once_although_requests_are_open(chat):
    """A request would be waited for during minutes."""
    chat.reply = lambda body: time.sleep(20) or "text"
    program = textwrap.dedent(
        f"""
        from spn4cir.served.client import ServedModel
        from spn4cir.served.messages import ChatRequest
        list(ServedModel("writer", ("{chat.url}",), "{MODEL}", 2).answers([ChatRequest("a"), ChatRequest("b")]))
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=os.environ)
    while len(chat.requests) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said.splitlines()[-1]


def machine(endpoints: object = None) -> Machine:
    found = {"local": ["http://127.0.0.1:8000/v1"]} if endpoints is None else endpoints
    settings = published_params().machine.model_dump() | {"endpoints": found, "concurrency": 3}
    return Machine.model_validate(settings)


def test_an_endpoint_is_found_by_its_name():
    found = open_model(machine(), "local", MODEL, "rerank.fiq.clip.served")
    assert found == ServedModel("local", ("http://127.0.0.1:8000/v1",), MODEL, 3)
    with pytest.raises(
        InputError, match=r"^rerank\.fiq\.clip\.served: 'other' is not in machine\.endpoints \(known: local\)"
    ):
        open_model(machine(), "other", MODEL, "rerank.fiq.clip.served")
    with pytest.raises(InputError, match=r"\(known: none\)"):
        open_model(machine({}), "other", MODEL, "served")


@pytest.mark.parametrize(
    "urls",
    [
        [],
        ["127.0.0.1:8000"],
        ["file:///v1"],
        ["http://user:secret@host/v1"],
        ["https:///v1"],
        ["http://h/v1?k=s"],
        ["http://h:abc/v1"],
    ],
)
def test_an_endpoint_is_a_list_of_urls_without_secrets(urls):
    with pytest.raises(ValidationError):
        machine({"local": urls})
