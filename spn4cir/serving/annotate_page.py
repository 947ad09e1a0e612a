"""The annotation page: for a reference, choose the target among candidates and write what should change."""

from dataclasses import replace
from pathlib import Path

from fastapi import Depends
from nicegui import app as framework
from nicegui import ui

from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import FEWEST
from spn4cir.serving.annotator import Annotator, Progress, Visit, skip
from spn4cir.serving.candidates import Candidates
from spn4cir.serving.elements import button, image, panel, text_element
from spn4cir.serving.framework import add_files, check_room
from spn4cir.serving.service import MAX_TEXT, SearchService, address

_TITLE = "Annotate queries"
_STYLE = Path(__file__).with_name("page.css")
_KEYS = Path(__file__).with_name("keys.js")
_RECONNECT = 30.0
_HELP = "Keys: 1 to 9 choose, Enter saves, s skips, u undoes, n and p turn the candidates, Escape leaves a field."


def add_annotate_page(service: SearchService, annotator: Annotator) -> None:
    """Adds the page at `/annotate`. Call it before `spn4cir.serving.page.add_page`."""
    room = [Depends(check_room)]

    @ui.page("/annotate", title=_TITLE, dark=None, language="en-GB", reconnect_timeout=_RECONNECT, dependencies=room)
    async def annotate_page() -> None:
        add_files(_STYLE.read_text(encoding="utf-8"), _KEYS.read_text(encoding="utf-8"))
        ui.colors(primary="#1d5fa6")
        await ui.context.client.connected()
        if not ui.context.client.has_socket_connection:
            return  # a request that was no browser's: its client was deleted
        await AnnotatePage(service, annotator).build()


