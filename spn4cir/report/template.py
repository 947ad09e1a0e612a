"""Templates and style of all pages, and writing a page as one self-contained file."""

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from spn4cir.files import atomic_file

LARGEST = 10_000_000
_SHARED = ("base.html", "macros.html")
_STYLE = "style.css"


def render_page(template: str, script: str, thumbnails: str, **values: Any) -> str:
    """The text of a page.

    Args:
        template: the content of a template that extends `base.html`.
        script: the content of the page's script.
        thumbnails: the style rules of the thumbnails.
        values: the values that the template names.
    """
    page = environment().from_string(template)
    return page.render(style=read_part(_STYLE), script=script, thumbnails=thumbnails, **values)


def environment() -> Environment:
    """The environment of the templates: values are escaped, and a name without a value is an error."""
    found = Environment(
        loader=DictLoader({name: read_part(name) for name in _SHARED}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": _percent, "sentence": _sentence, "breakable": _breakable}
    return found


def read_part(name: str) -> str:
    """The content of a file of this package."""
    return (resources.files("spn4cir.report") / name).read_text(encoding="utf-8")


def save_page(page: str, path: Path) -> int:
    """Writes a page and returns its size in bytes."""
    content = page.encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def _percent(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "-"
    value = round(value, 2) + 0.0  # never -0.00
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _breakable(key: str) -> Markup:
    """The key of a setting, in which lines may break after dots."""
    return Markup(".<wbr>").join(escape(part) for part in key.split("."))
