"""Captions of images by a served model, with the prompts of the local captioner.

An answer is bad if it is empty, has several lines or is a refusal; it is asked for again, twice at most. After that the
image has an empty caption. A caption that ends at the largest number of tokens is kept, as the local captioner keeps
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spn4cir.positives.caption_files import caption_record
from spn4cir.positives.llm_answers import check_line
from spn4cir.positives.text_asker import TextAsker, TextQuestion
from spn4cir.served.client import ServedModel
from spn4cir.served.messages import ChatRequest
from spn4cir.types import CaptionedImage


@dataclass(frozen=True)
class AnsweredImages:
    """Captions of images, and which of them were not answered as asked.

    Attributes:
        records: the records of the caption file, one for each image; see `caption_record`.
        faults: why an image has an empty caption, by name.
        cut: names of the images whose caption ends at the largest number of tokens.
    """

    records: list[dict[str, str]]
    faults: dict[str, str]
    cut: list[str]


@dataclass(frozen=True)
class ImageAsker:
    """Asks a served model for captions.

    Attributes:
        model: the served model.
        prompt: the template, with the fields {noun} and {words}.
        max_new_tokens: maximum number of tokens of a caption.
        store: the file that keeps the answers.
    """

    model: ServedModel
    prompt: str
    max_new_tokens: int
    store: Path

    def captions(self, images: Sequence[CaptionedImage], words: int) -> AnsweredImages:
        """Returns a caption for every image, in order, and asks for those that are not in the store.

        Args:
            images: the images; a name that occurs with two nouns gets a caption for each.
            words: number of words in the prompt.

        Raises:
            InputError: see `TextAsker.ask`.
        """
        nouns = dict.fromkeys(each.noun for each in images)
        prompts = {noun: self.prompt.format(noun=noun, words=words) for noun in nouns}
        questions = [TextQuestion(prompts[each.noun], (each.path,)) for each in images]
        asker = TextAsker(
            self.model,
            ChatRequest("", max_tokens=self.max_new_tokens),
            check_line,
            self.store,
            "models.<dataset>.captioner or caption.<dataset>.prompt",
            exact=True,
        )
        answers = asker.ask(list(dict.fromkeys(questions)), f"caption {words} words", "captions")
        found = [(image, answers[question]) for image, question in zip(images, questions, strict=True)]
        return AnsweredImages(
            [caption_record(image, answer.text) for image, answer in found],
            {image.name: answer.fault for image, answer in found if answer.fault},
            [image.name for image, answer in found if answer.finish == "length" and not answer.fault],
        )
