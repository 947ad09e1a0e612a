"""Checks the answers of a model that is asked for a caption or a modification text."""

import re
from collections.abc import Callable

from spn4cir.served.messages import ChatAnswer

# The thoughts of a reasoning model precede its answer if the server does not split them off.
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "“": "”", "\u2018": "\u2019", "«": "»", "`": "`", "*": "*"}
_REFUSAL = re.compile(
    r"\A(?:i(?: am|'m) (?:very )?(?:sorry|unable|afraid|not able)|sorry|i (?:cannot|can't|can not|apologi[sz]e))\b"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    re.IGNORECASE,
)


def check_answer(answer: ChatAnswer, max_tokens: int, count_tokens: Callable[[str], int]) -> tuple[str, str]:
    """Returns a modification text, without thoughts and quotation marks, and its fault; empty if it has none.

    Args:
        answer: the answer.
        max_tokens: maximum number of tokens that the text tower reads, start and end included.
        count_tokens: returns the number of tokens of a text, start and end included.
    """
    text, fault = check_line(answer)
    if answer.finish == "length":
        return text, "cut at max_tokens"
    if not fault and (tokens := count_tokens(text)) > max_tokens:
        return text, f"{tokens} tokens, more than {max_tokens}"
    return text, fault


def check_line(answer: ChatAnswer) -> tuple[str, str]:
    """Returns an answer of one line, without thoughts and quotation marks, and its fault; empty if it has none.

    An answer that was cut at the largest number of tokens has no fault, unless only a thought was cut.
    """
    text = _unquoted(_THOUGHTS.sub("", answer.text).strip())
    if not re.search(r"\w", text):
        return text, "empty"
    if "\n" in text or "<think>" in text:
        return text, "several lines"
    if _REFUSAL.search(text.replace("\u2019", "'")):
        return text, "a refusal"
    return text, ""


def _unquoted(text: str) -> str:
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text
