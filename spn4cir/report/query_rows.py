"""The table of queries: rows that open to the best candidates of both stages, with images where they fit."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from spn4cir.comparison.query_pairs import QueryPair
from spn4cir.config.params import Report
from spn4cir.progress import progress
from spn4cir.report.breakdown import outcome, spread_out
from spn4cir.report.compared_queries import ComparedQuery, QueryImages, Side, fitting
from spn4cir.report.run import RunResults
from spn4cir.report.template import environment, read_part
from spn4cir.report.thumbnails import Thumbnails


class QueryRows:
    """Evenly spaced queries as HTML; they show names until `add_images` adds their images.

    Args:
        run: the results.
        settings: number of rows.
        sides: the names of the stages.

    Attributes:
        queries: the queries of the rows.
        with_images: number of rows with images.
        note: how many images of queries cannot be shown; empty if none.
    """

    def __init__(self, run: RunResults, settings: Report, sides: Sequence[Side]) -> None:
        self.queries = spread_out(run.queries, settings.queries)
        self.with_images = 0
        self.note = ""
        self._ks = run.recall_ks
        self._sides = sides
        self._template = environment().from_string(read_part("report_query.html"))
        self._number = {_key(query): number for number, query in enumerate(self.queries)}
        names = QueryImages(lambda _split, _name: None, Thumbnails(settings.thumbnail))
        self._rows = [self._render(names.compared("", query)) for query in self.queries]

    @property
    def html(self) -> Markup:
        """The rows, in the order of the queries."""
        return Markup("\n".join(self._rows))  # noqa: S704 - escaped

    def add_images(self, images: QueryImages, room: int) -> None:
        """Adds images to as many rows as fit into `room` bytes, to those first that change most from stage 1 to 2."""
        order = sorted(self.queries, key=lambda query: query.change)
        waiting = (("", query, images) for query in order)
        found = progress(fitting(waiting, self._render, room), len(order), "report", "query")
        for query, row in zip(order, found, strict=False):
            self._rows[self._number[_key(query)]] = row
            self.with_images += 1
        self.note = images.note

    def _render(self, query: ComparedQuery) -> str:
        number = self._number[_key(query.pair)]
        kind = outcome(query.pair, self._ks)
        return self._template.render(query=query, sides=self._sides, number=number, outcome=kind)


def _key(query: QueryPair) -> tuple[Any, ...]:
    return query.split, query.query, query.reference, query.target
