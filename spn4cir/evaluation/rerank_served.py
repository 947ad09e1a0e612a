"""Scores of candidates by a served model: the probability that it answers yes to a question about two images."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spn4cir.config.adjustments import RerankByModel
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import RankedSplit
from spn4cir.files import value_hash
from spn4cir.images.decoding import open_rgb
from spn4cir.images.reading import content_hash
from spn4cir.progress import progress
from spn4cir.served.client import Ask, ServedModel
from spn4cir.served.messages import LONGEST_SIDE, QUALITY, ChatAnswer, ChatRequest, jpeg
from spn4cir.served.refusals import RequestRefused

# Candidates of the first token that a server is asked for: Yes, No, and other spellings of both.
_TOP_LOGPROBS = 10
# The number of encoded images in memory; the candidates of a query share their reference.
_IMAGES = 256
# If this many answers, the first ones, are neither yes nor no, the prompt or the model does not fit.
_MANY = 20


@dataclass(frozen=True)
class Question:
    """A question about a candidate; equal ones are asked once."""

    prompt: str
    reference: Path
    candidate: Path

    @property
    def request(self) -> ChatRequest:
        """The request without its images: the reference, then the candidate."""
        return ChatRequest(self.prompt, max_tokens=1, top_logprobs=_TOP_LOGPROBS)


@dataclass(frozen=True)
class ServedScores:
    """Asks a served model about candidates.

    Attributes:
        model: the served model.
        settings: the settings, with the prompt.
        known: probabilities of earlier runs, by the key of a question.
        keep: stores the key of a question with its probability, when it is answered.
    """

    model: ServedModel
    settings: RerankByModel
    known: Mapping[str, float]
    keep: Callable[[str, float], None]

    def score(
        self, splits: Sequence[RankedSplit], columns: Sequence[Int[Tensor, "queries k"]]
    ) -> list[Float[Tensor, "queries k"]]:
        """Probabilities of the candidates of each split; 0 for the padding, and for answers that are neither.

        Args:
            splits: the plain ranking.
            columns: candidates of each query, padded with -1.

        Raises:
            InputError: the server cannot be asked (see `ServedModel.each`), an image cannot be decoded, or none of
                the first answers is yes or no.
        """
        questions = [
            [
                [None if column < 0 else self._question(ranked, query, column) for column in row]
                for query, row in enumerate(own.tolist())
            ]
            for ranked, own in zip(splits, columns, strict=True)
        ]
        found = self._answers(list(dict.fromkeys(q for split in questions for row in split for q in row if q)))
        return [
            torch.tensor([[found[q] if q else 0.0 for q in row] for row in split], dtype=torch.float64).reshape(
                own.shape
            )
            for split, own in zip(questions, columns, strict=True)
        ]

    def _question(self, ranked: RankedSplit, query: int, column: int) -> Question:
        places = ranked.split.places
        reference = ranked.split.triplets[query].reference_name
        prompt = self.settings.prompt.format(text=ranked.texts[query])
        return Question(prompt, places[reference], places[ranked.names[column]])

    def _answers(self, questions: Sequence[Question]) -> dict[Question, float]:
        """The probability of each question; asks only for those that are not known."""
        content, encoded = cache(content_hash), lru_cache(_IMAGES)(lambda path: jpeg(open_rgb(path)))
        keys = {each: self._key(each, content) for each in questions}
        found = {each: self.known[key] for each, key in keys.items() if key in self.known}
        missing = [each for each in questions if each not in found]

        async def ask_one(ask: Ask, question: Question) -> float | None:
            images = (encoded(question.reference), encoded(question.candidate))
            try:
                return probability_of_yes(await ask(replace(question.request, images=images)))
            except RequestRefused:
                return None

        faults = answers = 0
        if missing:
            with closing(self.model.each(ask_one, missing)) as answered:
                label = f"rerank with {self.model.model}"
                for position, value in progress(answered, len(questions), label, "answers", len(found)):
                    answers += 1
                    if value is None:
                        faults += 1
                    else:
                        self.keep(keys[missing[position]], value)
                    found[missing[position]] = value or 0.0
                    if faults == answers == min(_MANY, len(questions)):
                        raise self._no_answer(answers)
        if faults:
            print(
                f"rerank: {faults} of {len(questions)} answers are neither yes nor no; they count as no",
                file=sys.stderr,
            )
        return found

    def _key(self, question: Question, content: Callable[[Path], str]) -> str:
        """A hash of all that determines an answer."""
        images = [[content(path), LONGEST_SIDE, QUALITY] for path in (question.reference, question.candidate)]
        return value_hash({**asdict(question.request), "images": images, "model": self.model.model})

    def _no_answer(self, answers: int) -> InputError:
        return InputError(
            f"none of the first {answers} answers of '{self.model.model}' begins with yes or no; change the prompt of "
            "adjust.<dataset>.<family>.rerank.by, as in '... Answer yes or no.'"
        )


def probability_of_yes(answer: ChatAnswer) -> float | None:
    """P(yes) / (P(yes) + P(no)) of the first token, over all spellings; 1 or 0 from the text if there are none.

    Returns None for an answer that is neither.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in answer.first_token.items():
        if (word := _word(token)) in mass:
            mass[word] += math.exp(logprob)
    if total := sum(mass.values()):
        return mass["yes"] / total
    return {"yes": 1.0, "no": 0.0}.get(_word(answer.text))


def _word(text: str) -> str:
    """The first word of a text or token, without marks, in lower case; `Ġ` and `▁` are spaces of tokenizers."""
    words = text.replace("Ġ", " ").replace("▁", " ").split()
    return words[0].strip(".,;:!?\"'*").lower() if words else ""
