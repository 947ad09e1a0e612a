"""Renders the report's page: the template with its sections, charts, style, script and thumbnails."""

from pathlib import Path
from typing import Any

from spn4cir.config.params import Report
from spn4cir.errors import InputError
from spn4cir.report import content
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, Share, by_category, by_length, rank_bins
from spn4cir.report.charts import Chart, bar_chart
from spn4cir.report.curves import curve_charts
from spn4cir.report.run import RunResults
from spn4cir.report.template import LARGEST, read_part, render_page, save_page
from spn4cir.report.thumbnails import Thumbnails


def write_page(run: RunResults, settings: Report, path: Path) -> int:
    """Writes the report as one file and returns its size in bytes.

    Raises InputError if the file would be larger than 10 MB, or if an image cannot be decoded.
    """
    page = render(run, settings)
    size = len(page.encode())
    if size > LARGEST:
        raise InputError(
            f"{path}: the page has {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; lower report.thumbnail, "
            "report.triplets or report.queries in params.yaml"
        )
    return save_page(page, path)


def render(run: RunResults, settings: Report) -> str:
    """Returns the page's text, which depends only on the run and the settings."""
    return render_page(read_part("page.html"), read_part("script.js"), **_values(run, settings))


def _values(run: RunResults, settings: Report) -> dict[str, Any]:
    """Returns the values of the template; thumbnails are added last, when all of them are known."""
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
