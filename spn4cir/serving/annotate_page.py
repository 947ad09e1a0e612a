"""The annotation page: for a reference, choose the target among candidates and write what should change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from fastapi import Depends
from nicegui import app as framework
from nicegui import ui
from nicegui.events import GenericEventArguments

from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import FEWEST
from spn4cir.serving.annotator import Annotator, Progress, Visit, skip
from spn4cir.serving.candidates import Candidates
from spn4cir.serving.elements import ended_by_enter, image, panel, set_text, text_element
from spn4cir.serving.framework import add_files, check_room
from spn4cir.serving.service import MAX_TEXT, SearchService, address

_TITLE = "Annotate queries"
_STYLE = Path(__file__).with_name("page.css")
_KEYS = Path(__file__).with_name("keys.js")
_RECONNECT = 30.0
# JavaScript of what keys.js sends with an action.
_SHOWN = "...shown()"
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
    """The page of one tab of a browser.

    Each action ends a step and begins the next, whose number the page then shows. The browser sends the number that it
    shows with an action, which counts only in that step: a key that is pressed again because the answer is slow does
    nothing. A click on a candidate counts in all steps with the same reference.
    """

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
        self._visit = Visit()
        self._step = self._first_step = 0
        # One of the tab, so that a page that was loaded again begins with what an action of the former page has done.
        self._lock: asyncio.Lock = self._store.setdefault("lock", asyncio.Lock())

    async def build(self) -> None:
        """Draws the page, and opens the reference of the visit, or the first proposal."""
        self._client.on_delete(lambda: self._annotator.show(self._client.id, None))
        async with self._lock:
            self._visit = self._store.get("visit", self._visit)
        if self._client.is_deleted:  # the browser has left meanwhile
            return
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
        self._top.props("tabindex=-1").props["data-step"] = self._step
        self._reference = ui.element("div").classes("large")
        with ui.element("div").classes("pager"):
            self._skip = self._action("Skip", self._skip_reference).props("outline aria-keyshortcuts=s data-leaves")
            self._again = ui.checkbox("Also images that have a query", value=self._visit.again)
            self._again.on_value_change(lambda event: self._propose_again(bool(event.value)))

    def _build_change(self) -> None:
        self._target = ui.element("div").classes("large")
        self._text = ui.input("What should be different", value=self._visit.text)
        self._text.props["placeholder"] = "is red with long sleeves"
        self._text.props(f"outlined stack-label maxlength={MAX_TEXT} autocomplete=off data-change")
        self._text.on_value_change(lambda event: self._keep(replace(self._visit, text=event.value or "")))
        ended_by_enter(self._text, lambda event: self._act(event, self._save), _SHOWN)
        with ui.element("div").classes("pager"):
            self._undo = self._action("Undo", self._take_back).props("outline aria-keyshortcuts=u")
            self._action("Save", self._save).props("data-leaves").classes("search")
        self._problem = text_element("p", "").props("role=alert").classes("problem")
        self._status = text_element("p", "").props("role=status").classes("status")

    def _action(self, label: str, action: Callable[[], Awaitable[None]]) -> ui.button:
        """A button of an action."""
        made = ui.button(label, color=None).props("no-caps")
        return made.on("click", lambda event: self._act(event, action), js_handler=f"() => emit({_SHOWN})")

    async def _open(self) -> None:
        """Shows the visit; without a reference, the next proposal."""
        try:
            progress = await self._annotator.progress()
        except InputError as error:
            self._fail(str(error))
            return
        if self._visit.reference is None:
            self._keep(self._annotator.propose(self._visit, progress, self._client.id))
        self._show(progress)

    async def _act(self, event: GenericEventArguments, action: Callable[[], Awaitable[None]]) -> None:
        """Does an action of the browser with the text that is in the field, unless its step is over.

        After an error the text is in focus again, unless a target is to be chosen by its key. Whatever happens, the
        next action can follow.
        """
        step, text = _sent(event)
        if step != self._step:
            return
        self._step += 1
        self._keep(replace(self._visit, text=text))
        try:
            async with self._lock:
                await action()
        except InputError as error:
            self._refuse(str(error))
        except Exception:
            self._refuse("this failed; the server prints why")
            raise

    async def _save(self) -> None:
        if self._visit.reference is None or self._visit.target is None:
            raise InputError("choose the target first: click a candidate, or press its number")
        written = await self._annotator.save(self._visit)
        self._keep(replace(self._visit, written=written.written, passed=written.passed))
        await self._go_on("Saved. ")

    async def _skip_reference(self) -> None:
        self._keep(skip(self._visit))
        await self._go_on()

    async def _propose_again(self, again: bool) -> None:
        """Sets whether annotated references are proposed; if none was left, the first of them is shown."""
        self._keep(replace(self._visit, again=again))
        if self._visit.reference is None:
            await self._open()

    async def _take_back(self) -> None:
        if not self._visit.written:
            return
        visit, removed = await self._annotator.undo(self._visit)
        self._keep(replace(visit, again=self._visit.again))
        progress = await self._annotator.progress()
        if removed:
            self._show(progress, "Removed from the file. ")
        else:
            self._show(progress)
            raise InputError("another program changed this row of the file; nothing was removed")

    async def _go_on(self, done: str = "") -> None:
        """Shows the next proposal; `done` is a sentence for the status."""
        progress = await self._annotator.progress()
        self._keep(self._annotator.propose(self._visit, progress, self._client.id))
        self._show(progress, done)
        if not self._top.is_deleted:
            ui.run_javascript(f'getHtmlElement({self._top.id}).scrollIntoView({{block: "nearest"}})')

    async def _choose(self, event: GenericEventArguments) -> None:
        """Makes a candidate the target. Asynchronous, as the actions are, so that the order of all is kept."""
        step, name = _sent(event)
        if not self._first_step <= step <= self._step or name not in self._service.retriever:
            return
        self._keep(replace(self._visit, target=name))
        self._problem.text = ""
        self._show_target()

    def _keep(self, visit: Visit) -> None:
        """Makes a visit the current one, also after a reload."""
        self._visit = self._store["visit"] = visit

    def _fail(self, sentence: str) -> None:
        self._problem.text = sentence[0].upper() + sentence[1:] + "."

    def _refuse(self, sentence: str) -> None:
        """Shows why an action was not done. The browser gets the next step and the focus in one message."""
        if self._top.is_deleted:
            return
        self._fail(sentence)
        with self._top.props.suspend_updates():
            self._top.props["data-step"] = self._step
        to_text = "true" if self._visit.target is not None else "false"
        ui.run_javascript(f"refused({self._step}, {to_text})")

    def _show(self, progress: Progress, done: str = "") -> None:
        """Shows the visit and the state of the file, and then the candidates.

        Args:
            progress: the state of the file.
            done: a sentence before that of the status.
        """
        if self._top.is_deleted:  # the browser has left; a reload shows the visit
            return
        reference = self._visit.reference
        self._first_step = self._step
        self._top.props["data-step"] = self._step
        self._annotator.show(self._client.id, reference)
        self._problem.text = ""
        set_text(self._text, self._visit.text)
        self._undo.set_enabled(bool(self._visit.written))
        self._skip.set_enabled(reference is not None)
        self._show_progress(progress)
        self._status.text = done + (f"The reference is {reference}." if reference else "No image is left to propose.")
        self._show_image(self._reference, reference, "The reference")
        self._show_target()
        self._candidates.show(reference)

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


def _sent(event: GenericEventArguments) -> tuple[int, str]:
    """Returns the step of an action, and its text or name; step -1 for what no page sends."""
    match event.args:
        case [int(step), str(text)]:
            return step, text
        case _:
            return -1, ""
