"""Captions by a served model: equal to the local engine's from a real server, and whole after any fault of a server."""

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import stages.caption
from spn4cir.config.params import ServedCaptioner
from spn4cir.errors import InputError
from spn4cir.images.decoding import open_rgb
from spn4cir.positives import finished_work, text_asker
from spn4cir.positives.answer_store import AnswerStore
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import make_captions
from spn4cir.positives.finished_work import append_finished
from spn4cir.positives.llava import load_captioner
from spn4cir.positives.served_captions import AnsweredImages, ImageAsker, _Questions
from spn4cir.positives.text_asker import _Run
from spn4cir.served import urls
from spn4cir.served.client import ServedModel
from spn4cir.served.messages import ChatAnswer, ChatRequest, exact
from spn4cir.types import CaptionedImage
from stages.common import Job
from tests.conftest import CPU
from tests.helpers.chat_server import MODEL, Body, ChatServer, Fault, images_of, prompt_of, refusal, serve_chat
from tests.helpers.layouts import write_fashioniq
from tests.helpers.memory import peak_bytes_each
from tests.helpers.params import published_params
from tests.helpers.tiny_llava import save_tiny_llava

pytest.importorskip("openai")
PROMPT = "please briefly describe the {noun} in {words} words"
TOKENS = 8


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr(urls, "_PAUSES", (0.001, 0.001))
    monkeypatch.setattr(urls, "RETRIES", 1)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


def asker(place: Path, *places: str, model: str = MODEL, concurrency: int = 4) -> ImageAsker:
    served_model = ServedModel("captioner", places, model, concurrency)
    return ImageAsker(served_model, PROMPT, TOKENS, AnswerStore(place / "answers.jsonl"))


def texts(found: AnsweredImages) -> list[str]:
    return [record["caption"] for record in found.records]


def drawn(place: Path, count: int) -> list[CaptionedImage]:
    """Images of noise: JPEG, grey JPEG and PNG files with an alpha channel, in turn."""
    generator, images = np.random.default_rng(0), []
    for number in range(count):
        pixels = Image.fromarray(generator.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8))
        mode, ending = (("RGB", "jpg"), ("L", "jpg"), ("RGBA", "png"))[number % 3]
        path = place / f"{number}.{ending}"
        pixels.convert(mode).save(path)
        images.append(CaptionedImage(f"name{number}", path, ("dress", "shirt")[number % 2]))
    return images


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llava(tmp_path_factory.mktemp("captioner"))


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """Runs the server of `transformers serve`; yields its URL."""
    pytest.importorskip("uvicorn")
    from transformers.cli.serve import Serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "host": "127.0.0.1", "port": port}
    server = Serve(force_model=str(folder), log_level="error", non_blocking=True, **options)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill_server()


@pytest.fixture(scope="module")
def served(llava: Path) -> Iterator[str]:
    with transformers_serve(llava) as url:
        yield url


@pytest.fixture(scope="module")
def local(llava: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[CaptionedImage], list[str]]:
    """Images, and their captions by the local engine, one image a batch."""
    place = tmp_path_factory.mktemp("local")
    images = drawn(place, 9)
    captioner = load_captioner(str(llava), None, torch.float32, CPU, "none")
    records = make_captions(images, 5, PROMPT, lambda: captioner, CaptionStore(place / "store"), 1, TOKENS, 1)
    return images, [record["caption"] for record in records]


def test_a_real_server_gives_the_captions_of_the_local_engine(served, llava, local, tmp_path):
    images, expected = local
    found = asker(tmp_path, served, model=str(llava)).captions(images, 5)
    assert texts(found) == expected
    assert len(set(expected)) > 4
    assert found.faults == {}
    assert [record["image_path"] for record in found.records] == [str(image.path) for image in images]


def sent(image: CaptionedImage) -> str:
    """The data URL of an image in a request."""
    file = exact(open_rgb(image.path), image.path.read_bytes)
    return images_of(ChatRequest("", images=(file,)).body(MODEL))[0]


def forward(url: str, model: Path, body: Body) -> str:
    answer = httpx.post(f"{url}/chat/completions", json={**body, "model": str(model)}, timeout=60)
    return answer.json()["choices"][0]["message"]["content"]


