"""Plain HTML elements of the page; texts and names are never interpreted as HTML."""

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


def text_element(tag: str, text: str) -> TextElement:
    """An element with a text."""
    return TextElement(tag=tag, text=text)


def button(label: str, pressed: Callable[[], Any]) -> ui.button:
    """A button in the colours of the style sheet, which the framework's colours would override."""
    return ui.button(label, on_click=lambda: pressed(), color=None).props("no-caps")


def image(address: str, description: str) -> ui.element:
    """An image that the browser fetches when it comes into view."""
    element = ui.element("img").props("loading=lazy decoding=async")
    element.props.update(src=address, alt=description)
    return element


def panel(title: str) -> ui.element:
    """A titled part of the page, a landmark for screen readers; enter it to fill it."""
    with ui.element("section").classes("panel") as section:
        section.props["aria-label"] = title
        text_element("h2", title)
    return section
