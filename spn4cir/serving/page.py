"""The search page: choose an image, describe the change, see the ranking, refine, undo."""

from base64 import b64encode
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from nicegui import ui
from nicegui.events import UploadEventArguments

from spn4cir.errors import InputError
from spn4cir.serving.browse import Browser
from spn4cir.serving.elements import button, image, panel, text_element
from spn4cir.serving.history import PageHistory, PageState, Reference
from spn4cir.serving.service import MAX_HITS, MAX_TEXT, SearchService, address
from spn4cir.serving.uploads import MAX_BYTES

_TITLE = "Search by an image and a change"
_STYLE = Path(__file__).with_name("page.css")
_HITS = 12
_RECONNECT = 30.0


def add_page(app: FastAPI, service: SearchService) -> None:
    """Adds the page at `/`. Call it once in a process, as the framework of the page has one application."""

    @ui.page("/", title=_TITLE, dark=None, language="en-GB", reconnect_timeout=_RECONNECT)
    def search_page() -> None:
        ui.add_css(_STYLE)
        ui.colors(primary="#1d5fa6")
        SearchPage(service).build()

    ui.run_with(app, tailwind=False, show_welcome_message=False)


class SearchPage:
    """The page of one visitor, with the history of the visit."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        self._history = PageHistory()
        self._busy = False

    def build(self) -> None:
        """Draws the page."""
        with ui.element("header"):
            text_element("h1", _TITLE)
            count = len(self._service.retriever)
            text_element(
                "p", f"{count:,} images. Choose one, describe what should differ, and refine from the results."
            )
        with ui.element("div").classes("columns") as content:
            with panel("1. The image"):
                self._build_reference()
            with ui.element("div").classes("stack"):
                with panel("2. The change"):
                    self._build_change()
                with panel("3. The ranking"):
                    self._build_ranking()
        ui.skip_link("Skip to the search", target=content)

    def _build_reference(self) -> None:
        self._reference = ui.element("div").classes("reference")
        uploader = ui.upload(
            on_upload=self._upload,
            on_rejected=lambda: self._fail(f"only images of at most {MAX_BYTES / 1e6:.0f} MB can be uploaded"),
            max_file_size=MAX_BYTES,
            auto_upload=True,
        )
        uploader.props("accept=image/*").classes("hidden")
        self._uploader = uploader
        button("Upload an image", lambda: uploader.run_method("pickFiles")).props("outline")
        self._browser = Browser(self._service, self._choose)
        self._browser.build()
        self._show_reference(None)

    def _build_change(self) -> None:
        with ui.element("div").classes("change"):
            self._text = ui.input("What should be different", placeholder="is red with long sleeves")
            self._text.props(f"outlined maxlength={MAX_TEXT} autocomplete=off").on("keydown.enter", self._search)
            self._k = ui.number("Results", value=_HITS, min=1, max=MAX_HITS, precision=0).props("outlined")
            self._button = button("Search", self._search).classes("search")
        self._problem = text_element("p", "").props("role=alert").classes("problem")

    def _build_ranking(self) -> None:
        self._status = text_element("p", "Nothing searched yet.").props("role=status").classes("status")
        with ui.element("div").classes("trail"):
            self._undo = button("Undo", self._go_back).props("outline")
            self._steps = ui.element("ol").props('aria-label="Searches so far"')
        self._undo.disable()
        self._hits = ui.element("ol").classes("hits").props('aria-label="Images found, best first"')

    def _choose(self, name: str) -> None:
        self._history.choose(Reference(name, name, address(name)))
        self._show(f"{name} is chosen: describe what should be different.")
        self._text.run_method("focus")

    async def _upload(self, event: UploadEventArguments) -> None:
        self._uploader.reset()
        data = await event.file.read()
        try:
            small = await self._service.preview(data)
        except InputError as error:
            self._fail(str(error))
            return
        address = f"data:image/webp;base64,{b64encode(small).decode()}"
        self._history.choose(Reference(event.file.name, data, address))
        self._show(f"{event.file.name} is uploaded: describe what should be different.")
        self._text.run_method("focus")

    async def _search(self) -> None:
        reference, text = self._history.current.reference, self._text.value or ""
        if self._busy:
            return
        if reference is None:
            self._fail("choose an image first, or upload one")
            return
        self._set_busy(True)
        try:
            found = await self._service.search(reference.image, text, int(self._k.value or 0))
        except InputError as error:
            self._fail(str(error))
            return
        finally:
            self._set_busy(False)
        self._history.record(text, found)
        self._show(_summary(self._history.current))
        ui.run_javascript(f'getHtmlElement({self._hits.id}).firstElementChild?.scrollIntoView({{block: "nearest"}})')

    def _go_back(self) -> None:
        self._history.undo()
        step = self._history.current
        self._show(f"Undone. {_summary(step)}")
        self._text.set_value(step.text)

    def _set_busy(self, busy: bool) -> None:
        self._busy = busy
        self._button.props(add="loading" if busy else "", remove="" if busy else "loading")
        if busy:
            self._status.text = "Searching ..."

    def _fail(self, sentence: str) -> None:
        self._problem.text = sentence[0].upper() + sentence[1:] + "."
        self._status.text = _summary(self._history.current)

    def _show(self, status: str) -> None:
        """Shows the current step."""
        step = self._history.current
        self._status.text = status
        self._problem.text = ""
        self._undo.set_enabled(len(self._history.steps) > 1)
        self._show_reference(step.reference)
        self._show_hits(step)
        self._show_trail()

    def _show_reference(self, reference: Reference | None) -> None:
        self._browser.mark(reference.name if reference else None)
        self._reference.clear()
        with self._reference:
            if reference is None:
                text_element("p", "No image is chosen yet.")
                return
            image(reference.preview, f"The chosen image: {reference.name}")
            text_element("p", reference.name)

    def _show_hits(self, step: PageState) -> None:
        self._hits.clear()
        with self._hits:
            for rank, hit in enumerate(step.hits, start=1):
                with ui.element("li"):
                    image(address(hit.name), f"Rank {rank}: {hit.name}")
                    text_element("p", f"{rank}. {hit.name}").classes("name")
                    text_element("p", f"score {hit.score:.3f}").classes("score")
                    refine = button("Refine", partial(self._choose, hit.name)).props("flat dense")
                    refine.props["aria-label"] = f"Refine from {hit.name}, rank {rank}"

    def _show_trail(self) -> None:
        self._steps.clear()
        with self._steps:
            for step in self._history.steps:
                if step.searched and step.reference:
                    text_element("li", f"{step.reference.name}: {step.text}")


def _summary(step: PageState) -> str:
    """A summary of a step in a sentence, which screen readers read out."""
    if step.reference is None:
        return "No image is chosen."
    if not step.searched:
        return f"{step.reference.name} is chosen."
    if not step.hits:
        return "The gallery contains no other image."
    best = step.hits[0]
    note = f" Note: {step.warning}." if step.warning else ""
    found = f"{len(step.hits):,} image{'s' if len(step.hits) > 1 else ''}"
    return f'{found} for "{step.text}" from {step.reference.name}; the best is {best.name}, {best.score:.3f}.{note}'