def test_captions_through_a_server_of_faults_are_those_without_it(chat, served, llava, local, tmp_path):
    """Delays, cut connections, 429, 500 and half JSON change nothing; empty answers and refusals are asked again."""
    images, expected = local
    bad = {sent(images[0]): "", sent(images[1]): "I'm sorry, I cannot describe this image."}

    faults = (
        Fault(200, b"{}", seconds=0.1),
        Fault(200, b'{"choices": [{"message": {"content": "half"}}]}', cut=True),
        refusal(429, "slow down", headers=(("Retry-After", "0.01"),)),
        refusal(500, "out of memory"),
        Fault(200, b'{"choices": [{"mess'),
    )
    # Each at the first request for another image, as a request is sent again only a few times.
    waiting = dict(zip(map(sent, images[2:]), faults, strict=False))

    def reply(body: Body) -> str | Fault:
        image = images_of(body)[0]
        if image in bad:
            return "described again" if body["temperature"] else bad[image]
        return waiting.pop(image, None) or forward(served, llava, body)

    chat.reply = reply
    found = asker(tmp_path, chat.url).captions(images, 5)
    assert texts(found) == ["described again"] * 2 + expected[2:]
    assert found.faults == {}
    assert len(chat.requests) == len(images) + 5 + len(bad)


def test_a_request_has_the_published_prompt_and_takes_the_most_probable_words(chat, tmp_path):
    images = drawn(tmp_path, 2)
    asker(tmp_path, chat.url).captions(images, 4)
    assert {prompt_of(body) for body in chat.requests} == {PROMPT.format(noun=each.noun, words=4) for each in images}
    assert {(body["temperature"], body["seed"], body["max_tokens"]) for body in chat.requests} == {(0, 0, TOKENS)}


BAD = {"empty": (" \n", "empty"), "refusal": ("I can't see.", "a refusal"), "lines": ("Here:\nred", "several lines")}


@pytest.mark.parametrize(("answer", "fault"), BAD.values(), ids=BAD.keys())
def test_an_image_without_a_usable_answer_has_an_empty_caption_and_is_named(chat, tmp_path, answer, fault):
    images = drawn(tmp_path, 3)
    bad = sent(images[1])
    chat.reply = lambda body: answer if bad in images_of(body) else "red"
    found = asker(tmp_path, chat.url).captions(images, 5)
    assert texts(found) == ["red", "", "red"]
    assert found.faults == {"name1": fault}
    assert len(chat.requests) == 2 + 3


def test_a_refused_request_is_an_empty_caption_and_is_sent_again_in_the_next_run(chat, tmp_path):
    images = drawn(tmp_path, 3)
    bad = sent(images[1])
    chat.reply = lambda body: refusal(400, "filtered") if bad in images_of(body) else "red"
    found = asker(tmp_path, chat.url).captions(images, 5)
    assert texts(found) == ["red", "", "red"]
    assert found.faults == {"name1": "refuses a request with status 400 (filtered)"}
    chat.reply = lambda body: "blue"
    assert texts(asker(tmp_path, chat.url).captions(images, 5)) == ["red", "blue", "red"]


def test_a_busy_server_gives_every_image_its_caption_or_ends_the_run(chat, tmp_path):
    """A run that ends says how many captions remain, and the next asks for these only."""
    images = drawn(tmp_path, 30)
    chances = random.Random(0)
    chat.reply = lambda body: refusal(429, "slow down") if chances.random() < 0.7 and chat.requests[1:] else "red"
    assert asker(tmp_path / "first", chat.url).captions(images, 5).faults == {}
    chat.requests.clear()
    chat.reply = lambda body: "red" if len(chat.requests) <= 10 else refusal(429, "slow down")
    with pytest.raises(InputError, match=r"status 429 .*run again when .*; 20 requests remain without an answer$"):
        asker(tmp_path, chat.url, concurrency=1).captions(images, 5)
    chat.requests.clear()
    chat.reply = lambda body: "blue"
    assert texts(asker(tmp_path, chat.url).captions(images, 5)) == ["red"] * 10 + ["blue"] * 20
    assert len(chat.requests) == 20


def test_an_image_that_a_server_never_answers_is_named_also_if_only_it_remains(chat, tmp_path):
    images = drawn(tmp_path, 9)
    bad = sent(images[1])
    chat.reply = lambda body: refusal(500, "out of memory") if bad in images_of(body) else "red"
    reason = "answers with status 500 (out of memory), but answers other requests"
    for _ in range(2):
        found = asker(tmp_path, chat.url).captions(images, 5)
        assert found.faults == {"name1": reason}
        assert texts(found).count("red") == 8


