"""Renders the report's page: the template with its sections, charts, style, script and thumbnails."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spn4cir.comparison.lines import few_queries_remark, remark_lines
from spn4cir.config.params import Report
from spn4cir.errors import InputError
from spn4cir.evaluation.sample_size import FEWEST
from spn4cir.report import content
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, Share, by_category, by_group, by_length, rank_bins
from spn4cir.report.charts import Chart, bar_chart
from spn4cir.report.compared_queries import QueryImages, Side
from spn4cir.report.curves import curve_charts
from spn4cir.report.main_settings import facts, training_rows
from spn4cir.report.query_rows import QueryRows
from spn4cir.report.run import RunResults
from spn4cir.report.template import LARGEST, read_part, render_page, save_page
from spn4cir.report.thumbnails import Thumbnails

_SIDES = (Side("stage 1", "after stage 1", "Stage 1"), Side("stage 2", "after stage 2", "Stage 2"))


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


def render(run: RunResults, settings: Report, largest: int = LARGEST) -> str:
    """Returns the page's text, which depends only on the run and the settings.

    Rows of the table of queries get images as long as the page is not larger than `largest` bytes.
    """
    thumbnails = Thumbnails(settings.thumbnail)
    images = QueryImages(run.images, thumbnails)
    values = _values(run, settings, thumbnails, images)
    rows = QueryRows(run, settings, _SIDES)

    def page() -> str:
        template, script = read_part("page.html"), read_part("script.js")
        return render_page(template, script, thumbnails.css(), rows=rows, **values)

    rows.add_images(images, largest - len(page().encode()))
    return page()


def _values(run: RunResults, settings: Report, thumbnails: Thumbnails, images: QueryImages) -> dict[str, Any]:
    """Returns the values of the template."""
    duplicates, groups = content.duplicate_strips(run, settings, thumbnails)
    return {
        "run": run,
        "facts": facts(run),
        "training": training_rows(run.settings),
        "sides": _SIDES,
        "few": FEWEST,
        "outcomes": (HIT, NEAR_MISS, FAILURE),
        "splits": list(dict.fromkeys(query.split for query in run.queries)),
        "recalls": content.recall_rows(run),
        "too_few": few_queries_remark(run.stages.comparison),
        "remarks": list(remark_lines(run.stages.comparison)),
        "adjusted": {name: content.score_rows(comparison) for name, comparison in run.adjusted.items()},
        "baselines": content.baseline_columns(run),
        "baseline_notes": content.baseline_notes(run),
        "shortcuts": content.shortcut_rows(run.metrics),
        "hard": content.hard_negatives(run.metrics),
        "settings": list(content.settings_rows(run.settings)),
        "curves": curve_charts(run.curves),
        "ranks": _rank_chart(run),
        "shares": _shares(run),
        "sheets": content.sheets(run, settings, images),
        "triplets": content.triplet_rows(run, settings, thumbnails),
        "removed": content.removed_triplets(run, settings, thumbnails),
        "duplicates": duplicates,
        "duplicate_groups": groups,
        "windows": content.window_strips(run, thumbnails),
    }


def _rank_chart(run: RunResults) -> Chart:
    labels, before, after = rank_bins(run.queries)
    return bar_chart("Ranks of the targets", "rank", "queries", labels, {"stage 1": before, "stage 2": after})


def _shares(run: RunResults) -> dict[str, tuple[list[Share], list[Chart]]]:
    """Returns tables and charts of recall by what the text speaks of, by its length and by category."""
    ways = {"What the text speaks of": by_group, "Length in words": by_length, "Category": by_category}
    tables = {name: way(run.queries, run.recall_ks) for name, way in ways.items()}
    return {name: (shares, _share_charts(name, shares, run.recall_ks)) for name, shares in tables.items()}


def _share_charts(name: str, shares: list[Share], ks: Sequence[int]) -> list[Chart]:
    """Returns charts of the groups that are large enough; the page shows the values of all k in one table."""
    large = [share for share in shares if not share.few]
    labels = [share.label for share in large]
    charts = [
        bar_chart(
            f"R@{k} by {name.lower()}",
            "",
            "percent",
            labels,
            {f"stage {number}": [share.gains[place][number - 1] for share in large] for number in (1, 2)},
        )
        for place, k in enumerate(ks)
        if large
    ]
    return [replace(chart, rows=()) for chart in charts]
