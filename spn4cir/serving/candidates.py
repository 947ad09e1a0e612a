"""The part of the annotation page that shows candidates for the target, nine at a time."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from spn4cir.errors import InputError
from spn4cir.search.hits import Hit
from spn4cir.serving.elements import button, ended_by_enter, image, set_text, text_element
from spn4cir.serving.service import MAX_HITS, MAX_TEXT, SearchService, address

# One for each of the keys 1 to 9.
_PER_PAGE = 9


class Candidates:
    """Tiles of the images nearest to the reference, or to the reference with a change."""

    def __init__(
        self,
        service: SearchService,
        choose: Callable[[GenericEventArguments], Awaitable[None]],
        fail: Callable[[str], None],
    ) -> None:
        """Creates the candidates.

        Args:
            service: the gallery.
            choose: called when a candidate is clicked, with the step that the browser shows and the candidate's name.
            fail: called with a sentence if the candidates cannot be found.
        """
        self._service = service
        self._choose = choose
        self._fail = fail
        self._reference: str | None = None
        self._first = 0
        self._searched = ""
        self._chosen: str | None = None
        self._tiles: dict[str, ui.element] = {}

    def build(self) -> None:
        """Draws the candidates into the current element."""
        self._text = ui.input("Search candidates by a change", on_change=self._cleared)
        self._text.props["placeholder"] = "is red with long sleeves"
        self._text.props(f"outlined dense stack-label clearable maxlength={MAX_TEXT} autocomplete=off type=search")
        ended_by_enter(self._text, self._search)
        with ui.element("div").classes("pager"):
            self._back = self._pager_button("Previous", "p", -_PER_PAGE)
            self._position = text_element("p", "").props("role=status")
            self._next = self._pager_button("Next", "n", _PER_PAGE)
        self._list = ui.element("ol").classes("tiles candidates").props('aria-label="Candidates, nearest first"')
        # Not events of the tiles: they would be lost if the server has replaced the tile that the browser shows.
        clicked = "const tile = event.target.closest('[data-name]'); if (tile) emit(shown()[0], tile.dataset.name)"
        self._list.on("click", self._choose, js_handler=f"(event) => {{ {clicked} }}")

    def show(self, reference: str | None) -> None:
        """Shows the neighbours of a reference, when they are found; none for None."""
        self._reference, self._first, self._searched = reference, 0, ""
        set_text(self._text, "")
        self._draw((), more=False)
        background_tasks.create(self._load(), name="candidates")

    def mark(self, name: str | None) -> None:
        """Marks the tile of a name as chosen, and no other tile."""
        self._chosen = name
        for each, tile in self._tiles.items():
            tile.props["aria-pressed"] = "true" if each == name else "false"

    def _pager_button(self, label: str, key: str, by: int) -> ui.button:
        made = button(label, partial(self._turn, by)).props("outline")
        made.props["aria-keyshortcuts"] = key
        return made

    async def _turn(self, by: int) -> None:
        last = (min(len(self._service.retriever) - 1, MAX_HITS) - 1) // _PER_PAGE * _PER_PAGE
        self._first = max(0, min(self._first + by, last))
        await self._load()

    async def _search(self) -> None:
        self._first, self._searched = 0, (self._text.value or "").strip()
        await self._load()

    async def _cleared(self) -> None:
        """Shows the neighbours again when the text was removed."""
        if self._searched and not self._text.value:
            await self._search()

    async def _load(self) -> None:
        asked = reference, first, text = self._reference, self._first, self._searched
        if reference is None:
            return
        self._position.text = "Searching ..."
        try:
            found = await self._service.search(reference, text or None, self._reach(first))
        except InputError as error:
            if not self._list.is_deleted:
                self._draw((), more=False)
                self._fail(str(error))
            return
        if not self._list.is_deleted and asked == (self._reference, self._first, self._searched):
            self._draw(found.hits[first : first + _PER_PAGE], more=len(found.hits) > first + _PER_PAGE)

    @staticmethod
    def _reach(first: int) -> int:
        """The number of hits to ask for: those of the page, and one that shows whether there is another page."""
        return min(first + _PER_PAGE + 1, MAX_HITS)

    def _draw(self, hits: tuple[Hit, ...], more: bool) -> None:
        last = self._first + len(hits)
        self._position.text = f"{self._first + 1} to {last}" if hits else "no candidates"
        self._back.set_enabled(self._first > 0)
        self._next.set_enabled(more)
        self._list.clear()
        self._tiles = {}
        with self._list:
            for key, hit in enumerate(hits, start=1):
                with ui.element("li"):
                    self._tiles[hit.name] = self._tile(key, hit.name)
        self.mark(self._chosen)

    def _tile(self, key: int, name: str) -> ui.element:
        with ui.element("button").props("type=button") as tile:
            image(address(name), "")
            text_element("kbd", str(key)).props("aria-hidden=true")
            text_element("span", name)
        tile.props["data-name"] = name
        tile.props["aria-keyshortcuts"] = str(key)
        tile.props["aria-label"] = f"Target {key}: {name}"
        return tile
