"""Plain HTML elements that the page is made of; texts and names are never read as HTML."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


def words(tag: str, text: str) -> TextElement:
    """An element that holds a text."""
    return TextElement(tag=tag, text=text)


def button(label: str, pressed: Callable[[], Any]) -> ui.button:
    """A button in the colours of the style sheet; the framework's own would win over it."""
    return ui.button(label, on_click=lambda: pressed(), color=None).props("no-caps")


def picture(address: str, description: str) -> ui.element:
    """An image that is fetched when it comes into view."""
    image = ui.element("img").props("loading=lazy decoding=async")
    image.props.update(src=address, alt=description)
    return image


@contextmanager
def panel(title: str) -> Iterator[None]:
    """A titled part of the page, a landmark for screen readers."""
    with ui.element("section").classes("panel") as section:
        section.props["aria-label"] = title
        words("h2", title)
        yield
