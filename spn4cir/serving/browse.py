"""The part of the page that shows the gallery, 24 images at a time."""

from collections.abc import Callable
from functools import partial

from nicegui import ui

from spn4cir.serving.elements import button, image, text_element
from spn4cir.serving.service import SearchService, address

_PER_PAGE = 24


class Browser:
    """Tiles of the images in the gallery, with a filter by name, paging, and a mark on the chosen image."""

    def __init__(self, service: SearchService, choose: Callable[[str], None]) -> None:
        """Creates the browser.

        Args:
            service: the gallery.
            choose: called with the name of an image when it is clicked.
        """
        self._service = service
        self._choose = choose
        self._names = service.names()
        self._first = 0
        self._chosen: str | None = None
        self._items: dict[str, ui.element] = {}
        self._tiles: dict[str, ui.element] = {}

    def build(self) -> None:
        """Draws the browser into the current element."""
        box = ui.input("Filter by name", on_change=lambda event: self._filter(event.value or ""))
        box.props("outlined dense clearable debounce=250 type=search")
        with ui.element("div").classes("pager"):
            self._back = button("Previous", lambda: self._turn(-_PER_PAGE)).props("outline")
            self._position = text_element("p", "").props("role=status")
            self._next = button("Next", lambda: self._turn(_PER_PAGE)).props("outline")
        self._list = ui.element("ul").classes("tiles").props('aria-label="Images of the gallery"')
        self._draw()

    def mark(self, name: str | None) -> None:
        """Marks the tile of a name as chosen, and no other tile."""
        self._chosen = name
        for each, tile in self._tiles.items():
            tile.props["aria-pressed"] = "true" if each == name else "false"

    def _filter(self, part: str) -> None:
        self._names, self._first = self._service.names(part), 0
        self._draw()

    def _turn(self, by: int) -> None:
        self._first = max(0, self._first + by)
        self._draw()

    def _draw(self) -> None:
        shown = self._names[self._first : self._first + _PER_PAGE]
        last = self._first + len(shown)
        position = f"{self._first + 1:,} to {last:,} of {len(self._names):,}"
        self._position.text = position if shown else "no name contains this text"
        self._back.set_enabled(self._first > 0)
        self._next.set_enabled(last < len(self._names))
        # Tiles that remain are kept: a new one would lose the focus, or a click that is under way.
        for name in self._items.keys() - set(shown):
            self._items.pop(name).delete()
            del self._tiles[name]
        for place, name in enumerate(shown):
            if name not in self._items:
                with self._list, ui.element("li") as self._items[name]:
                    self._tiles[name] = self._tile(name)
            self._items[name].move(target_index=place)
        self.mark(self._chosen)

    def _tile(self, name: str) -> ui.element:
        with ui.element("button").props("type=button data-chooses").on("click", partial(self._choose, name)) as tile:
            image(address(name), "")
            text_element("span", name)
        return tile
