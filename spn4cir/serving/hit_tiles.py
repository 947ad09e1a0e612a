"""The part of the page that shows the ranking of a search, and an enlarged result."""

from collections.abc import Callable
from functools import partial

from nicegui import ui

from spn4cir.search.hits import Hit
from spn4cir.serving.elements import button, image, text_element
from spn4cir.serving.history import PageState, PastSearch
from spn4cir.serving.service import address


class HitTiles:
    """Tiles of the hits, best first; a click on one enlarges it."""

    def __init__(self, refine: Callable[[str], None]) -> None:
        """Creates the ranking.

        Args:
            refine: called with the name of a hit that becomes the next query image.
        """
        self._refine = refine
        self._shown: tuple[Hit, ...] = ()

    def build(self) -> None:
        """Draws the ranking into the current element."""
        self._hits = ui.element("ol").classes("hits").props('aria-label="Images found, best first"')
        with ui.dialog().on("hide", js_handler="() => dialogHidden()") as self._dialog:
            self._enlarged = ui.element("div").classes("panel enlarged")

    def show(self, hits: tuple[Hit, ...]) -> None:
        """Shows these hits; the tiles of hits that are shown already stay, so that one of them can be in focus."""
        if hits == self._shown:
            return
        self._shown = hits
        self._hits.clear()
        with self._hits:
            for rank, hit in enumerate(hits, start=1):
                with ui.element("li"):
                    self._tile(rank, hit)

    def bring_into_view(self) -> None:
        """Scrolls to the first hit if it is out of view."""
        ui.run_javascript(f'getHtmlElement({self._hits.id}).firstElementChild?.scrollIntoView({{block: "nearest"}})')

    def _tile(self, rank: int, hit: Hit) -> None:
        with ui.element("button").props("type=button").on("click", partial(self._enlarge, rank, hit)) as tile:
            image(address(hit.name), f"Rank {rank}: {hit.name}")
        tile.props["aria-label"] = f"Enlarge {hit.name}, rank {rank}"
        text_element("p", f"{rank}. {hit.name}").classes("name")
        text_element("p", _score(hit)).classes("score")
        self._refine_button(rank, hit).props("flat dense")

    def _refine_button(self, rank: int, hit: Hit) -> ui.button:
        made = button("Refine", partial(self._choose, hit.name))
        made.props("data-chooses").props["aria-label"] = f"Refine from {hit.name}, rank {rank}"
        return made

    def _choose(self, name: str) -> None:
        self._dialog.close()
        self._refine(name)

    def _enlarge(self, rank: int, hit: Hit) -> None:
        self._dialog.props["aria-label"] = f"{hit.name}, rank {rank}"
        self._enlarged.clear()
        with self._enlarged:
            text_element("h2", hit.name)
            image(address(hit.name, large=True), f"{hit.name}, enlarged")
            text_element("p", f"rank {rank}, {_score(hit)}").classes("score")
            with ui.element("div").classes("pager"):
                self._refine_button(rank, hit).props("outline")
                button("Close", self._dialog.close).props("outline autofocus")
        self._dialog.open()


def summary(step: PageState) -> str:
    """A summary of a step in a sentence, which screen readers read out."""
    if step.search is not None and not step.pending:
        return _result(step.search)
    chosen = f"{step.reference.name} is chosen." if step.reference else "No image is chosen."
    if step.search is None:
        return chosen
    return f'{chosen} The ranking is still that of "{step.search.text}" from {step.search.reference.name}.'


def _result(search: PastSearch) -> str:
    hits = search.found.hits
    if not hits:
        return "The gallery contains no other image."
    best, count = hits[0], f"{len(hits):,} image{'s' if len(hits) > 1 else ''}"
    note = f" Note: {search.found.warning}." if search.found.warning else ""
    return f'{count} for "{search.text}" from {search.reference.name}; the best is {best.name}, {best.score:.3f}.{note}'


def _score(hit: Hit) -> str:
    return f"score {hit.score:.3f}"
