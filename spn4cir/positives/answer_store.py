"""The answers of a served model in an append-only file, which is read once."""

import hashlib
import sys
from pathlib import Path

from spn4cir.packed import TextsByHash
from spn4cir.positives.finished_work import append_finished, read_finished
from spn4cir.served.messages import ChatAnswer

_FIELDS = ("request", "text", "finish")


class AnswerStore:
    """Answers by the hash of their request, packed in memory and in a file.

    Args:
        path: the file; none of its answers is known if it is absent.

    Attributes:
        path: as the argument.

    Raises:
        InputError: a line of the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers = TextsByHash()
        for record in read_finished(path, _FIELDS):
            self._remember(str(record["request"]), ChatAnswer(str(record["text"]), str(record["finish"])))

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: str) -> ChatAnswer | None:
        """Returns the answer to a request, by its hash, or None."""
        packed = self._answers.get(_key(request))
        if packed is None:
            return None
        finish, _, text = packed.partition("\n")
        return ChatAnswer(text, sys.intern(finish))

    def add(self, request: str, answer: ChatAnswer) -> None:
        """Adds an answer and returns when it is on disk. One thread may add at a time, while others read."""
        append_finished(self.path, [{"request": request, "text": answer.text, "finish": answer.finish}])
        self._remember(request, answer)

    def _remember(self, request: str, answer: ChatAnswer) -> None:
        self._answers[_key(request)] = f"{answer.finish}\n{answer.text}"


def _key(request: str) -> bytes:
    return hashlib.sha256(request.encode()).digest()
