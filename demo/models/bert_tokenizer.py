"""The tokenizer of the small BLIP and BLIP-2: it has every word of the demo's texts, and splits others into letters."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import torch
from jaxtyping import Int
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from demo.draw.attributes import Garment, Scene
from demo.draw.captions import GARMENT_TEMPLATES, SCENE_TEMPLATES, plural
from demo.draw.changes import GARMENT_PHRASES, GARMENT_WORDINGS, SCENE_PHRASES

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Words that join phrases and captions.
JOINTS = ("and", "a", "show", "unlike", "i", "want", "instead", "of")


def vocabulary() -> tuple[str, ...]:
    """Returns the tokens: special ones, words, letters, digits, punctuation, continuations of unknown words."""
    texts = [*GARMENT_TEMPLATES.values(), *SCENE_TEMPLATES.values(), *JOINTS]
    for phrases in (*GARMENT_PHRASES.values(), *GARMENT_WORDINGS.values(), *SCENE_PHRASES.values()):
        texts += phrases
    for kind in (Garment, Scene):
        texts += [value for values in kind.VALUES.values() for value in values]
    texts += [plural(shape, "two") for shape in Scene.VALUES["shape"]]
    words = [word for text in texts for word in re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text))]
    letters = [*string.ascii_lowercase, *string.digits]
    rest = [f"##{letter}" for letter in letters]
    return tuple(dict.fromkeys([*SPECIAL, *words, *letters, *string.punctuation, *rest]))


class WordTokenizer:
    """A lower-casing WordPiece tokenizer for the demo's words.

    Args:
        added: special tokens; their ids follow those of the vocabulary.

    Attributes:
        count: number of tokens.
        ids: the id of each token.
    """

    def __init__(self, added: Sequence[str]) -> None:
        rows = {word: row for row, word in enumerate([*vocabulary(), *added])}
        self.count = len(rows)
        self.ids = rows
        self._tokenizer = BertWordPieceTokenizer(vocab=rows, lowercase=True)
        self._tokenizer.enable_padding(pad_id=rows["[PAD]"])

    def encode(self, texts: Sequence[str]) -> dict[str, Int[Tensor, "texts length"]]:
        """Returns `input_ids` from `[CLS]` to `[SEP]`, padded to the longest text, and the `attention_mask`."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids, masks = [each.ids for each in encoded], [each.attention_mask for each in encoded]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}
