"""Texts of a language model: what is asked, which answers are used, and that no answer is asked for twice."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from spn4cir.config.load import parse_params
from spn4cir.config.positives import Llm, Triplets
from spn4cir.errors import InputError
from spn4cir.positives.llm_answers import check_answer
from spn4cir.positives.llm_texts import LlmText, LlmTexts
from spn4cir.positives.triplets import Written
from spn4cir.served import urls
from spn4cir.served.client import ServedModel
from spn4cir.served.messages import ChatAnswer
from spn4cir.types import Triplet
from tests.helpers.chat_server import MODEL, ChatServer, images_of, prompt_of, refusal, serve_chat

pytest.importorskip("openai")
PROMPT = "From '{reference}' to '{target}'?"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(urls, "RETRIES", 1)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


def words(text: str) -> int:
    return len(text.split()) + 2


def llm(**changes: Any) -> Llm:
    values = {"served": "writer", "model": MODEL, "sees": "captions", "prompt": PROMPT, "temperature": 0}
    return Llm(**values | {"max_tokens": 30} | changes)


def texts(chat: ChatServer, place: Path, limit: int = 12, concurrency: int = 4, **changes: Any) -> LlmTexts:
    settings = llm(**changes)
    model = ServedModel("writer", (chat.url,), settings.model, concurrency)
    return LlmTexts(model, settings, 42, lambda name: place / f"{name}.png", place / "answers.jsonl", limit, words)


def triplets(count: int, templates: int = 1) -> list[Written]:
    """Triplets of consecutive images, with the texts that templates write."""
    return [
        Written(
            Triplet(
                f"image{n}", tuple(f"template {t} of {n}" for t in range(templates)), f"image{n + 1}", generated=True
            ),
            f"caption {n}",
            f"caption {n + 1}",
        )
        for n in range(count)
    ]


def found(written: list[tuple[LlmText, ...]]) -> list[str]:
    return [text.text for several in written for text in several]


def test_each_pair_gets_a_text_from_its_captions(chat, tmp_path):
    written = texts(chat, tmp_path).write(triplets(9))
    assert found(written) == [f"text for From 'caption {n}' to 'caption {n + 1}'?" for n in range(9)]
    assert {(text.tries, text.fault) for several in written for text in several} == {(1, "")}
    assert {(body["temperature"], body["seed"], body["max_tokens"]) for body in chat.requests} == {(0, 42, 30)}


def test_the_hash_is_that_of_the_prompt(chat, tmp_path):
    ((text,),) = texts(chat, tmp_path).write(triplets(1))
    digest = subprocess.run(
        ["sha256sum"], input=prompt_of(chat.requests[0]), capture_output=True, text=True, check=True
    ).stdout
    assert text.prompt == digest.split()[0]


def test_without_sampling_several_texts_of_a_pair_are_one_request(chat, tmp_path):
    written = texts(chat, tmp_path).write(triplets(3, templates=2))
    assert [len(several) for several in written] == [2, 2, 2]
    assert len(chat.requests) == 3


def test_with_sampling_each_text_has_a_seed(chat, tmp_path):
    chat.reply = lambda body: f"text {body['seed']}"
    written = texts(chat, tmp_path, temperature=1.0).write(triplets(2, templates=2))
    assert found(written) == ["text 42", "text 43"] * 2


def test_images_are_sent_in_the_order_reference_target(chat, tmp_path):
    for n in range(2):
        Image.new("RGB", (8, 8), (n * 200, 0, 0)).save(tmp_path / f"image{n}.png")
    texts(chat, tmp_path, sees="images", prompt="What changes?").write(triplets(1))
    first, second = images_of(chat.requests[0])
    assert prompt_of(chat.requests[0]) == "What changes?"
    swapped = [Written(Triplet("image1", ("x",), "image0", generated=True), "a", "b")]
    texts(chat, tmp_path, sees="images", prompt="What changes?").write(swapped)
    assert images_of(chat.requests[1]) == [second, first]
    assert first != second


def test_a_changed_image_is_asked_for_again(chat, tmp_path):
    for n in range(2):
        Image.new("RGB", (8, 8), (n * 200, 0, 0)).save(tmp_path / f"image{n}.png")
    writer = texts(chat, tmp_path, sees="images", prompt="What changes?")
    writer.write(triplets(1))
    writer.write(triplets(1))
    assert len(chat.requests) == 1
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "image0.png")
    writer.write(triplets(1))
    assert len(chat.requests) == 2


BAD = {
    "empty": "",
    "only marks": " .\n",
    "two lines": "Here is the text:\nit is red",
    "a refusal": "I cannot describe the images.",
    "of an AI": "As an AI language model, I see no images",
    "too long": "very " * 20 + "red",
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
def test_a_bad_answer_is_asked_for_again_by_sampling_with_another_seed(chat, tmp_path, answer):
    chat.reply = lambda body: answer if body["seed"] == 42 else "it is red"
    written = texts(chat, tmp_path).write(triplets(1))
    assert written == [(LlmText("it is red", written[0][0].prompt, 2, ""),)]
    assert [(body["temperature"], body["seed"]) for body in chat.requests] == [(0, 42), (0.7, 1042)]


def test_after_three_bad_answers_the_text_is_that_of_the_template(chat, tmp_path):
    chat.reply = lambda body: "Sorry, no." if "caption 1'" in prompt_of(body).split("to")[0] else "it is red"
    written = texts(chat, tmp_path).write(triplets(3))
    assert found(written) == ["it is red", "template 0 of 1", "it is red"]
    assert (written[1][0].tries, written[1][0].fault) == (3, "a refusal")
    assert len(chat.requests) == 5


def test_a_request_that_the_server_refuses_is_a_text_of_the_template_and_asked_for_again_later(chat, tmp_path):
    bad = "From 'caption 1' to 'caption 2'?"
    chat.reply = lambda body: refusal(400, "filtered") if prompt_of(body) == bad else "it is red"
    written = texts(chat, tmp_path).write(triplets(3))
    assert found(written) == ["it is red", "template 0 of 1", "it is red"]
    assert written[1][0].fault == "refuses a request with status 400 (filtered)"
    chat.reply = lambda body: "it is blue"
    assert found(texts(chat, tmp_path).write(triplets(3))) == ["it is red", "it is blue", "it is red"]


@pytest.mark.parametrize("count", [3, 60])
def test_a_model_whose_answers_cannot_be_used_ends_the_run_early(chat, tmp_path, count):
    chat.reply = lambda body: "I cannot see."
    with pytest.raises(
        InputError, match=rf"none of {min(count, 20)} texts of '{MODEL}' .*a refusal.*answers\.jsonl"
    ) as raised:
        texts(chat, tmp_path, concurrency=2).write(triplets(count))
    assert "\n" not in str(raised.value)
    assert len(chat.requests) <= 3 * 22


def test_a_finished_run_asks_nothing_and_needs_no_server(chat, tmp_path):
    """Also the bad answers are not asked for again."""
    chat.reply = lambda body: "I cannot." if "'caption 0'" in prompt_of(body) else "it is red"
    first = texts(chat, tmp_path).write(triplets(4, templates=2))
    with serve_chat() as other:
        assert texts(other, tmp_path).write(triplets(4, templates=2)) == first
        assert other.requests == []


@pytest.mark.parametrize(
    "changes",
    [{"prompt": "{reference} {target}"}, {"temperature": 0.5}, {"max_tokens": 31}],
    ids=["prompt", "temperature", "max_tokens"],
)
def test_other_settings_are_asked_for_and_the_first_answers_are_kept(chat, tmp_path, changes):
    first = texts(chat, tmp_path).write(triplets(2))
    texts(chat, tmp_path, **changes).write(triplets(2))
    assert len(chat.requests) == 4
    assert texts(chat, tmp_path).write(triplets(2)) == first
    assert len(chat.requests) == 4


def test_more_pairs_ask_only_their_own_and_another_limit_of_tokens_only_what_it_refuses(chat, tmp_path):
    chat.reply = lambda body: "one two three" if body["seed"] == 42 else "one"
    texts(chat, tmp_path).write(triplets(2))
    texts(chat, tmp_path).write(triplets(5))
    assert len(chat.requests) == 5
    written = texts(chat, tmp_path, limit=4).write(triplets(5))
    assert set(found(written)) == {"one"}
    assert len(chat.requests) == 10


def test_a_killed_run_asks_only_for_what_lacks(chat, tmp_path):
    """The run is killed while requests are open; their answers, at most as many as are open at once, are lost."""
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from tests.helpers.chat_server import ChatServer
        from tests.unit.test_llm_texts import texts, triplets
        texts(ChatServer(port={chat.port}), Path({str(tmp_path)!r}), concurrency=2).write(triplets(40))
        """
    )
    chat.reply = lambda body: time.sleep(0.05) or f"text for {prompt_of(body)}"
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ)
    store = tmp_path / "answers.jsonl"
    while not store.exists() or store.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(0.2)
    stored = store.read_bytes()
    store.write_bytes(stored + b'{"request": "torn')
    kept = stored.count(b"\n")
    chat.requests.clear()
    chat.reply = lambda body: f"text for {prompt_of(body)}"
    written = texts(chat, tmp_path).write(triplets(40))
    assert found(written) == [f"text for From 'caption {n}' to 'caption {n + 1}'?" for n in range(40)]
    assert len(chat.requests) == 40 - kept


