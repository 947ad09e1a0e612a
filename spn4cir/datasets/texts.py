"""From a triplet's captions to the one text that the network reads."""

from collections.abc import Sequence

from spn4cir.types import Triplet

_ENDS = ".?, "


def training_texts(triplet: Triplet) -> tuple[str, ...]:
    """The texts that a training step chooses from, each as likely as the others.

    An annotated pair of captions (FashionIQ) gives "c1 and c2", "c2 and c1", "c1", "c2", both stripped of ".?, " at
    their ends. Other triplets give their captions, of which there is at least one.
    """
    if triplet.generated or len(triplet.captions) != 2:
        return triplet.captions
    first, second = (caption.strip(_ENDS) for caption in triplet.captions)
    return f"{first} and {second}", f"{second} and {first}", first, second


def training_text(triplet: Triplet, draw: float) -> str:
    """The text of one training step; `draw`, uniform in [0, 1), says which of `training_texts`."""
    texts = training_texts(triplet)
    return texts[int(draw * len(texts))]


def evaluation_text(captions: Sequence[str], capitalise: bool) -> str:
    """The text of a validation or test query: the caption, or "c1 and c2" for a pair.

    Args:
        captions: one as annotated, or several, stripped of ".?, " at their ends.
        capitalise: the family's rule: the first letter of several upper case, the rest of c1 lower.
    """
    if len(captions) == 1:
        return captions[0]
    first, *others = (caption.strip(_ENDS) for caption in captions)
    return " and ".join([first.capitalize() if capitalise else first, *others])
