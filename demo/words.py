"""The small BERTs' vocabulary: every word of the demo's texts, and letters for the others."""

from __future__ import annotations

import re
import string

from demo.attributes import Garment, Scene
from demo.captions import GARMENT_TEMPLATES, SCENE_TEMPLATES, plural
from demo.changes import GARMENT_PHRASES, GARMENT_WORDINGS, SCENE_PHRASES

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What joins phrases and captions.
JOINTS = ("and", "a", "show", "unlike", "i", "want", "instead", "of")


def vocabulary() -> tuple[str, ...]:
    """Special tokens, words, then letters, digits and marks, and what continues an unknown word; in a fixed order."""
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