class AnnotatePage:
    """The page of one tab of a browser."""

    def __init__(self, service: SearchService, annotator: Annotator) -> None:
        """Creates the page.

        Args:
            service: the gallery.
            annotator: the file and the order of the references.
        """
        self._service = service
        self._annotator = annotator
        self._client = ui.context.client
        self._store = framework.storage.tab
        self._visit: Visit = self._store.get("visit", Visit())
        self._busy = False

    async def build(self) -> None:
        """Draws the page, and opens the reference of the visit, or the first proposal."""
        self._client.on_delete(lambda: self._annotator.show(self._client.id, None))
        with ui.element("header"):
            text_element("h1", _TITLE)
            with text_element("p", "").classes("progress"):
                self._bar = ui.element("progress").props(
                    f'max={self._annotator.goal} aria-label="Progress to the goal"'
                )
                self._count = text_element("span", "")
            self._note = text_element("p", "")
            ui.link("Search page", "/")
        with ui.element("div").classes("columns annotate") as content:
            with panel("1. The reference").classes("reference-panel") as self._top:
                self._build_reference()
            with panel("2. The target").classes("target-panel"):
                self._candidates = Candidates(self._service, self._choose, self._fail)
                self._candidates.build()
            with panel("3. The change").classes("change-panel"):
                self._build_change()
        text_element("p", _HELP).classes("note keys")
        ui.skip_link("Skip to the reference", target=content)
        await self._open()

    def _build_reference(self) -> None:
        self._top.props("tabindex=-1")
        self._reference = ui.element("div").classes("large")
        with ui.element("div").classes("pager"):
            self._skip = button("Skip", self._skip_reference).props("outline aria-keyshortcuts=s")
            self._again = ui.checkbox("Also images that have a query", value=self._visit.again)
            self._again.on_value_change(lambda event: self._propose_again(bool(event.value)))

    def _build_change(self) -> None:
        self._target = ui.element("div").classes("large")
        self._text = ui.input("What should be different", value=self._visit.text)
        self._text.props["placeholder"] = "is red with long sleeves"
        self._text.props(f"outlined stack-label maxlength={MAX_TEXT} autocomplete=off data-change")
        self._text.on_value_change(lambda event: self._keep(replace(self._visit, text=event.value or "")))
        self._text.on("keydown.enter", self._save)
        with ui.element("div").classes("pager"):
            self._undo = button("Undo", self._take_back).props("outline aria-keyshortcuts=u")
            self._button = button("Save", self._save).classes("search")
        self._problem = text_element("p", "").props("role=alert").classes("problem")
        self._status = text_element("p", "").props("role=status").classes("status")

    async def _open(self) -> None:
        """Shows the visit; without a reference, the next proposal."""
        try:
            progress = await self._annotator.progress()
        except InputError as error:
            self._fail(str(error))
            return
        if self._visit.reference is None:
            self._keep(self._annotator.propose(self._visit, progress, self._client.id))
        await self._show(progress)

    async def _save(self) -> None:
        if self._busy:
            return
        if self._visit.reference is None or self._visit.target is None:
            self._fail("choose the target first: click a candidate, or press its number")
            return
        self._busy = True
        try:
            self._keep(await self._annotator.save(self._visit))
            await self._go_on()
        except InputError as error:
            self._fail(str(error))
            return
        finally:
            self._busy = False
        self._status.text = f"Saved. {self._status.text}"

    async def _skip_reference(self) -> None:
        if self._busy or self._visit.reference is None:
            return
        self._keep(skip(self._visit))
        try:
            await self._go_on()
        except InputError as error:
            self._fail(str(error))

    async def _propose_again(self, again: bool) -> None:
        """Sets whether annotated references are proposed; if none was left, the first of them is shown."""
        self._keep(replace(self._visit, again=again))
        if self._visit.reference is None:
            await self._open()

    async def _take_back(self) -> None:
        if self._busy or not self._visit.written:
            return
        self._busy = True
        try:
            visit, removed = await self._annotator.undo(self._visit)
            self._keep(visit)
            await self._show(await self._annotator.progress())
        except InputError as error:
            self._fail(str(error))
            return
        finally:
            self._busy = False
        if removed:
            self._status.text = f"Removed from the file. {self._status.text}"
        else:
            self._fail("another program changed this row of the file; nothing was removed")

    async def _go_on(self) -> None:
        """Shows the next proposal, and leaves the field of the text, so that the keys work."""
        progress = await self._annotator.progress()
        self._keep(self._annotator.propose(self._visit, progress, self._client.id))
        top = f"getHtmlElement({self._top.id})"
        ui.run_javascript(f'{top}.focus({{preventScroll: true}}); {top}.scrollIntoView({{block: "nearest"}})')
        await self._show(progress)

    def _choose(self, name: str) -> None:
        self._keep(replace(self._visit, target=name))
        self._problem.text = ""
        self._show_target()
        self._text.run_method("focus")

    def _keep(self, visit: Visit) -> None:
        """Makes a visit the current one, also after a reload."""
        self._visit = self._store["visit"] = visit

    def _fail(self, sentence: str) -> None:
        self._problem.text = sentence[0].upper() + sentence[1:] + "."

    async def _show(self, progress: Progress) -> None:
        """Shows the visit and the state of the file."""
        reference = self._visit.reference
        self._annotator.show(self._client.id, reference)
        self._problem.text = ""
        self._text.set_value(self._visit.text)
        self._undo.set_enabled(bool(self._visit.written))
        self._skip.set_enabled(reference is not None)
        self._show_progress(progress)
        self._status.text = f"The reference is {reference}." if reference else "No image is left to propose."
        self._show_image(self._reference, reference, "The reference")
        self._show_target()
        await self._candidates.show(reference)

    def _show_progress(self, progress: Progress) -> None:
        goal, split = self._annotator.goal, f" (split {progress.split})" if progress.split else ""
        self._bar.props["value"] = min(progress.queries, goal)
        self._count.text = f"{progress.queries:,} of {goal:,} queries in {self._annotator.file.path.name}{split}"
        if progress.queries < FEWEST:
            self._note.text = f"Scores of fewer than {FEWEST} queries allow no conclusion."
        elif progress.queries < goal:
            self._note.text = "More queries make the scores more precise."
        else:
            self._note.text = "The goal is reached."

    def _show_target(self) -> None:
        self._candidates.mark(self._visit.target)
        self._show_image(self._target, self._visit.target, "The target")

    @staticmethod
    def _show_image(place: ui.element, name: str | None, role: str) -> None:
        place.clear()
        with place:
            if name is None:
                ui.element("div").classes("empty")
                text_element("p", f"{role} is not chosen yet." if role == "The target" else "No image is left.")
                return
            image(address(name, large=True), f"{role}: {name}")
            text_element("p", name)
