"""From a triplet's captions to the one text that the network reads."""

from collections.abc import Iterable, Sequence

from spn4cir.composers.protocol import Composer
from spn4cir.progress import say_once
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


def report_long_texts(composer: Composer, texts: Iterable[str], place: str) -> None:
    """Says on stderr how many of some texts have more tokens than the network reads; the rest of those is cut.

    Each distinct text is counted once, and a line that was said before, as after an earlier epoch, is not repeated.

    Args:
        composer: the network.
        texts: as it is to read them.
        place: what they are, as in `split 'dress'`.
    """
    distinct = set(texts)
    # A text has no more tokens than its words one by one, of which there are few: only what may be too long is counted.
    marks = composer.count_tokens("")
    word_tokens = {word: composer.count_tokens(word) - marks for word in set(" ".join(distinct).split())}
    long = [text for text in distinct if marks + sum(word_tokens[word] for word in text.split()) > composer.max_tokens]
    beyond = [count for count in map(composer.count_tokens, long) if count > composer.max_tokens]
    if beyond:
        say_once(
            f"warning: {place}: {len(beyond):,} of {len(distinct):,} texts have more than {composer.max_tokens} tokens "
            f"(the longest {max(beyond)}); family '{composer.family}' reads no more, the rest is cut"
        )
