"""The steps of one visitor's search, each of which can be undone."""

from dataclasses import dataclass, field, replace

from spn4cir.search.hits import Hit
from spn4cir.serving.service import Found

# A step may hold an upload of 10 MB.
_KEPT = 12


@dataclass(frozen=True)
class Reference:
    """The picture that a search starts from.

    Attributes:
        name: as it is shown.
        picture: its name in the gallery, or the bytes of an upload.
        preview: the address of a small picture of it.
    """

    name: str
    picture: str | bytes = field(repr=False)
    preview: str = field(repr=False)


@dataclass(frozen=True)
class PageState:
    """What the page shows: the picture, the change, and what was found for them, if it was asked already."""

    reference: Reference | None = None
    text: str = ""
    hits: tuple[Hit, ...] = ()
    warning: str | None = None

    @property
    def searched(self) -> bool:
        """Whether the step is a search; choosing a picture is one of its own."""
        return bool(self.text)


class PageHistory:
    """The steps so far, the first an empty page; the oldest are forgotten."""

    def __init__(self) -> None:
        self.steps = [PageState()]

    @property
    def current(self) -> PageState:
        """The latest step."""
        return self.steps[-1]

    def choose(self, reference: Reference) -> None:
        """Another picture to start from; what was found for the one before is put aside."""
        self._append(PageState(reference))

    def record(self, text: str, found: Found) -> None:
        """A search from the current picture."""
        self._append(replace(self.current, text=text, hits=found.hits, warning=found.warning))

    def undo(self) -> None:
        """Back to the step before; nothing happens at the first."""
        if len(self.steps) > 1:
            self.steps.pop()

    def _append(self, step: PageState) -> None:
        self.steps = [*self.steps, step][-_KEPT:]
