"""The state of the page in its address, so that a search can be reloaded and shared."""

from dataclasses import dataclass
from urllib.parse import urlencode

from spn4cir.serving.history import PageState

DEFAULT_HITS = 12


@dataclass(frozen=True)
class SharedSearch:
    """The search that an address contains.

    Attributes:
        reference: a name of the gallery; empty: none.
        text: the change to search for; empty: none.
        k: the number of hits; 0, which no search accepts, if the address contains no number.
    """

    reference: str = ""
    text: str = ""
    k: int = DEFAULT_HITS


def read_search(reference: str, text: str, k: str) -> SharedSearch:
    """Reads the fields of an address; an absent one is empty."""
    number = int(k) if k.isascii() and k.isdigit() and len(k) < 9 else 0
    return SharedSearch(reference, text, number if k else DEFAULT_HITS)


def query_string(step: PageState) -> str:
    """The part of the address that contains a step: `?` and its fields, or nothing.

    A ranking is described by its search, also if another query image is chosen already. An upload has no name in the
    gallery and is left out.
    """
    if step.search is None:
        fields = {"reference": step.reference.gallery_name if step.reference else None}
    else:
        k = step.search.k
        fields = {
            "reference": step.search.reference.gallery_name,
            "text": step.search.text,
            "k": None if k == DEFAULT_HITS else str(k),
        }
    given = {name: value for name, value in fields.items() if value}
    return f"?{urlencode(given)}" if given else ""
