"""Asks a served model for texts; an answer that cannot be used is asked for again, twice at most.

Each answer is stored when it arrives, under a hash of all that determines it: the model, the prompt, the images and the
sampling. A resumed run, and a run with other questions or another check, asks only for what is not stored. Answers are
stored unchanged, and checked when they are read.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from spn4cir.errors import InputError
from spn4cir.files import value_hash
from spn4cir.images.decoding import open_rgb
from spn4cir.images.reading import content_hash, is_there, read_bytes
from spn4cir.positives.answer_store import AnswerStore
from spn4cir.progress import progress
from spn4cir.served.client import Ask, ServedModel
from spn4cir.served.messages import LONGEST_SIDE, QUALITY, ChatAnswer, ChatRequest, exact, jpeg
from spn4cir.served.refusals import RequestRefused

TRIES = 3
# A further try samples: the most probable answer would be the same again.
_LEAST_TEMPERATURE = 0.7
# If none of this many first texts can be used, the prompt or the model does not fit.
_MANY = 20
# Seeds of further tries are this far apart, and are below the limit of all servers.
_SEEDS, _SEEDS_END = 1000, 1 << 31
# Questions that wait for a thread at one time, and images whose hash is remembered.
_WAITING = 4096


class CheckedText(NamedTuple):
    """What the answers to a question give.

    Attributes:
        text: the text of the last answer that was read, if it can be used; else empty.
        tries: number of answers that were read.
        fault: why the last answer cannot be used, or why the server refuses the request; empty if the text can be
            used. It contains no URL, so that results do not depend on `machine.endpoints`.
        finish: why the last answer ends, as in `ChatAnswer`.
    """

    text: str
    tries: int
    fault: str
    finish: str = ""


@dataclass(frozen=True, slots=True)
class TextQuestion:
    """A question to a served model.

    Attributes:
        prompt: the text of the question.
        images: paths of the images that precede it.
        number: distinguishes texts of one prompt by their seeds.
    """

    prompt: str
    images: tuple[Path, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class TextAsker:
    """Asks a served model questions, several at once.

    Attributes:
        model: the served model.
        sampling: a request with the temperature, the seed and the largest number of tokens of a first try; its prompt
            and images are ignored.
        check: returns the text of an answer and its fault, which is empty if the text can be used.
        store: the answers that are known, and their file.
        remedy: what to change if no answer can be used, for messages.
        exact: whether images of at most 768 pixels a side are sent without loss, rather than as JPEG.
    """

    model: ServedModel
    sampling: ChatRequest
    check: Callable[[ChatAnswer], tuple[str, str]]
    store: AnswerStore
    remedy: str
    exact: bool = False

    def ask(self, questions: Sequence[TextQuestion], label: str, unit: str) -> list[CheckedText]:
        """Returns the text of each question, in order.

        A second and third try have another seed, and a temperature of at least 0.7. A request that the server refuses
        is not tried again in this run, but in the next.

        Args:
            questions: the questions, each once. A sequence may make them when they are taken.
            label: name of the work, for the lines of its progress.
            unit: name of the texts, as in `captions`.

        Raises:
            InputError: the server cannot be asked (see `ServedModel.each`), an image cannot be decoded, or none of
                the texts that are finished first, 20 or all, can be used.
        """
        return _Run(self).texts(questions, label, unit)

    def request(self, question: TextQuestion, attempt: int) -> ChatRequest:
        """Returns the request of an attempt, without its images."""
        heat = self.sampling.temperature
        return replace(
            self.sampling,
            prompt=question.prompt,
            images=(),
            temperature=max(heat, _LEAST_TEMPERATURE) if attempt else heat,
            seed=(self.sampling.seed + question.number + attempt * _SEEDS) % _SEEDS_END,
        )


class _Run:
    """One run over the questions, with the answers that are known."""

    def __init__(self, asker: TextAsker) -> None:
        self._asker = asker
        self._writing = asyncio.Lock()
        self._content = lru_cache(_WAITING)(_content)
        self._has_refused = False

    def texts(self, questions: Sequence[TextQuestion], label: str, unit: str) -> list[CheckedText]:
        """Returns the text of each question; see `TextAsker.ask`."""
        found = self._stored(questions)
        missing = [position for position, text in enumerate(found) if text is None]
        is_usable = any(text is not None and not text.fault for text in found)
        finished = len(found) - len(missing)
        if missing:
            work = partial(self._answer_at, questions)
            with closing(self._asker.model.each(work, missing)) as answered:
                for number, text in progress(answered, len(questions), label, unit, finished):
                    found[missing[number]] = text
                    finished += 1
                    is_usable = is_usable or not text.fault
                    if finished >= _MANY and not is_usable:
                        break
        texts = [text for text in found if text is not None]
        if texts and not is_usable:
            raise self._unusable(texts, unit)
        return texts

    def _stored(self, questions: Sequence[TextQuestion]) -> list[CheckedText | None]:
        """Returns the texts that the known answers give, or None; without any answer, no image is read."""
        if not len(self._asker.store):
            return [None] * len(questions)
        found: list[CheckedText | None] = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(questions), _WAITING):
                block = questions[start : start + _WAITING]
                found += (text if isinstance(text, CheckedText) else None for text in pool.map(self._known, block))
        return found

    async def _answer_at(self, questions: Sequence[TextQuestion], ask: Ask, position: int) -> CheckedText:
        return await self._answer(ask, questions[position])

    async def _answer(self, ask: Ask, question: TextQuestion) -> CheckedText:
        """Asks until an answer can be used or there is no further try. Files are read in other threads."""
        while isinstance(found := await asyncio.to_thread(self._known, question), int):
            images = await asyncio.to_thread(lambda: tuple(map(self._encoded, question.images)))
            try:
                answer = await ask(replace(self._asker.request(question, found), images=images))
            except RequestRefused as error:
                self._report(error)
                return CheckedText("", found + 1, error.reason)
            await self._keep(await asyncio.to_thread(self._key, question, found), answer)
        return found

    def _report(self, error: RequestRefused) -> None:
        """Prints the first refusal with its URL, which no result contains."""
        if not self._has_refused:
            self._has_refused = True
            print(f"{error} (the first; others are not printed)", file=sys.stderr, flush=True)

    async def _keep(self, key: str, answer: ChatAnswer) -> None:
        """Stores an answer. Another thread waits for the disk, so that requests are sent meanwhile."""
        async with self._writing:
            await asyncio.to_thread(self._asker.store.add, key, answer)

    def _encoded(self, path: Path) -> bytes:
        image = open_rgb(path)
        return exact(image, lambda: read_bytes(path)) if self._asker.exact else jpeg(image)

    def _known(self, question: TextQuestion) -> CheckedText | int:
        """Returns the text that the known answers give, or the number of the next try if they give none."""
        if not all(map(is_there, question.images)):
            return 0  # decoding the absent file raises the error that names it
        fault = finish = ""
        for attempt in range(TRIES):
            answer = self._asker.store.get(self._key(question, attempt))
            if answer is None:
                return attempt
            text, fault = self._asker.check(answer)
            finish = answer.finish
            if not fault:
                return CheckedText(text, attempt + 1, "", finish)
        return CheckedText("", TRIES, fault, finish)

    def _key(self, question: TextQuestion, attempt: int) -> str:
        """Returns a hash of all that determines an answer."""
        form = [LONGEST_SIDE, QUALITY, *(["exact"] if self._asker.exact else [])]
        images = [[self._content(str(path)), *form] for path in question.images]
        request = asdict(self._asker.request(question, attempt))
        return value_hash({**request, "images": images, "model": self._asker.model.model})

    def _unusable(self, texts: Sequence[CheckedText], unit: str) -> InputError:
        """Returns the error for a run none of whose texts can be used."""
        return InputError(
            f"none of {len(texts)} {unit} of '{self._asker.model.model}' can be used (the first: {texts[0].fault}); "
            f"change {self._asker.remedy}, or delete the answers, {self._asker.store.path}, to ask for them again"
        )


def _content(path: str) -> str:
    """The hash of a file. A text as the key takes less memory than a `Path`, which keeps its hash and its parts."""
    return content_hash(Path(path))