def test_a_server_that_ends_in_the_middle_leaves_its_answers(chat, tmp_path):
    chat.reply = lambda body: refusal(500, "gone") if len(chat.requests) > 5 else "it is red"
    with pytest.raises(InputError, match="status 500"):
        texts(chat, tmp_path, concurrency=1).write(triplets(9))
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 5
    chat.requests.clear()
    chat.reply = lambda body: "it is red"
    texts(chat, tmp_path).write(triplets(9))
    assert len(chat.requests) == 4


def test_the_store_contains_no_key(chat, tmp_path, monkeypatch):
    monkeypatch.setenv("SPN4CIR_API_KEY", "sk-secret-123")
    texts(chat, tmp_path).write(triplets(1))
    (line,) = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"request", "text", "finish"}
    assert "secret" not in line


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("it is red", "it is red"),
        (' "it is red."\n', "it is red."),
        ("“it is red”", "it is red"),
        ("**'it is red'**", "it is red"),
        ("<think>\nThe first is blue.\n</think>\n\nit is red", "it is red"),
        ('it has the word "go" on it', 'it has the word "go" on it'),
        ("it is made as an airy dress", "it is made as an airy dress"),
        ("it is something I cannot name", "it is something I cannot name"),
    ],
)
def test_thoughts_and_quotation_marks_are_removed(answer, text):
    assert check_answer(ChatAnswer(answer), 77, words) == (text, "")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (ChatAnswer("it is re", "length"), "cut at max_tokens"),
        (ChatAnswer("<think>\nwhat is"), "several lines"),
        (ChatAnswer("<think> what is"), "several lines"),
        (ChatAnswer('""'), "empty"),
        (ChatAnswer("I\u2019m sorry, I see no image."), "a refusal"),
        (ChatAnswer("i can't see it"), "a refusal"),
        (ChatAnswer("This is hard, as a large language model has no eyes"), "a refusal"),
        (ChatAnswer("a b c"), "5 tokens, more than 4"),
    ],
)
def test_faults_of_answers(answer, fault):
    assert check_answer(answer, 4 if "a b c" in answer.text else 77, words)[1] == fault


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "only {target}"},
        {"prompt": "{reference} {target} {noun}"},
        {"prompt": "{reference} {target} {"},
        {"sees": "both"},
        {"temperature": -1},
        {"max_tokens": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValidationError):
        llm(**changes)


