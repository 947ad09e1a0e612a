"""The fenced blocks of README.md and docs/, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Pages that commands write; their blocks name the commands that made the figures.
WRITTEN = {"benchmarks.md", "demo-models.md", "families.md", "research.md"}
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# First lines of blocks that the tests do not run.
_THING = "(?:the hub|a GPU|licensed data|a server of yours)"
_MARK = re.compile(rf"# (?:needs {_THING}(?:, {_THING})*|takes minutes(?:: run by make [a-z-]+(?:, make [a-z-]+)*)?)\n")
# A first line that starts like a mark and is none is misspelt.
_ALMOST = re.compile(r"# (?:needs|takes)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page (in docs/, or README.md), line, language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def mark(self) -> str | None:
        """The first line, if it states what the block needs."""
        found = _MARK.match(self.text)
        assert found or not _ALMOST.match(self.text), f"{self}: no such mark"
        return found[0].strip() if found else None

    @property
    def first(self) -> str:
        """The first line that is not a mark."""
        return _MARK.sub("", self.text).lstrip().splitlines()[0]

    def commands(self) -> list[str]:
        """Returns the commands of a shell block: continued lines joined, parts of `&&` separate, no comments."""
        text = self.text
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        lines = text.replace("\\\n", " ").splitlines()
        parts = [part.strip() for line in lines for part in line.split(" && ")]
        return [part for part in parts if shlex.split(part, comments=True)]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> Iterator[Path]:
    """Returns README.md and every page of docs/."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def blocks() -> list[Block]:
    """Returns every fenced block."""
    return [block for page in pages() for block in _of_page(page)]


def _of_page(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    docs = ROOT / "docs"
    name = page.relative_to(docs).as_posix() if page.is_relative_to(docs) else page.name
    for found in _FENCE.finditer(text):
        indent = len(found[1])
        body = "".join(line[indent:] if line.strip() else line for line in found[3].splitlines(keepends=True))
        language = found[2] or ("bash" if name in WRITTEN else "")
        yield Block(name, text.count("\n", 0, found.start()) + 1, language, body)


def inline_commands() -> Iterator[tuple[str, str]]:
    """Yields pages and the commands of `spn4cir` and `make` in their sentences."""
    for page in pages():
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for command in re.findall(r"`((?:spn4cir|make) [a-z][^`]*)`", text):
            yield page.name, command