def test_an_image_that_is_too_large_for_a_server_is_named_and_sent_again_in_the_next_run(chat, tmp_path):
    """It is not stored: a server with other limits gives it a caption."""
    images = drawn(tmp_path, 9)
    bad = sent(images[1])
    chat.reply = lambda body: refusal(429, "too large") if bad in images_of(body) else "red"
    for _ in range(2):
        found = asker(tmp_path, chat.url).captions(images, 5)
        assert found.faults == {"name1": "answers with status 429 (too large), but answers other requests"}
    chat.reply = lambda body: "blue"
    assert texts(asker(tmp_path, chat.url).captions(images, 5)) == ["red", "blue", *["red"] * 7]


def test_a_caption_of_the_largest_length_is_kept_as_the_local_engine_keeps_it(chat, tmp_path):
    chat.finish = "length"
    found = asker(tmp_path, chat.url).captions(drawn(tmp_path, 2), 5)
    assert (found.cut, found.faults) == (["name0", "name1"], {})
    chat.reply = lambda body: "<think> the image"
    with pytest.raises(InputError, match=r"none of 2 captions of .*several lines.*models\.<dataset>\.captioner"):
        asker(tmp_path / "other", chat.url).captions(drawn(tmp_path, 2), 5)


def test_a_run_whose_server_ends_resumes_by_image(chat, tmp_path):
    images = drawn(tmp_path, 9)
    chat.reply = lambda body: refusal(500, "gone") if len(chat.requests) > 5 else "red"
    with pytest.raises(InputError, match="status 500"):
        asker(tmp_path, chat.url, concurrency=1).captions(images, 5)
    chat.requests.clear()
    chat.reply = lambda body: "red"
    assert texts(asker(tmp_path, chat.url).captions(images, 5)) == ["red"] * 9
    assert len(chat.requests) == 4
    assert texts(asker(tmp_path, "http://127.0.0.1:9/v1").captions(images, 5)) == ["red"] * 9


def test_a_changed_image_is_asked_for_again_and_an_absent_one_is_refused(chat, tmp_path):
    images = drawn(tmp_path, 3)
    asker(tmp_path, chat.url).captions(images, 5)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(images[0].path)
    asker(tmp_path, chat.url).captions(images, 5)
    assert len(chat.requests) == 4
    images[0].path.unlink()
    with pytest.raises(InputError, match=r"0\.jpg: no such image"):
        asker(tmp_path, chat.url).captions(images, 5)


def test_a_broken_image_is_refused_and_is_not_sent(chat, tmp_path):
    images = drawn(tmp_path, 2)
    images[0].path.write_bytes(images[0].path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"0\.jpg: cannot be decoded"):
        asker(tmp_path, chat.url).captions(images, 5)
    assert len(chat.requests) <= 1


def resumed(place: Path, count: int) -> tuple[ImageAsker, list[CaptionedImage]]:
    """Images, which need no files, and an asker of whose store the file has an answer for each, not yet read."""
    images = [CaptionedImage(f"{n:09}", place / f"{n:09}", "image") for n in range(count)]
    asking = asker(place / str(count), "http://127.0.0.1:9/v1")
    keys = (_Run(asking._asker())._key(question, 0) for question in _Questions(images, PROMPT, 5))
    records = ({"request": key, "text": f"a dress {key[:30]}", "finish": "stop"} for key in keys)
    append_finished(asking.store.path, records)
    return asking, images


def opened(asking: ImageAsker) -> ImageAsker:
    """The asker with what its store's file contains."""
    return replace(asking, store=AnswerStore(asking.store.path))


@pytest.fixture
def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_asker, "is_there", lambda path: True)
    monkeypatch.setattr(text_asker, "content_hash", lambda path: f"{int(path.name):064x}")


def test_a_store_returns_the_last_answer_of_a_request_and_forgets_an_incomplete_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    store = AnswerStore(path)
    store.add("a", ChatAnswer("\nred\n\nand blue\u2028", "length"))
    store.add("b", ChatAnswer(""))
    store.add("b", ChatAnswer("é"))
    kept = path.read_bytes()
    path.write_bytes(kept + b'{"request": "c", "te')
    for each in (store, AnswerStore(path)):
        assert each.get("a") == ChatAnswer("\nred\n\nand blue\u2028", "length")
        assert (each.get("b"), each.get("c"), len(each)) == (ChatAnswer("é"), None, 2)
    assert path.read_bytes() == kept
    path.write_bytes(b"{}\n" + kept)
    with pytest.raises(InputError, match=r"answers\.jsonl: line 1 is damaged"):
        AnswerStore(path)


