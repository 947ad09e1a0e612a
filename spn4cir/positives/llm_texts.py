"""Writes modification texts by a language model, which reads the captions or the images of a pair.

Each answer is stored when it arrives, under a hash of all that determines it: the model, the prompt, the images and the
sampling. A resumed run, and a run with other pairs or another limit of tokens, asks only for what is not stored.
Answers are stored unchanged, and checked when they are read.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spn4cir.config.positives import Llm
from spn4cir.errors import InputError
from spn4cir.files import value_hash
from spn4cir.images.decoding import open_rgb
from spn4cir.images.reading import content_hash
from spn4cir.positives.finished_work import append_finished, read_finished
from spn4cir.positives.llm_answers import check_answer
from spn4cir.positives.triplets import Written
from spn4cir.progress import progress
from spn4cir.served.client import Ask, ServedModel
from spn4cir.served.messages import LONGEST_SIDE, QUALITY, ChatAnswer, ChatRequest, jpeg
from spn4cir.served.refusals import RequestRefused

TRIES = 3
# A further try samples: the most probable answer would be the same again.
_LEAST_TEMPERATURE = 0.7
# If none of this many first texts can be used, the prompt or the model does not fit.
_MANY = 20
# Seeds of further tries are this far apart, and are below the limit of all servers.
_SEEDS, _SEEDS_END = 1000, 1 << 31
_FIELDS = ("request", "text", "finish")


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
class _Wanted:
    """A text to write. Equal ones are asked for once."""

    prompt: str
    images: tuple[Path, ...]
    number: int


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

        A text is asked for up to three times; the second and third time with another seed, and a temperature of at
        least 0.7. After that, and if the server refuses the request, the text is that of the template.

        Args:
            written: the triplets as the templates write them.

        Raises:
            InputError: the server cannot be asked (see `ServedModel.each`), an image cannot be decoded, or the texts
                that are finished first, 20 or all, are all those of templates.
        """
        wanted = [[self._wanted(each, number) for number in range(len(each.triplet.captions))] for each in written]
        found = _Run(self).texts(list(dict.fromkeys(each for several in wanted for each in several)))
        return [
            tuple(
                found[each]._replace(text=template) if found[each].fault else found[each]
                for each, template in zip(several, source.triplet.captions, strict=True)
            )
            for several, source in zip(wanted, written, strict=True)
        ]

    def _wanted(self, source: Written, number: int) -> _Wanted:
        triplet = source.triplet
        names = (triplet.reference_name, str(triplet.target_name)) if self.settings.sees == "images" else ()
        prompt = self.settings.prompt.format(reference=source.reference_caption, target=source.target_caption)
        # At temperature 0, the answers to one prompt are equal.
        return _Wanted(prompt, tuple(map(self.image_path, names)), number if self.settings.temperature else 0)

    def request(self, prompt: str, number: int, attempt: int) -> ChatRequest:
        """Returns the request of an attempt, without its images."""
        heat = self.settings.temperature
        return ChatRequest(
            prompt,
            temperature=max(heat, _LEAST_TEMPERATURE) if attempt else heat,
            seed=(self.seed + number + attempt * _SEEDS) % _SEEDS_END,
            max_tokens=self.settings.max_tokens,
        )


class _Run:
    """One run over the texts, with the answers that are known."""

    def __init__(self, texts: LlmTexts) -> None:
        self._texts = texts
        records = read_finished(texts.store, _FIELDS)
        self._answers = {each["request"]: ChatAnswer(str(each["text"]), str(each["finish"])) for each in records}
        self._content = cache(content_hash)

    def texts(self, wanted: Sequence[_Wanted]) -> dict[_Wanted, LlmText]:
        """Returns the text of each; it is empty where no answer can be used."""
        known = ((each, self._known(each)) for each in wanted)
        found = {each: text for each, text in known if isinstance(text, LlmText)}
        if missing := [each for each in wanted if each not in found]:
            model = self._texts.model
            with closing(model.each(self._write, missing)) as written:
                for position, text in progress(written, len(wanted), f"{model.model}", "texts", len(found)):
                    found[missing[position]] = text
                    if len(found) >= _MANY:
                        self._check_usable(found)
        self._check_usable(found)
        return found

    async def _write(self, ask: Ask, wanted: _Wanted) -> LlmText:
        """Asks until an answer can be used or there is no further try. Each answer is stored when it arrives."""
        while isinstance(found := self._known(wanted), int):
            request = self._texts.request(wanted.prompt, wanted.number, found)
            try:
                answer = await ask(replace(request, images=tuple(jpeg(open_rgb(path)) for path in wanted.images)))
            except RequestRefused as error:  # not stored: the next run asks again
                return LlmText("", _hash(wanted.prompt), found + 1, str(error))
            key = self._key(wanted, found)
            append_finished(self._texts.store, [{"request": key, "text": answer.text, "finish": answer.finish}])
            self._answers[key] = answer
        return found

    def _known(self, wanted: _Wanted) -> LlmText | int:
        """Returns the text that the known answers give, or the number of the next try if they give none."""
        fault = ""
        for attempt in range(TRIES):
            answer = self._answers.get(self._key(wanted, attempt))
            if answer is None:
                return attempt
            text, fault = check_answer(answer, self._texts.max_tokens, self._texts.count_tokens)
            if not fault:
                return LlmText(text, _hash(wanted.prompt), attempt + 1, "")
        return LlmText("", _hash(wanted.prompt), TRIES, fault)

    def _key(self, wanted: _Wanted, attempt: int) -> str:
        """Returns a hash of all that determines an answer."""
        request = asdict(self._texts.request(wanted.prompt, wanted.number, attempt))
        images = [[self._content(path), LONGEST_SIDE, QUALITY] for path in wanted.images]
        return value_hash({**request, "images": images, "model": self._texts.model.model})

    def _check_usable(self, found: Mapping[_Wanted, LlmText]) -> None:
        """Raises InputError if all texts that are found are those of templates."""
        if found and all(text.fault for text in found.values()):
            fault = next(iter(found.values())).fault
            raise InputError(
                f"none of {len(found)} texts of '{self._texts.model.model}' can be used (the first: {fault}); change "
                f"the prompt or max_tokens of triplets.<dataset>.<family>.llm; the answers are in {self._texts.store}"
            )


def _hash(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()
