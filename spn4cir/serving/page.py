"""The search page: choose an image, describe the change, see the ranking, refine, undo."""

import json
from base64 import b64encode
from pathlib import Path

from fastapi import Depends, FastAPI
from nicegui import ui
from nicegui.events import UploadEventArguments

from spn4cir.errors import InputError
from spn4cir.serving.browse import Browser
from spn4cir.serving.elements import button, ended_by_enter, image, panel, set_text, text_element
from spn4cir.serving.framework import add_files, check_room, prepare_framework
from spn4cir.serving.history import PastSearch, Reference, Visits
from spn4cir.serving.hit_tiles import HitTiles, summary
from spn4cir.serving.page_address import SharedSearch, query_string, read_search
from spn4cir.serving.service import MAX_HITS, MAX_TEXT, SearchService, address
from spn4cir.serving.uploads import MAX_BYTES

_TITLE = "Search by an image and a change"
_STYLE = Path(__file__).with_name("page.css")
_FOCUS = Path(__file__).with_name("focus.js")
_RECONNECT = 30.0


def add_page(app: FastAPI, service: SearchService, annotated: bool = False) -> None:
    """Adds the page at `/`. Call it once in a process, as the framework of the page has one application.

    Args:
        app: the application of the endpoint.
        service: the gallery.
        annotated: whether there is an annotation page, to which the page then has a link.
    """
    room, visits = [Depends(check_room)], Visits()

    @ui.page("/", title=_TITLE, dark=None, language="en-GB", reconnect_timeout=_RECONNECT, dependencies=room)
    def search_page(reference: str = "", text: str = "", k: str = "") -> None:
        add_files(_STYLE.read_text(encoding="utf-8"), _FOCUS.read_text(encoding="utf-8"))
        ui.colors(primary="#1d5fa6")
        SearchPage(service, visits, read_search(reference, text, k)).build(annotated)

    prepare_framework()
    ui.run_with(app, tailwind=False, show_welcome_message=False)


