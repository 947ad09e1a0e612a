"""The history of one visitor's searches, with undo."""

from dataclasses import dataclass, field, replace
from weakref import WeakSet

from spn4cir.errors import InputError
from spn4cir.serving.service import Found

_KEPT = 12
# Bytes of the uploads in the steps of a visit, and in those of all open visits. An upload has at most 10 MB.
_UPLOADS, _ALL_UPLOADS = 30_000_000, 1_000_000_000


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

    @property
    def gallery_name(self) -> str | None:
        """The name in the gallery; None for an upload."""
        return self.image if isinstance(self.image, str) else None


@dataclass(frozen=True)
class PastSearch:
    """A search and its result.

    Attributes:
        reference: the query image.
        text: the change that was searched for.
        k: the number of hits that were asked for.
        found: the hits, and a warning about the text.
    """

    reference: Reference
    text: str
    k: int
    found: Found


@dataclass(frozen=True)
class PageState:
    """The state of the page after a step.

    Attributes:
        reference: the query image of the next search; None: not chosen yet.
        search: the search whose ranking is shown; None before the first search.
    """

    reference: Reference | None = None
    search: PastSearch | None = None

    @property
    def pending(self) -> bool:
        """Whether a query image was chosen after the search."""
        return self.reference is not None and (self.search is None or self.search.reference != self.reference)


class PageHistory:
    """The last `_KEPT` steps, or fewer if their uploads are large; the first step of a visit is an empty page.

    A choice of a query image that follows another choice replaces it. A search that follows a choice replaces it too,
    except for the first search: an undo of a later search returns to the search before it.
    """

    def __init__(self) -> None:
        self.steps = [PageState()]

    @property
    def current(self) -> PageState:
        """The latest step."""
        return self.steps[-1]

    @property
    def searches(self) -> list[PastSearch]:
        """The searches, oldest first."""
        return [step.search for step in self.steps if step.search and not step.pending]

    @property
    def upload_bytes(self) -> int:
        """The bytes of the uploads in the steps, each upload once."""
        references = (each for step in self.steps for each in (step.reference, step.search and step.search.reference))
        uploads = (each.image for each in references if each and isinstance(each.image, bytes))
        return sum(map(len, {id(upload): upload for upload in uploads}.values()))

    def choose(self, reference: Reference) -> None:
        """Adds a step with another query image; the ranking of the last search stays."""
        self._add(replace(self.current, reference=reference), instead=self.current.pending)

    def record(self, search: PastSearch) -> None:
        """Adds a step with a search and its ranking."""
        self._add(PageState(search.reference, search), instead=self.current.pending and self.current.search is not None)

    def undo(self) -> None:
        """Removes the latest step, unless it is the only one."""
        if len(self.steps) > 1:
            self.steps.pop()

    def _add(self, step: PageState, instead: bool) -> None:
        """Adds a step, or replaces the latest one by it. A step that changes nothing is not added."""
        kept = self.steps[:-1] if instead else self.steps
        self.steps = (kept if kept[-1] == step else [*kept, step])[-_KEPT:]
        while self.upload_bytes > _UPLOADS and len(self.steps) > 1:
            self.steps = self.steps[1:]


class Visits:
    """The open visits of a server, whose uploads share a limit of memory."""

    def __init__(self) -> None:
        self._histories: WeakSet[PageHistory] = WeakSet()

    def open(self) -> PageHistory:
        """Returns the history of a new visit, which counts until it is forgotten."""
        history = PageHistory()
        self._histories.add(history)
        return history

    def require_room(self, size: int) -> None:
        """Raises InputError if an upload of `size` bytes exceeds what the uploads of all visits may take."""
        if sum(history.upload_bytes for history in self._histories) + size > _ALL_UPLOADS:
            raise InputError("the server has no room for another upload; close pages, or try again in a minute")