@pytest.mark.usefixtures("without_files")
def test_a_resumed_run_takes_less_than_a_kilobyte_an_image(tmp_path, monkeypatch):
    """The records of its captions included, and the answers of the store."""
    monkeypatch.setattr(text_asker, "_WAITING", 100)
    sizes = 1_000, 3_000
    finished = {count: resumed(tmp_path, count) for count in sizes}

    def caption(count: int) -> None:
        asking, images = finished[count]
        assert not opened(asking).captions(images, 5).faults

    assert peak_bytes_each(caption, sizes) < 1_000


@pytest.mark.usefixtures("without_files")
@pytest.mark.parametrize("parts", [4, 8, 16])
def test_the_parts_of_a_pool_read_the_store_once(tmp_path, monkeypatch, parts):
    asking, images = resumed(tmp_path, 10 * parts)
    lines: list[int] = []
    record = finished_work._record
    monkeypatch.setattr(finished_work, "_record", lambda *line: lines.append(line[1]) or record(*line))
    asking = opened(asking)
    for start in range(0, len(images), 10):
        assert not asking.captions(images[start : start + 10], 5).faults
    assert len(lines) == len(images)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Returns a function from an endpoint's URLs to the job of fiq, with captions of 4 words by a served model."""
    monkeypatch.chdir(tmp_path)
    params = published_params()
    write_fashioniq(Path("data/raw/fiq"), images=2)
    models = params.models["fiq"].model_copy(update={"captioner": ServedCaptioner(served="local", model=MODEL)})
    settings = params.caption["fiq"].model_copy(update={"images": "triplets"})

    def make(*places: str) -> Job:
        machine = params.machine.model_copy(update={"endpoints": {"local": places}})
        changed = {"models": {"fiq": models}, "caption": {"fiq": settings}, "machine": machine}
        return Job(params.model_copy(update=changed), "fiq")

    return make


def test_the_stage_writes_the_published_form_and_names_images_without_a_caption(chat, job, capsys):
    place = Path("data/caption/fiq")
    bad = sent(CaptionedImage("dress-train-1", Path("data/raw/fiq/images/dress-train-1.png"), "dress"))
    chat.reply = lambda body: "I cannot." if bad in images_of(body) else f"{prompt_of(body).split()[4]} in red"
    stages.caption.main(job(chat.url))
    (file,) = [path for path in place.iterdir() if path.name != "source.json"]
    records = {record["image_id"]: record["caption"] for record in json.loads(file.read_text())}
    assert (records["dress-train-0"], records["dress-train-1"]) == ("dress in red", "")
    origin = json.loads((place / "source.json").read_text())[file.name]
    expected = {"source": "make", "written_by": MODEL, "cut": 0, "faults": {"dress-train-1": "a refusal"}, "empty": 1}
    assert origin == expected
    said = capsys.readouterr().err
    assert f"no answer of {MODEL} can be used for dress-train-1: a refusal" in said
    assert "these answers are kept; delete data/work/caption/fiq/answers.jsonl to ask for all captions again" in said
    assert f"1 of {len(records)} images have an empty caption (dress-train-1)" in said
    first, count = file.read_bytes(), len(chat.requests)
    stages.caption.main(job("http://127.0.0.1:9/v1"))
    assert (file.read_bytes(), len(chat.requests)) == (first, count)


def test_a_refusal_is_stored_without_the_url_which_is_printed_once(chat, job, capsys):
    """An out must not depend on `machine.endpoints`, nor name hosts of a private network."""
    chat.reply = lambda body: "in red" if len(chat.requests) % 2 else refusal(400, "filtered")
    stages.caption.main(job(chat.url))
    stored = b"".join(path.read_bytes() for path in Path("data/caption/fiq").iterdir())
    assert b"refuses a request with status 400 (filtered)" in stored
    assert str(chat.port).encode() not in stored
    said = capsys.readouterr().err
    assert said.count(f"endpoint 'local', {chat.url}: refuses a request with status 400 (filtered)") == 1
    assert said.count(chat.url) == 1


def test_without_the_endpoint_nothing_is_written(job):
    made = job("http://127.0.0.1:9/v1")
    machine = made.params.machine.model_copy(update={"endpoints": {}})
    with pytest.raises(InputError, match=r"^models\.fiq\.captioner\.served: 'local' is not in machine\.endpoints"):
        stages.caption.main(Job(made.params.model_copy(update={"machine": machine}), "fiq"))
    assert not Path("data/caption/fiq").exists()
