"""Generates triplets from captions: a modification text for every matched pair of images."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from spn4cir.config.positives import Triplets as TripletSettings
from spn4cir.errors import InputError, some_names
from spn4cir.types import Triplet

# {0} is the reference's caption, {1} the target's, {2} the new words: see `new_words`.
TEMPLATES = ("{1} instead of {0}", "Unlike {0}, I want {1}", "{1}", "{2}")
_MARKS = ".,;:!?"
_SHOWN = 3


class Written(NamedTuple):
    """A generated triplet and the captions from which its texts are written."""

    triplet: Triplet
    reference_caption: str
    target_caption: str


def modification_texts(
    reference: str, target: str, templates: Iterable[int], max_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[str, ...]:
    """Returns one text per template; a text longer than `max_tokens` is replaced by the target's caption.

    Args:
        reference: caption of the reference.
        target: caption of the target.
        templates: positions in `TEMPLATES`.
        max_tokens: maximum number of tokens that the text tower reads, start and end included.
        count_tokens: returns the number of tokens of a text, start and end included.
    """
    texts = (_fill(number, reference, target) for number in templates)
    return tuple(text if count_tokens(text) <= max_tokens else target for text in texts)


def new_words(reference: str, target: str) -> str:
    """Returns the words of the target's caption that the reference's caption lacks, in order.

    Such a text leaves to the reference what both images share, as a person's does. Letter case and punctuation marks at
    the ends of a word are ignored. If there is no new word, the target's caption is returned.
    """
    own = {_bare(word) for word in reference.split()}
    return " ".join(word for word in target.split() if _bare(word) not in own).rstrip(_MARKS) or target


def _bare(word: str) -> str:
    return word.strip(_MARKS).casefold()


def _fill(number: int, reference: str, target: str) -> str:
    return TEMPLATES[number].format(reference, target, new_words(reference, target))


def write_triplets(
    pairs: Iterable[tuple[str, str]],
    captions: Mapping[str, str],
    settings: TripletSettings,
    references: frozenset[str],
    seed: int,
    count_tokens: Callable[[str], int],
) -> Iterator[Written]:
    """Yields the generated triplets of matched pairs by templates, in order; see `select_pairs`.

    At the end, the number of texts that are replaced by the target's caption is reported on stderr.

    Args:
        pairs: names of reference and target.
        captions: caption of every image; empty if the captioner returned nothing.
        settings: templates, `refer`, `sample`, the text limit.
        references: names of the references of annotated triplets; with `refer`, only these are references.
        seed: determines which triplets a `sample` keeps.
        count_tokens: returns the number of tokens of a text, start and end included.

    Raises:
        InputError: an image has no caption, or nothing is left; raised by the call.
    """
    chosen = select_pairs(pairs, captions, settings, references, seed)
    written = (write_triplet(reference, target, captions, settings, count_tokens) for reference, target in chosen)
    return _reporting_long_texts(written, settings, count_tokens)


def select_pairs(
    pairs: Iterable[tuple[str, str]],
    captions: Mapping[str, str],
    settings: TripletSettings,
    references: frozenset[str],
    seed: int,
) -> list[tuple[str, str]]:
    """Returns the pairs that become triplets, in order; the arguments are those of `write_triplets`.

    A pair with an empty caption is left out; the count and the first names of such images are reported on stderr.

    Raises:
        InputError: an image has no caption, or nothing is left.
    """
    chosen = [pair for pair in pairs if not settings.refer or pair[0] in references]
    for name in (name for pair in chosen for name in pair):
        if name not in captions:
            raise InputError(
                f"triplets: image '{name}' has no caption among {len(captions)}; "
                "set caption.<dataset>.images to split or run caption again"
            )
    chosen = _described(chosen, captions)
    if settings.sample is not None:
        chosen = _sample(chosen, settings.sample, seed)
    if not chosen:
        raise InputError(
            "triplets: no pair is left; check refer, the match window and the empty captions of this data set"
        )
    return chosen


def _described(pairs: list[tuple[str, str]], captions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns the pairs in which both images have a caption that is not empty."""
    empty = list(dict.fromkeys(name for pair in pairs for name in pair if not captions[name]))
    if not empty:
        return pairs
    kept = [pair for pair in pairs if captions[pair[0]] and captions[pair[1]]]
    print(
        f"triplets: {len(empty)} images have an empty caption ({some_names(empty, _SHOWN)}); {len(pairs) - len(kept)} "
        f"of {len(pairs)} pairs are left out",
        file=sys.stderr,
    )
    return kept


def _reporting_long_texts(
    written: Iterable[Written], settings: TripletSettings, count_tokens: Callable[[str], int]
) -> Iterator[Written]:
    """Yields the triplets.

    At the end, reports how many texts were replaced by the target's caption, and how many captions are too long
    themselves.
    """
    fallen = long = 0
    for each in written:
        yield each
        triplet, own, wanted = each
        for number, text in zip(settings.templates, triplet.captions, strict=True):
            fallen += text != _fill(number, own, wanted)
            long += count_tokens(text) > settings.max_tokens
    if fallen or long:
        print(
            f"triplets: {fallen} texts of more than {settings.max_tokens} tokens became the target's caption; {long} "
            "captions are too long themselves and will be cut where they are read",
            file=sys.stderr,
        )


def _sample(pairs: list[tuple[str, str]], size: int, seed: int) -> list[tuple[str, str]]:
    """Returns a random sample of `size` pairs, in order, or all pairs if there are no more."""
    if size >= len(pairs):
        print(f"triplets: sample {size} keeps all {len(pairs)} pairs", file=sys.stderr)
        return pairs
    return [pairs[i] for i in sorted(random.Random(seed).sample(range(len(pairs)), size))]  # noqa: S311 - no secret


def write_triplet(
    reference: str,
    target: str,
    captions: Mapping[str, str],
    settings: TripletSettings,
    count_tokens: Callable[[str], int],
) -> Written:
    """Returns the triplet of a pair by templates; the arguments are those of `write_triplets`."""
    own, wanted = captions[reference], captions[target]
    texts = modification_texts(own, wanted, settings.templates, settings.max_tokens, count_tokens)
    return Written(Triplet(reference, texts, target, generated=True), own, wanted)
