"""The words of commands: copies of data sets by name, and a working folder with what is in the way."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial

from tests.faults.places import Place

Words = Sequence[object]
Make = Callable[[Place], Words]
_DATA_SET = re.compile(r"\{([a-z ]+)\}")
FILE, FOLDER, LOOP, PIPE = "file.txt", "folder", "loop", "pipe"


def called(*words: object) -> Make:
    """Returns a function that makes the words of a command in a place.

    `{cirr}` in a word is the copy of the data set of that name. The working folder contains a file with a text, an
    empty folder, a link to itself and a pipe.
    """
    return partial(_made, words)


def _made(words: Words, place: Place) -> Words:
    (place.work / FILE).write_text("kept")
    (place.work / FOLDER).mkdir()
    (place.work / LOOP).symlink_to(LOOP)
    os.mkfifo(place.work / PIPE)
    return filled(words, place)


def filled(words: Words, place: Place) -> Words:
    """Returns words in which `{name}` is the copy of the data set of that name."""

    def copy(found: re.Match[str]) -> str:
        folder = place.data / found[1]
        return str(folder if folder.is_dir() else place.copy(found[1]))

    return [_DATA_SET.sub(copy, str(word)) for word in words]