class SearchPage:
    """The page of one visitor, with the history of the visit."""

    def __init__(self, service: SearchService, visits: Visits, shared: SharedSearch) -> None:
        """Creates the page.

        Args:
            service: the gallery.
            visits: the open visits of the server.
            shared: the search that the address contains; it is repeated as soon as the page is open.
        """
        self._service = service
        self._shared = shared
        self._visits = visits
        self._history = visits.open()
        self._busy = self._wanted = False
        self._undone = 0

    def build(self, annotated: bool) -> None:
        """Draws the page, with a link to the annotation page if there is one."""
        with ui.element("header"):
            text_element("h1", _TITLE)
            family, count = self._service.retriever.family, len(self._service.retriever)
            text_element("p", f"{count:,} images, network {family} from {self._service.weights}.")
            text_element("p", "Choose an image, describe what should differ, and refine from the results.")
            if annotated:
                ui.link("Annotation page", "/annotate")
        with ui.element("div").classes("columns") as content:
            with panel("1. The image"):
                self._build_gallery()
            with ui.element("div").classes("stack"):
                with panel("2. The change").classes("sticky"):
                    self._build_change()
                with panel("3. The ranking"):
                    self._build_ranking()
        ui.skip_link("Skip to the search", target=content)
        self._open_shared()

    def _build_gallery(self) -> None:
        uploader = ui.upload(
            on_upload=self._upload,
            on_rejected=lambda: self._fail(f"only images of at most {MAX_BYTES / 1e6:.0f} MB can be uploaded"),
            max_file_size=MAX_BYTES,
            auto_upload=True,
        )
        uploader.props("accept=image/*").classes("hidden")
        uploader.on("failed", self._upload_failed, args=[])
        self._uploader = uploader
        button("Upload an image", lambda: uploader.run_method("pickFiles")).props("outline")
        note = "The address of this page contains the search and can be shared. An uploaded image is not part of it."
        text_element("p", note).classes("note")
        self._browser = Browser(self._service, self._choose)
        self._browser.build()

    def _build_change(self) -> None:
        with ui.element("div").classes("change"):
            self._reference = ui.element("div").classes("reference")
            self._text = ui.input("What should be different", value=self._shared.text)
            self._text.props["placeholder"] = "is red with long sleeves"
            self._text.props(f"outlined stack-label maxlength={MAX_TEXT} autocomplete=off data-change")
            ended_by_enter(self._text, self._search)
            self._button = button("Search", self._search).classes("search")
        self._problem = text_element("p", "").props("role=alert").classes("problem")
        self._show_reference(None)

    def _build_ranking(self) -> None:
        self._status = text_element("p", "Nothing searched yet.").props("role=status").classes("status")
        with ui.element("div").classes("trail"):
            self._undo = button("Undo", self._go_back).props("outline")
            self._steps = ui.element("ol").props('aria-label="Searches so far"')
            self._k = ui.number("Results", value=self._shared.k, min=1, max=MAX_HITS, precision=0)
            self._k.props("outlined dense").on("keydown.enter", self._search)
        self._undo.disable()
        self._ranking = HitTiles(self._choose)
        self._ranking.build()

    def _open_shared(self) -> None:
        """Chooses the image that the address names, and searches when the browser is connected."""
        name = self._shared.reference
        if not name:
            return
        if name not in self._service.retriever:
            self._fail(f"the gallery contains no image called {name!r}; choose another image")
            return
        self._history.choose(Reference(name, name, address(name)))
        self._show(summary(self._history.current))
        if self._shared.text:
            ui.timer(0, self._search, once=True)

    def _choose(self, name: str) -> None:
        self._take(Reference(name, name, address(name)))

    async def _upload(self, event: UploadEventArguments) -> None:
        self._uploader.reset()
        data = await event.file.read()
        try:
            self._visits.require_room(len(data))
            small = await self._service.preview(data)
        except InputError as error:
            self._fail(str(error))
            return
        preview = f"data:image/webp;base64,{b64encode(small).decode()}"
        self._take(Reference(event.file.name, data, preview))
        ui.run_javascript("uploadShown()")

    def _upload_failed(self) -> None:
        self._uploader.reset()
        self._fail("the upload did not arrive; try again")

    def _take(self, reference: Reference) -> None:
        """Makes an image the next query image; focus.js has selected the text."""
        self._history.choose(reference)
        self._show(f"{summary(self._history.current)} Describe what should be different.")
        self._store_address()

    async def _search(self) -> None:
        """Searches. A search that is asked for while another one runs follows it, once."""
        self._wanted = True
        while self._wanted and not self._busy:
            self._wanted = False
            await self._search_once()

    async def _search_once(self) -> None:
        """Shows the result of a search, unless it is undone meanwhile; a newer query image stays the chosen one."""
        reference, text, k = self._history.current.reference, self._text.value or "", int(self._k.value or 0)
        undone = self._undone
        if reference is None:
            self._fail("choose an image first, or upload one")
            return
        self._set_busy(True)
        try:
            found = await self._service.search(reference.image, text, k)
        except InputError as error:
            self._fail(str(error))
            return
        finally:
            self._set_busy(False)
        if undone != self._undone:
            return
        newer = self._history.current.reference
        self._history.record(PastSearch(reference, text, k, found))
        if newer is not None and newer != reference:
            self._history.choose(newer)
        self._show(summary(self._history.current))
        self._store_address()
        self._ranking.bring_into_view()

    def _go_back(self) -> None:
        """Undoes the search that runs, or else the latest step."""
        self._wanted = False
        if self._busy:
            self._undone += 1
            self._show(f"Undone. {summary(self._history.current)}")
            return
        self._history.undo()
        step = self._history.current
        self._show(f"Undone. {summary(step)}")
        if step.search:
            set_text(self._text, step.search.text)
        self._store_address()

    def _set_busy(self, busy: bool) -> None:
        self._busy = busy
        self._button.props(add="loading" if busy else "", remove="" if busy else "loading")
        if busy:
            self._status.text = "Searching ..."

    def _fail(self, sentence: str) -> None:
        self._problem.text = sentence[0].upper() + sentence[1:] + "."
        self._status.text = summary(self._history.current)

    def _store_address(self) -> None:
        """Writes the current step into the address; the browser's own history gets no entry."""
        fields = json.dumps(query_string(self._history.current))
        ui.run_javascript(f'history.replaceState({{}}, "", location.pathname + {fields})')

    def _show(self, status: str) -> None:
        """Shows the current step."""
        step = self._history.current
        self._status.text = status
        self._problem.text = ""
        self._undo.set_enabled(len(self._history.steps) > 1 or self._busy)
        self._show_reference(step.reference)
        self._ranking.show(step.search.found.hits if step.search else ())
        self._show_trail()

    def _show_reference(self, reference: Reference | None) -> None:
        self._browser.mark(reference.gallery_name if reference else None)
        self._reference.clear()
        with self._reference:
            if reference is None:
                ui.element("div").classes("empty")
                text_element("p", "No image is chosen yet.")
                return
            image(reference.preview, f"The chosen image: {reference.name}")
            text_element("p", reference.name)

    def _show_trail(self) -> None:
        self._steps.clear()
        with self._steps:
            for search in self._history.searches:
                text_element("li", f"{search.reference.name}: {search.text}")
