"""Charts as SVG with the colours and the font of the page that contains them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Placeholders for colours of the page: `_inline` replaces them by CSS variables.
_INK, _LINE, *_SERIES = "#12340a", "#12340b", "#12340c", "#12340d"
_VARIABLES = {_INK: "var(--ink)", _LINE: "var(--line)", _SERIES[0]: "var(--first)", _SERIES[1]: "var(--second)"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_DASHES = ("-", "--")
# Number of labels that fit side by side; more are rotated.
_LEVEL = 5
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Chart:
    """A chart and a table of its values.

    Attributes:
        title: title of the chart.
        svg: SVG element of the chart.
        head: column names of the table.
        rows: rows of the table.
    """

    title: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def line_chart(
    title: str, x: str, y: str, lines: Mapping[str, Sequence[tuple[float, float]]], table: bool = True
) -> Chart:
    """Draws at most two lines of (x, y) points, by name; `table=False` leaves out the table, for many points."""

    def draw(axes: Axes) -> None:
        for (name, points), colour, dashes in zip(lines.items(), _SERIES, _DASHES, strict=False):
            marker = "o" if len(points) < 40 else ""
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, marker=marker, label=name)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        axes.set(xlabel=x, ylabel=y)

    steps = sorted({step for points in lines.values() for step, _ in points})
    found = {name: dict(points) for name, points in lines.items()}
    rows = [(f"{step:g}", *(_number(found[name].get(step)) for name in lines)) for step in steps] if table else []
    return Chart(title, _draw(title, draw, len(lines) > 1), (x, *lines), tuple(rows))


def bar_chart(title: str, x: str, y: str, labels: Sequence[str], bars: Mapping[str, Sequence[float]]) -> Chart:
    """Draws at most two bars side by side at each label, by name."""

    def draw(axes: Axes) -> None:
        width = 0.8 / len(bars)
        for number, ((name, heights), colour) in enumerate(zip(bars.items(), _SERIES, strict=False)):
            places = [place - 0.4 + (number + 0.5) * width for place in range(len(labels))]
            axes.bar(places, heights, width * 0.92, color=colour, label=name)
        rotated: dict[str, Any] = (
            {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(labels) > _LEVEL else {}
        )
        axes.set_xticks(range(len(labels)), labels, **rotated)
        axes.grid(visible=False, axis="x")
        axes.set(xlabel=x, ylabel=y)

    columns = [[_number(value) for value in heights] for heights in bars.values()]
    rows = tuple(zip(labels, *columns, strict=True))
    return Chart(title, _draw(title, draw, len(bars) > 1), (x, *bars), rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _draw(title: str, draw: Callable[[Axes], None], legend: bool) -> str:
    """Returns the SVG of a figure that `draw` fills; equal values give equal bytes."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        if legend:
            figure.legend(loc="outside upper right", ncols=2)
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    return _inline(stream.getvalue(), title)


def _inline(svg: str, title: str) -> str:
    """Returns the SVG element with the page's width and colours; removes unused ids, which could repeat in a page."""
    svg = svg[svg.index("<svg") :]
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"<svg [^>]*>", lambda found: re.sub(r' (width|height)="[^"]*"', "", found[0]), svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg ", f'<svg role="img" aria-label="chart: {escape(title)}" ', 1)
