"""The stage `triplets` with texts of a language model, in a project of tiny files, against a real HTTP server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import stages.triplets
from spn4cir.config.positives import Llm
from spn4cir.errors import InputError
from spn4cir.positives.partners import Partners, write_partners
from stages.common import Job
from tests.helpers.chat_server import MODEL, ChatServer, images_of, prompt_of, serve_chat
from tests.helpers.layouts import write, write_fashioniq
from tests.helpers.params import published_params

pytest.importorskip("openai")
HERE = Path("data/triplets/fiq/clip")
FILE = HERE / "cap.extend_clip.train.json"
LLM = {"served": "local", "model": MODEL, "sees": "captions", "prompt": "{reference} > {target}", "temperature": 0}


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Returns a function from an endpoint's URLs and changed settings to the job of fiq and clip."""
    monkeypatch.chdir(tmp_path)
    params = published_params()
    write_fashioniq(Path("data/raw/fiq"), images=4)
    layout = Job(params, "fiq", "clip").layout()
    gallery = layout.training_gallery()
    rows, window = np.arange(len(gallery)), params.match["fiq"].window["clip"]
    ranks, similarity = np.full(len(gallery), 10_000), np.full(len(gallery), 0.5, dtype=np.float32)
    found = Partners(window, rows, (rows + 1) % len(gallery), ranks, similarity)
    write_partners([found], gallery, Path("data/match/fiq/partners.parquet"))
    captions = [{"image_id": name, "caption": f"a garment {name}", "image_path": "/x"} for name in gallery.names]
    words = params.caption["fiq"].words["clip"]
    write(Path("data/caption/fiq") / layout.names.captions_name(words), captions)

    def make(*urls: str, templates: tuple[int, ...] = (2,), **changes: Any) -> Job:
        llm = Llm.model_validate(LLM | {"max_tokens": 30} | changes)
        settings = params.triplets["fiq"]["clip"]
        chosen = settings.model_copy(update={"writer": "llm", "llm": llm, "templates": templates})
        update = {"endpoints": {"local": urls}, "concurrency": 2, "workers": 0, "device": "cpu"}
        machine = params.machine.model_copy(update=update)
        triplets = {**params.triplets, "fiq": {**params.triplets["fiq"], "clip": chosen}}
        return Job(params.model_copy(update={"machine": machine, "triplets": triplets}), "fiq", "clip")

    return make


def test_the_published_form_has_the_models_texts_and_the_table_says_where_each_is_from(chat, job, capsys):
    asked = "a garment dress-train-1 > a garment dress-train-2"
    chat.reply = lambda body: "I cannot." if prompt_of(body) == asked else "is shorter"
    stages.triplets.main(job(chat.url))
    records = json.loads(FILE.read_text())
    assert [record["captions"] for record in records] == [
        ["a garment dress-train-2"] if record["candidate"] == "dress-train-1" else ["is shorter"] for record in records
    ]
    assert records[0].keys() == {"target", "candidate", "captions", "caption1", "caption2"}
    read = job(chat.url).layout().read_generated(FILE)
    rows = pq.read_table(HERE / "texts.parquet").to_pylist()
    assert [(t.reference_name, t.target_name, *t.captions) for t in read] == [
        (row["reference"], row["target"], row["text"]) for row in rows
    ]
    assert {(row["model"], row["number"], len(row["prompt_sha256"])) for row in rows} == {(MODEL, 0, 64)}
    assert [(row["tries"], row["fault"]) for row in rows if row["fault"]] == [(3, "a refusal")]
    origin = json.loads((HERE / "source.json").read_text())
    assert origin == {"source": "make", "written_by": MODEL, "texts": len(rows), "by_template": 1}
    said = capsys.readouterr().err
    assert f"1 of {len(rows)} texts are those of templates" in said
    assert "dress-train-1 to dress-train-2: a refusal" in said


def test_one_text_is_written_for_each_template(chat, job):
    chat.reply = lambda body: f"is {body['seed']}"
    stages.triplets.main(job(chat.url, templates=(0, 1), temperature=1.0))
    seed = published_params().seed
    assert {tuple(record["captions"]) for record in json.loads(FILE.read_text())} == {(f"is {seed}", f"is {seed + 1}")}


def test_a_model_that_sees_images_gets_both(chat, job):
    chat.reply = lambda body: "is shorter"
    stages.triplets.main(job(chat.url, sees="images", prompt="What changes?"))
    assert {(len(images_of(body)), prompt_of(body)) for body in chat.requests} == {(2, "What changes?")}


def test_a_second_run_asks_nothing(chat, job):
    stages.triplets.main(job(chat.url))
    first, count = FILE.read_bytes(), len(chat.requests)
    FILE.unlink()
    stages.triplets.main(job("http://127.0.0.1:9/v1"))
    assert (FILE.read_bytes(), len(chat.requests)) == (first, count)


def test_without_an_endpoint_nothing_is_written(chat, job):
    with pytest.raises(InputError, match=r"^triplets\.fiq\.clip\.llm\.served: 'other' is not in machine\.endpoints"):
        stages.triplets.main(job(chat.url, served="other"))
    assert not HERE.exists()


def test_a_model_that_is_not_served_leaves_the_triplets(chat, job):
    with pytest.raises(InputError, match=rf"finds no model 'other', .*it serves {MODEL}"):
        stages.triplets.main(job(chat.url, model="other"))
    assert not HERE.exists()


def test_the_texts_of_templates_ask_nothing_and_write_one_file(chat, job):
    made = job(chat.url)
    settings = made.params.triplets["fiq"]["clip"].model_copy(update={"writer": "templates"})
    triplets = {**made.params.triplets, "fiq": {**made.params.triplets["fiq"], "clip": settings}}
    stages.triplets.main(Job(made.params.model_copy(update={"triplets": triplets}), "fiq", "clip"))
    assert chat.requests == []
    assert [path.name for path in HERE.iterdir()] == [FILE.name]
