"""The history of one visitor's searches, with undo."""

from dataclasses import dataclass, field, replace

from spn4cir.search.hits import Hit
from spn4cir.serving.service import Found

# A step may contain an upload of 10 MB.
_KEPT = 12


@dataclass(frozen=True)
class Reference:
    """The query image of a search.

    Attributes:
        name: the name that the page shows.
        image: the name in the gallery, or the bytes of an upload.
        preview: the address of a thumbnail.
    """

    name: str
    image: str | bytes = field(repr=False)
    preview: str = field(repr=False)


@dataclass(frozen=True)
class PageState:
    """The state of the page after a step.

    Attributes:
        reference: the query image; None: not chosen yet.
        text: the change that was searched for; empty before a search.
        hits: the hits of the search, best first.
        warning: a warning about the text; None if there is none.
    """

    reference: Reference | None = None
    text: str = ""
    hits: tuple[Hit, ...] = ()
    warning: str | None = None

    @property
    def searched(self) -> bool:
        """Whether the step is a search; choosing a query image is another step."""
        return bool(self.text)


class PageHistory:
    """The last `_KEPT` steps; the first step of a visit is an empty page."""

    def __init__(self) -> None:
        self.steps = [PageState()]

    @property
    def current(self) -> PageState:
        """The latest step."""
        return self.steps[-1]

    def choose(self, reference: Reference) -> None:
        """Adds a step with another query image and without hits."""
        self._append(PageState(reference))

    def record(self, text: str, found: Found) -> None:
        """Adds a step with the hits of a search for the current query image."""
        self._append(replace(self.current, text=text, hits=found.hits, warning=found.warning))

    def undo(self) -> None:
        """Removes the latest step, unless it is the only one."""
        if len(self.steps) > 1:
            self.steps.pop()

    def _append(self, step: PageState) -> None:
        self.steps = [*self.steps, step][-_KEPT:]