def test_a_prompt_for_images_needs_no_captions_and_can_have_them():
    assert llm(sees="images", prompt="What changes?").prompt == "What changes?"
    assert llm(sees="images", prompt="What changes to get a {target}?").sees == "images"


def test_the_writer_llm_needs_its_settings():
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    with pytest.raises(InputError, match=r"^p: triplets\.demo_fiq\.clip: writer llm needs llm: \{served, model"):
        parse_params(text.replace("writer: templates", "writer: llm"), "p")
    described = f"llm: {json.dumps(llm().model_dump())}"
    endpoints = "endpoints: {writer: ['http://127.0.0.1:8000/v1']}"
    text = text.replace("writer: templates", "writer: llm").replace("endpoints: {}", endpoints)
    params = parse_params(text.replace("llm: null", described), "p")
    assert params.triplets["fiq"]["zs"].llm == llm()


@pytest.mark.parametrize("source", ["path", "hub"])
def test_published_triplets_have_their_own_texts(source):
    values = {
        "source": source,
        "hub": {"file": "x"},
        "refer": False,
        "templates": [2],
        "sample": None,
        "max_tokens": 77,
    }
    assert Triplets.model_validate(values | {"writer": "templates", "llm": llm()}).writer == "templates"
    with pytest.raises(ValidationError, match=f"set source {source} to make"):
        Triplets.model_validate(values | {"writer": "llm", "llm": llm()})
