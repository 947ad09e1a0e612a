"""BERT's lower-casing WordPiece tokenizer over a vocabulary from the hub, a folder or a checkpoint of ours.

Only the words are taken, never a tokenizer's settings: some of the folders about cut and pad to lengths of their own.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from spn4cir.composers.protocol import DEFAULT_TOKENIZER, Options
from spn4cir.errors import InputError

_REMEDY = "name one with --tokenizer FOLDER or models.<dataset>.tokenizer"
_FILES = ("vocab.txt", "tokenizer.json")
# What the text encoders cannot do without: padding, unknown words, start, end.
_REQUIRED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_SPECIAL = (*_REQUIRED, "[MASK]")


class Tokens(NamedTuple):
    """Texts as ids.

    Attributes:
        ids: padded with `[PAD]`.
        mask: 1 where a token stands, 0 where there is padding.
    """

    ids: Int[Tensor, "texts length"]
    mask: Int[Tensor, "texts length"]


class BertWords:
    """A BERT tokenizer whose vocabulary is read when it is first needed.

    Args:
        options: its vocabulary, or its hub id or folder; neither: `DEFAULT_TOKENIZER`.
        added: special tokens that come after the vocabulary's words, in the order of their ids.
        embeddings: how many word embeddings the network has.
        place: the network's file, for messages.
    """

    def __init__(self, options: Options, added: Sequence[str], embeddings: int, place: str) -> None:
        self._options = options
        self._added = tuple(added)
        self._embeddings = embeddings
        self._place = place

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The words in the order of their ids, without the added tokens.

        Raises InputError where the vocabulary cannot be had, is none, or is of another size than the network's.
        """
        source, words = _read(self._options, self._place)
        if words[-len(self._added) :] == self._added:
            words = words[: -len(self._added)]
        if missing := [word for word in _REQUIRED if word not in words]:
            raise InputError(f"{source}: is no BERT vocabulary: missing {missing}; {_REMEDY}")
        if len(set(words)) < len(words):
            raise InputError(f"{source}: is no BERT vocabulary: {len(words)} words, {len(set(words))} of them distinct")
        if len(words) + len(self._added) != self._embeddings:
            raise InputError(
                f"{self._place}: has {self._embeddings} word embeddings, the vocabulary of {source} makes "
                f"{len(words) + len(self._added)} with {', '.join(self._added)}; {_REMEDY}"
            )
        return words

    def id(self, token: str) -> int:
        """The id of a word or a special token. Raises KeyError for one that there is not."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise KeyError(token)
        return number

    def count(self, text: str) -> int:
        """Number of tokens of a text, start and end included, before any cut."""
        return len(self._pieces(text)) + 2

    def encode(self, texts: Sequence[str], limit: int, fill: bool = False) -> Tokens:
        """Ids with `[CLS]` first and `[SEP]` last.

        Args:
            texts: cut before their end token where they are longer than `limit`.
            limit: the most tokens of a text, start and end included.
            fill: pads to `limit`; otherwise to the longest of the texts.
        """
        start, end = [self.id("[CLS]")], [self.id("[SEP]")]
        rows = [start + self._pieces(text)[: limit - 2] + end for text in texts]
        length = limit if fill else max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.id("[PAD]"))
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return Tokens(ids, mask)

    def _pieces(self, text: str) -> list[int]:
        # Half of a surrogate pair is no character, and the library takes no text with one; BERT drops U+FFFD.
        valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._tokenizer.encode(valid, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        ids = {word: number for number, word in enumerate(self.vocabulary)}
        tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
        tokenizer.normalizer = BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.add_special_tokens([word for word in _SPECIAL if word in ids])
        tokenizer.add_special_tokens(list(self._added))
        return tokenizer


def _read(options: Options, place: str) -> tuple[str, tuple[str, ...]]:
    """Where the words come from, for messages, and the words."""
    if options.vocabulary is not None:
        return place, options.vocabulary
    name = options.tokenizer or DEFAULT_TOKENIZER
    if Path(name).exists() or Path(name).is_absolute() or name.startswith("."):
        return name, folder_vocabulary(Path(name))
    return name, _hub_vocabulary(name, options.revision)


def holds_vocabulary(folder: Path) -> bool:
    """Whether a folder has a file of words."""
    return any((folder / file).is_file() for file in _FILES)


def folder_vocabulary(folder: Path) -> tuple[str, ...]:
    """The words of a tokenizer's folder, by `vocab.txt` or else `tokenizer.json`. Raises InputError without either."""
    for file in _FILES:
        if (folder / file).is_file():
            return _file_vocabulary(folder / file)
    found = "no such folder" if not folder.exists() else f"neither {' nor '.join(_FILES)} in it"
    raise InputError(f"{folder}: holds no vocabulary ({found}); {_REMEDY}")


def _hub_vocabulary(repository: str, revision: str | None) -> tuple[str, ...]:
    from spn4cir.hub.fetch import fetch

    try:
        by_hand = f"or download {_FILES[0]} into a folder by hand"
        return _file_vocabulary(fetch(repository, _FILES[0], revision or "main", remedy=by_hand).path)
    except InputError as error:
        raise InputError(f"tokenizer {repository}: cannot be had: {error}; {_REMEDY}") from None


def _file_vocabulary(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            ids: dict[str, int] = json.loads(text)["model"]["vocab"]
            return tuple(sorted(ids, key=ids.__getitem__))
        return tuple(text.removesuffix("\n").split("\n"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no vocabulary ({type(error).__name__}: {error}); {_REMEDY}") from None
