"""Reranking by a served model, against a real HTTP server."""

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spn4cir.config.adjustments import RerankByModel
from spn4cir.datasets.cirr import Cirr
from spn4cir.errors import InputError
from spn4cir.evaluation.adjusted import evaluate_adjusted
from spn4cir.evaluation.evaluate import Evaluation, RankedSplit, encode_splits, evaluate
from spn4cir.evaluation.rerank import first_candidates, rerank
from spn4cir.evaluation.rerank_served import ServedScores, probability_of_yes
from spn4cir.images.decoding import open_rgb
from spn4cir.served.client import ServedModel
from spn4cir.served.messages import ChatAnswer, jpeg
from tests.conftest import CPU
from tests.helpers.chat_server import MODEL, ChatServer, images_of, prompt_of, refusal, serve_chat
from tests.helpers.layouts import write_cirr
from tests.helpers.stub import StubComposer
from tests.unit.test_evaluate import PROTOCOL

pytest.importorskip("openai")
SETTINGS = RerankByModel(served="judge", model=MODEL, prompt="Is the second image the first one, but {text}? yes or no")
K = 3


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with serve_chat() as server:
        yield server


@pytest.fixture
def layout(tmp_path: Path) -> Cirr:
    return Cirr(write_cirr(tmp_path, val_groups=2), "error")


def plain(layout: Cirr) -> tuple[Evaluation, Any]:
    splits, composer = layout.evaluation_splits(), StubComposer()
    images = encode_splits(composer, splits, PROTOCOL, 0, CPU)
    return evaluate(composer, layout, splits, images, PROTOCOL, CPU), images


def asking(chat: ChatServer, known: dict[str, float] | None = None) -> tuple[ServedScores, dict[str, float]]:
    """The scores of the server, and the answers that are stored."""
    stored: dict[str, float] = {}
    model = ServedModel("judge", (chat.url,), MODEL, 4)
    return ServedScores(model, SETTINGS, known or {}, stored.__setitem__), stored


def data_url(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(open_rgb(path))).decode()}"


def perfect(ranked: RankedSplit) -> Any:
    """Answers yes if the second image is a target of the text and the first image."""
    places = ranked.split.places
    asked = {
        (SETTINGS.prompt.format(text=text), data_url(places[t.reference_name]), data_url(places[str(t.target_name)]))
        for t, text in zip(ranked.split.triplets, ranked.texts, strict=True)
    }
    return lambda body: "Yes." if (prompt_of(body), *images_of(body)) in asked else "no"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ChatAnswer("x", first_token={"Yes": math.log(0.6), "No": math.log(0.2)}), 0.75),
        (ChatAnswer("x", first_token={" yes": math.log(0.3), "YES": math.log(0.3), "no": math.log(0.2)}), 0.75),
        (ChatAnswer("x", first_token={"▁No": math.log(0.5), "Maybe": math.log(0.4)}), 0.0),
        (ChatAnswer("Yes, it is", first_token={"The": -0.1}), 1.0),
        (ChatAnswer("No."), 0.0),
        (ChatAnswer("Nothing"), None),
        (ChatAnswer(""), None),
    ],
)
def test_the_probability_of_yes(answer: ChatAnswer, expected: float | None) -> None:
    assert probability_of_yes(answer) == (None if expected is None else pytest.approx(expected))


def test_a_perfect_model_raises_recall_at_1_and_leaves_recall_at_k(chat: ChatServer, layout: Cirr) -> None:
    before, images = plain(layout)
    (ranked,) = before.splits
    chat.reply = perfect(ranked)
    served, stored = asking(chat)

    def adjustment(splits: Any, _: Any) -> list[Any]:
        columns = [first_candidates(ranked.ranking, K)]
        (found,) = served.score(splits, columns)
        return [rerank(columns[0], ranked.ranking.top_scores[:, :K], found, 1.0)]

    after = evaluate_adjusted(StubComposer(), layout, before, images, PROTOCOL, CPU, adjustment)
    within = float((ranked.ranking.rank < K).sum()) / len(ranked.texts) * 100
    assert after.scores["recall_at1"] == pytest.approx(within)
    assert within > before.scores["recall_at1"]
    assert [after.scores[f"recall_at{k}"] for k in (5, 10, 50)] == [before.scores[f"recall_at{k}"] for k in (5, 10, 50)]
    assert len(chat.requests) == len(stored) == K * len(ranked.texts)
    body = chat.requests[0]
    assert len(images_of(body)) == 2
    assert (body["max_tokens"], body["logprobs"], body["temperature"]) == (1, True, 0.0)


def test_an_answer_that_is_stored_is_not_asked_for_again(chat: ChatServer, layout: Cirr) -> None:
    """A run that was killed resumes: it asks for the rest, and the scores are those of a run without a break."""
    before, _ = plain(layout)
    columns = [first_candidates(before.splits[0].ranking, K)]
    chat.reply = perfect(before.splits[0])
    served, stored = asking(chat)
    (whole,) = served.score(before.splits, columns)
    chat.requests.clear()
    half = dict(list(stored.items())[: len(stored) // 2])
    served, rest = asking(chat, half)
    assert torch.equal(served.score(before.splits, columns)[0], whole)
    assert len(chat.requests) == len(rest) == len(stored) - len(half)
    assert half | rest == stored
    other = ServedScores(served.model, SETTINGS.model_copy(update={"prompt": "now {text}?"}), stored, rest.__setitem__)
    other.score(before.splits, columns)
    assert len(chat.requests) == 2 * len(stored) - len(half), "another prompt is another question"


def test_answers_that_are_neither_and_refused_requests_count_as_no(
    chat: ChatServer, layout: Cirr, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = plain(layout)
    columns = [first_candidates(before.splits[0].ranking, K)]
    chat.faults = [refusal(400, "too long")]
    chat.reply = lambda body: "Perhaps" if prompt_of(body) == prompt_of(chat.requests[0]) else "yes"
    served, stored = asking(chat)
    (found,) = served.score(before.splits, columns)
    assert set(found.flatten().tolist()) == {0.0, 1.0}
    assert len(stored) == int(found.sum())
    assert "answers are neither yes nor no; they count as no" in capsys.readouterr().err


def test_a_model_that_never_answers_yes_or_no_is_refused(chat: ChatServer, layout: Cirr) -> None:
    before, _ = plain(layout)
    columns = [first_candidates(before.splits[0].ranking, K)]
    with pytest.raises(
        InputError, match=r"none of the first 20 answers of 'writer-7b' begins with yes or no; change the prompt"
    ):
        asking(chat)[0].score(before.splits, columns)
    assert len(chat.requests) < 36


@pytest.mark.parametrize("prompt", ["Is it?", "{text} {more}", "{"])
def test_a_prompt_without_the_field_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"prompt has the field \{text\} and no other"):
        RerankByModel(served="judge", model=MODEL, prompt=prompt)
