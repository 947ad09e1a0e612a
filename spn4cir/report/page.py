"""The page: sections and charts put into the template, with style, script and thumbnails inside."""

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from spn4cir.config.params import Report
from spn4cir.errors import InputError
from spn4cir.files import atomic_file
from spn4cir.report import content
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, Share, by_category, by_length, rank_bins
from spn4cir.report.charts import Chart, bar_chart
from spn4cir.report.curves import curve_charts
from spn4cir.report.run import RunResults
from spn4cir.report.thumbnails import Thumbnails

LARGEST = 10_000_000


def write_page(run: RunResults, settings: Report, path: Path) -> int:
    """Writes the report as one file and returns its size in bytes.

    Raises InputError when it would be larger than 10 MB, or an image cannot be decoded.
    """
    page = render(run, settings).encode()
    if len(page) > LARGEST:
        raise InputError(
            f"{path}: the page has {len(page) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; lower report.thumbnail, "
            "report.triplets or report.queries in params.yaml"
        )
    with atomic_file(path) as temporary:
        temporary.write_bytes(page)
    return len(page)


def render(run: RunResults, settings: Report) -> str:
    """The page's text; the same run and settings give the same."""
    environment = Environment(
        loader=PackageLoader("spn4cir.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    values = _values(run, settings)
    return environment.get_template("page.html").render(style=_text("style.css"), script=_text("script.js"), **values)


def _text(name: str) -> str:
    return (resources.files("spn4cir.report") / name).read_text(encoding="utf-8")


def _values(run: RunResults, settings: Report) -> dict[str, Any]:
    """What the template names; the thumbnails come last, when all of them are known."""
    thumbnails = Thumbnails(settings.thumbnail)
    duplicates, groups = content.duplicate_strips(run, settings, thumbnails)
    values = {
        "run": run,
        "outcomes": (HIT, NEAR_MISS, FAILURE),
        "splits": list(dict.fromkeys(query.split for query in run.queries)),
        "recalls": content.recall_rows(run),
        "shortcuts": content.shortcut_rows(run.metrics),
        "hard": content.hard_negatives(run.metrics),
        "settings": list(content.settings_rows(run.settings)),
        "curves": curve_charts(run.curves),
        "ranks": _rank_chart(run),
        "shares": _share_charts(run),
        "sheets": content.sheets(run, settings, thumbnails),
        "queries": content.query_rows(run, settings),
        "triplets": content.triplet_rows(run, settings, thumbnails),
        "duplicates": duplicates,
        "duplicate_groups": groups,
        "windows": content.window_strips(run, thumbnails),
    }
    return {**values, "thumbnails": thumbnails.css()}


def _rank_chart(run: RunResults) -> Chart:
    labels, before, after = rank_bins(run.queries)
    return bar_chart("Ranks of the targets", "rank", "queries", labels, {"stage 1": before, "stage 2": after})


def _share_charts(run: RunResults) -> dict[str, list[Chart]]:
    found = {"length": by_length(run.queries, run.recall_ks), "category": by_category(run.queries, run.recall_ks)}
    names = {"length": "words of the text", "category": "category"}
    return {
        kind: [_share_chart(names[kind], shares, place, k) for place, k in enumerate(run.recall_ks)]
        for kind, shares in found.items()
    }


def _share_chart(name: str, shares: list[Share], place: int, k: int) -> Chart:
    bars = {"stage 1": [share.stage1[place] for share in shares], "stage 2": [share.stage2[place] for share in shares]}
    labels, counts = [share.label for share in shares], [share.queries for share in shares]
    return bar_chart(f"R@{k} by {name}", name, "percent", labels, bars, counts)


def _percent(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.2f}" if sign else f"{value:.2f}"
