"""BERT's lower-casing WordPiece tokenizer, with a vocabulary from the hub, a folder or a checkpoint of this package.

Only the vocabulary is read. The settings of a tokenizer are ignored, because some published folders truncate and pad
to other lengths.
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
# Tokens that the text encoders need: padding, unknown words, start, end.
_REQUIRED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_SPECIAL = (*_REQUIRED, "[MASK]")


class Tokens(NamedTuple):
    """Texts as token ids.

    Attributes:
        ids: token ids, padded with `[PAD]`.
        mask: 1 for a token, 0 for padding.
    """

    ids: Int[Tensor, "texts length"]
    mask: Int[Tensor, "texts length"]


class BertWords:
    """A BERT tokenizer that reads its vocabulary when it is first used.

    Args:
        options: the vocabulary, or the hub id or folder of the tokenizer; if both are None, `DEFAULT_TOKENIZER`.
        added: special tokens that follow the words of the vocabulary, in the order of their ids.
        embeddings: number of word embeddings of the network.
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

        Raises InputError if the vocabulary cannot be read or downloaded, is not a BERT vocabulary, or has another size
        than the network.
        """
        source, words = _read(self._options, self._place)
        if words[-len(self._added) :] == self._added:
            words = words[: -len(self._added)]
        if missing := [word for word in _REQUIRED if word not in words]:
            raise InputError(f"{source}: is not a BERT vocabulary: missing {missing}; {_REMEDY}")
        if len(set(words)) < len(words):
            raise InputError(
                f"{source}: is not a BERT vocabulary: {len(words)} words, {len(set(words))} distinct; {_REMEDY}"
            )
        if len(words) + len(self._added) != self._embeddings:
            raise InputError(
                f"{self._place}: has {self._embeddings} word embeddings, but the vocabulary of {source} needs "
                f"{len(words) + len(self._added)} with {', '.join(self._added)}; {_REMEDY}"
            )
        return words

    def id(self, token: str) -> int:
        """Returns the id of a word or a special token. Raises KeyError if the vocabulary does not contain it."""
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise KeyError(token)
        return number

    def count(self, text: str) -> int:
        """Returns the number of tokens of a text before truncation, start and end included."""
        return len(self._pieces(text)) + 2

    def encode(self, texts: Sequence[str], limit: int, fill: bool = False) -> Tokens:
        """Returns ids with `[CLS]` first and `[SEP]` last.

        Args:
            texts: the texts; a text longer than `limit` is truncated before its end token.
            limit: maximum number of tokens of a text, start and end included.
            fill: if True, pads to `limit`; otherwise to the longest text.
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
        # The library rejects a lone surrogate; BERT drops U+FFFD, which replaces it.
        valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._tokenizer.encode(valid, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        ids = {word: number for number, word in enumerate(self.vocabulary)}
        tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - a word of the vocabulary
        tokenizer.normalizer = BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.add_special_tokens([word for word in _SPECIAL if word in ids])
        tokenizer.add_special_tokens(list(self._added))
        return tokenizer


def _read(options: Options, place: str) -> tuple[str, tuple[str, ...]]:
    """Returns the source of the words, for messages, and the words."""
    if options.vocabulary is not None:
        return place, options.vocabulary
    name = options.tokenizer or DEFAULT_TOKENIZER
    if Path(name).exists() or Path(name).is_absolute() or name.startswith("."):
        return name, folder_vocabulary(Path(name))
    return name, _hub_vocabulary(name, options.revision)


def holds_vocabulary(folder: Path) -> bool:
    """Returns whether a folder contains a vocabulary file."""
    return any((folder / file).is_file() for file in _FILES)


def folder_vocabulary(folder: Path) -> tuple[str, ...]:
    """Reads the words from `vocab.txt`, or else `tokenizer.json`, in a folder. Raises InputError if both are absent."""
    for file in _FILES:
        if (folder / file).is_file():
            return _file_vocabulary(folder / file)
    found = "no such folder" if not folder.exists() else f"neither {' nor '.join(_FILES)} in it"
    raise InputError(f"{folder}: contains no vocabulary ({found}); {_REMEDY}")


def _hub_vocabulary(repository: str, revision: str | None) -> tuple[str, ...]:
    from spn4cir.hub.fetch import fetch

    try:
        by_hand = f"or download {_FILES[0]} into a folder by hand"
        return _file_vocabulary(fetch(repository, _FILES[0], revision or "main", remedy=by_hand).path)
    except InputError as error:
        raise InputError(f"tokenizer {repository}: cannot be downloaded: {error}; {_REMEDY}") from None


def _file_vocabulary(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            ids: dict[str, int] = json.loads(text)["model"]["vocab"]
            return tuple(sorted(ids, key=ids.__getitem__))
        return tuple(text.removesuffix("\n").split("\n"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a vocabulary ({type(error).__name__}: {error}); {_REMEDY}") from None
