"""Turns a triplet's captions into the one text that the network reads."""

from collections.abc import Sequence

from spn4cir.types import Triplet

_ENDS = ".?, "


def training_texts(triplet: Triplet) -> tuple[str, ...]:
    """Returns the texts that a training step chooses from with equal probability.

    For an annotated pair of captions (FashionIQ) these are "c1 and c2", "c2 and c1", "c1", "c2", with ".?, " stripped
    from both ends of each caption. For other triplets they are the captions, of which there is at least one.
    """
    if triplet.generated or len(triplet.captions) != 2:
        return triplet.captions
    first, second = (caption.strip(_ENDS) for caption in triplet.captions)
    return f"{first} and {second}", f"{second} and {first}", first, second


def training_text(triplet: Triplet, draw: float) -> str:
    """Returns the text of one training step; `draw`, uniform in [0, 1), selects one of `training_texts`."""
    texts = training_texts(triplet)
    return texts[int(draw * len(texts))]


def evaluation_text(captions: Sequence[str], capitalise: bool) -> str:
    """Returns the text of a validation or test query: the caption, or "c1 and c2" for a pair.

    Args:
        captions: one caption, which is used unchanged, or several, from whose ends ".?, " is stripped.
        capitalise: whether the first of several captions begins with a capital letter and continues in lower case.
    """
    if len(captions) == 1:
        return captions[0]
    first, *others = (caption.strip(_ENDS) for caption in captions)
    return " and ".join([first.capitalize() if capitalise else first, *others])
