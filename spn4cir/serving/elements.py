"""Plain HTML elements of the page; texts and names are never interpreted as HTML."""

import json
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


def set_text(field: ui.input, text: str) -> None:
    """Sets the text of a field, also if letters that were typed before are still on their way to the server.

    These replace the text that the framework sends, so it is also sent in a message of its own, after which the browser
    reports it.
    """
    field.set_value(text)
    element, value = f"getElement({field.id})", json.dumps(text)
    ui.run_javascript(f'{element}.inputValue = {value}; {element}.$emit("update:value", {value})')


def ended_by_enter(field: ui.input, pressed: Callable[..., Any], sent: str = "") -> None:
    """Calls a function when Enter is pressed in a field, but not when this ends the composition of a character.

    Safari has ended the composition already, and says it by the code 229.

    Args:
        field: the field.
        pressed: the function.
        sent: JavaScript of the arguments that the event has.
    """
    composing = "event.isComposing || event.keyCode === 229"
    field.on("keydown.enter", pressed, js_handler=f"(event) => {composing} || emit({sent})")


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
