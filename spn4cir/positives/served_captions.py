"""Captions of images by a served model, with the prompts of the local captioner.

An answer is bad if it is empty, has several lines or is a refusal; it is asked for again, twice at most. After that the
image has an empty caption. A caption that ends at the largest number of tokens is kept, as the local captioner keeps
it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from spn4cir.positives.answer_store import AnswerStore
from spn4cir.positives.caption_files import caption_record
from spn4cir.positives.llm_answers import check_line
from spn4cir.positives.text_asker import CheckedText, TextAsker, TextQuestion
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
        store: the answers that are known, and their file.
    """

    model: ServedModel
    prompt: str
    max_new_tokens: int
    store: AnswerStore

    def captions(self, images: Sequence[CaptionedImage], words: int) -> AnsweredImages:
        """Returns a caption for every image, in order, and asks for those that are not in the store.

        Args:
            images: the images; a name that occurs with two nouns gets a caption for each.
            words: number of words in the prompt.

        Raises:
            InputError: see `TextAsker.ask`.
        """
        questions = _Questions(images, self.prompt, words)
        answers = self._asker().ask(questions, f"caption {words} words", "captions")

        def answered() -> Iterator[tuple[CaptionedImage, CheckedText]]:
            return zip(images, answers, strict=True)

        return AnsweredImages(
            [caption_record(image, answer.text) for image, answer in answered()],
            {image.name: answer.fault for image, answer in answered() if answer.fault},
            [image.name for image, answer in answered() if answer.finish == "length" and not answer.fault],
        )

    def _asker(self) -> TextAsker:
        sampling = ChatRequest("", max_tokens=self.max_new_tokens)
        remedy = "models.<dataset>.captioner or caption.<dataset>.prompt"
        return TextAsker(self.model, sampling, check_line, self.store, remedy, exact=True)


class _Questions(Sequence[TextQuestion]):
    """The questions about images, each made when it is taken: all together take more memory than their answers."""

    def __init__(self, images: Sequence[CaptionedImage], prompt: str, words: int) -> None:
        self._images = images
        self._prompts = {noun: prompt.format(noun=noun, words=words) for noun in {each.noun for each in images}}

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, position: int) -> TextQuestion: ...

    @overload
    def __getitem__(self, position: slice) -> list[TextQuestion]: ...

    def __getitem__(self, position: int | slice) -> TextQuestion | list[TextQuestion]:
        if isinstance(position, slice):
            return [self[place] for place in range(len(self))[position]]
        image = self._images[position]
        return TextQuestion(self._prompts[image.noun], (image.path,))
