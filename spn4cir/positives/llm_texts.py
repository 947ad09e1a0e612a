"""Writes modification texts by a language model, which reads the captions or the images of a pair."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spn4cir.config.positives import Llm
from spn4cir.positives.answer_store import AnswerStore
from spn4cir.positives.llm_answers import check_answer
from spn4cir.positives.text_asker import CheckedText, TextAsker, TextQuestion
from spn4cir.positives.triplets import Written
from spn4cir.served.client import ServedModel
from spn4cir.served.messages import ChatAnswer, ChatRequest


class LlmText(NamedTuple):
    """A text of a triplet.

    Attributes:
        text: the text that the model wrote, or that of the template if the model's answers cannot be used.
        prompt: sha256 of the prompt, in hex.
        tries: number of answers that were read.
        fault: why the last answer cannot be used; empty if the model wrote the text.
    """

    text: str
    prompt: str
    tries: int
    fault: str


@dataclass(frozen=True)
class LlmTexts:
    """Asks a language model for the texts of triplets.

    Attributes:
        model: the served model.
        settings: the prompt, and what the model sees.
        seed: seed of the sampling.
        image_path: returns the path of an image, by name.
        store: the file that keeps the answers.
        max_tokens: maximum number of tokens that the text tower reads, start and end included.
        count_tokens: returns the number of tokens of a text, start and end included.
    """

    model: ServedModel
    settings: Llm
    seed: int
    image_path: Callable[[str], Path]
    store: Path
    max_tokens: int
    count_tokens: Callable[[str], int]

    def write(self, written: Sequence[Written]) -> list[tuple[LlmText, ...]]:
        """Returns the texts of triplets, one for each text of the templates.

        A text is asked for up to three times; see `TextAsker`. After that, and if the server refuses the request, the
        text is that of the template.

        Args:
            written: the triplets as the templates write them.

        Raises:
            InputError: see `TextAsker.ask`.
        """
        wanted = [[self._question(each, number) for number in range(len(each.triplet.captions))] for each in written]
        questions = list(dict.fromkeys(each for several in wanted for each in several))
        texts = self._asker().ask(questions, self.model.model, "texts")
        found = dict(zip(questions, texts, strict=True))
        return [
            tuple(
                _llm_text(each, found[each], template)
                for each, template in zip(several, source.triplet.captions, strict=True)
            )
            for several, source in zip(wanted, written, strict=True)
        ]

    def _asker(self) -> TextAsker:
        settings = self.settings
        sampling = ChatRequest("", temperature=settings.temperature, seed=self.seed, max_tokens=settings.max_tokens)
        remedy = "the prompt or max_tokens of triplets.<dataset>.<family>.llm"
        return TextAsker(self.model, sampling, self._check, AnswerStore(self.store), remedy)

    def _check(self, answer: ChatAnswer) -> tuple[str, str]:
        return check_answer(answer, self.max_tokens, self.count_tokens)

    def _question(self, source: Written, number: int) -> TextQuestion:
        triplet = source.triplet
        names = (triplet.reference_name, str(triplet.target_name)) if self.settings.sees == "images" else ()
        prompt = self.settings.prompt.format(reference=source.reference_caption, target=source.target_caption)
        # At temperature 0, the answers to one prompt are equal.
        return TextQuestion(prompt, tuple(map(self.image_path, names)), number if self.settings.temperature else 0)


def _llm_text(question: TextQuestion, found: CheckedText, template: str) -> LlmText:
    digest = hashlib.sha256(question.prompt.encode()).hexdigest()
    return LlmText(template if found.fault else found.text, digest, found.tries, found.fault)
