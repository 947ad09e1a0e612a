"""The page of `spn4cir compare --html`: settings, scores and queries of two runs side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from spn4cir.comparison.compare import ComparedRuns
from spn4cir.comparison.lines import few_queries_remark, remark_lines
from spn4cir.comparison.query_pairs import QueryPair, measures, pair_queries
from spn4cir.comparison.settings import differing, protocol_values, run_settings
from spn4cir.errors import InputError
from spn4cir.progress import progress
from spn4cir.report.compared_queries import ComparedQuery, QueryImages, Side, fitting
from spn4cir.report.content import score_rows
from spn4cir.report.image_lookup import ImageLookup
from spn4cir.report.template import LARGEST, environment, read_part, render_page, save_page
from spn4cir.report.thumbnails import Thumbnails


class ComparePage(NamedTuple):
    """A page as text.

    Attributes:
        text: the HTML.
        shown: number of queries that it shows.
        queries: number of queries of the runs.
        notes: why images are not shown.
    """

    text: str
    shown: int
    queries: int
    notes: tuple[str, ...]


def write_compare_page(
    names: tuple[str, str], runs: Sequence[ComparedRuns], source: ImageLookup, path: Path
) -> tuple[ComparePage, int]:
    """Writes the page as one file; returns the page and its size in bytes.

    Raises InputError as `render_compare_page` does, and if the page is larger than 10 MB without any query.
    """
    page = render_compare_page(names, runs, source, LARGEST)
    if len(page.text.encode()) > LARGEST:
        raise InputError(f"{path}: the page is larger than {LARGEST / 1e6:.0f} MB; select a pair by --dataset")
    return page, save_page(page.text, path)


def render_compare_page(
    names: tuple[str, str], runs: Sequence[ComparedRuns], source: ImageLookup, largest: int
) -> ComparePage:
    """The page of at most `largest` bytes: it shows as many queries as fit, those that change most.

    Queries that are won or lost by some measure come first, then those whose target moves by the most places. Images
    that cannot be found are shown by their names.

    Args:
        names: how the two runs are called.
        runs: the runs of each data set and family.
        source: where the images come from.
        largest: the size that queries and images do not exceed.

    Raises:
        InputError: a table of queries has no texts or best candidates.
    """
    thumbnails = Thumbnails(source.params.report.thumbnail)
    found = [(each, *_images(each, source, thumbnails)) for each in runs]
    queries = sorted(
        (
            (each.title if len(runs) > 1 else "", pair, images)
            for each, images, _ in found
            for pair in pair_queries(each.a, each.b)
        ),
        key=lambda query: query[1].change,
    )
    sides = [Side(label, f"in {label}", f"{label}: {name}") for label, name in zip("AB", names, strict=True)]
    frame: dict[str, Any] = {"names": names, "total": len(queries), "filters": _filters(runs, queries)}
    frame |= {"sections": [_section(each) for each in runs], "own_style": read_part("compare.css")}
    template = environment().from_string(read_part("compare_query.html"))

    def render(query: ComparedQuery) -> str:
        return template.render(query=query, sides=sides)

    def page(articles: Sequence[str], notes: Sequence[str]) -> str:
        values = {"articles": [Markup(each) for each in articles], "notes": notes, **frame}  # noqa: S704 - escaped
        return render_page(read_part("compare.html"), read_part("compare.js"), thumbnails.css(), **values)

    room = largest - len(page([], []).encode())
    waiting = progress(queries, len(queries), "page", "query")
    articles = list(fitting(waiting, render, room))
    notes = tuple(note for _, images, reason in found for note in _notes(images, reason))
    return ComparePage(page(articles, notes), len(articles), len(queries), notes)


def _images(runs: ComparedRuns, source: ImageLookup, thumbnails: Thumbnails) -> tuple[QueryImages, str]:
    """Returns the lookup of the images of two runs, and the reason if it finds none (empty if it finds them)."""
    try:
        return QueryImages(source.of_place(runs.place), thumbnails), ""
    except InputError as error:
        return QueryImages(lambda _split, _name: None, thumbnails), f"{runs.title}: {error}"


def _notes(images: QueryImages, reason: str) -> Iterator[str]:
    if reason:
        yield f"The images are not available; their names are shown. {reason}."
    elif images.note:
        yield images.note


def _filters(
    runs: Sequence[ComparedRuns], queries: Sequence[tuple[str, QueryPair, QueryImages]]
) -> dict[str, list[str]]:
    """The values of the lists that filter queries."""
    categories = dict.fromkeys(f"{title} {pair.split}".strip() for title, pair, _ in queries)
    return {
        "categories": sorted(categories),
        "measures": list(dict.fromkeys(label for each in runs for label in measures(each.a.recipe))),
    }


def _section(runs: ComparedRuns) -> dict[str, Any]:
    """The settings and scores of two runs, as the template shows them."""
    sides = (runs.a, runs.b)
    settings = [run_settings(run) for run in sides]
    unknown = [each.unknown for each in settings if each.unknown]
    rows = {} if unknown else differing([each.values for each in settings])
    return {
        "title": runs.title,
        "settings": rows | differing([protocol_values(run) for run in sides]),
        "unknown": unknown,
        "warnings": runs.comparison.warnings,
        "scores": score_rows(runs.comparison),
        "too_few": few_queries_remark(runs.comparison),
        "remarks": list(remark_lines(runs.comparison)),
    }
