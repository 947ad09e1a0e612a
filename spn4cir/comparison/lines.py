"""The output of `spn4cir compare`: printed lines and the content of its file."""

from collections.abc import Iterator, Mapping

from spn4cir.comparison.compare import Comparison, Difference
from spn4cir.comparison.paper import PaperComparison, PaperFigure
from spn4cir.evaluation.sample_size import FEWEST, too_few_entry, too_few_queries

_SCORE = 24


def comparison_lines(title: str, a: str, b: str, comparison: Comparison) -> Iterator[str]:
    """Lines of a table of one pair of runs.

    Args:
        title: data set and family; empty if there is only one.
        a: name of the first run.
        b: name of the second run.
        comparison: the comparison of the two.
    """
    yield f"{f'{title}: ' if title else ''}A = {a}, B = {b}, {comparison.queries} queries; percent"
    width = max(_SCORE, *map(len, comparison.scores))
    yield f"{'':<{width}}{'A':>8}{'B':>8}{'B - A':>8}   {'95 % interval':<18}{'won':>6}{'lost':>6}"
    for score, found in comparison.scores.items():
        yield _score_line(score, found, width)
    yield from remark_lines(comparison)
    if (remark := few_queries_remark(comparison)) is not None:
        yield f"{remark}."


def remark_lines(comparison: Comparison) -> Iterator[str]:
    """Lines on all queries: the ranks, and how many scores of enough queries differ by no more than noise."""
    same = comparison.queries - comparison.better - comparison.worse
    yield f"ranks: B is better at {comparison.better} queries, worse at {comparison.worse}, the same at {same}"
    judged = [found for found in comparison.scores.values() if not found.few]
    noisy = sum(found.within_noise for found in judged)
    if judged and noisy == len(comparison.scores):
        yield "No score differs by more than noise: every interval contains 0."
    elif noisy:
        yield f"{noisy} of {len(comparison.scores)} scores differ by no more than noise: their intervals contain 0."


def few_queries_remark(comparison: Comparison) -> str | None:
    """Why the comparison, or some of its scores, allow no conclusion: too few queries; None if they are enough."""
    sentence = too_few_queries(comparison.queries)
    if sentence is None and any(found.few for found in comparison.scores.values()):
        return f"Scores of fewer than {FEWEST} queries get no verdict: their intervals are too narrow"
    return sentence


def _score_line(score: str, found: Difference, width: int) -> str:
    interval = f"{found.low:+.2f} to {found.high:+.2f}"
    moved = [f"{'' if count is None else count:>6}" for count in (found.won, found.lost)]
    return (
        f"{score:<{width}}{found.a:8.2f}{found.b:8.2f}{found.difference:+8.2f}   {interval:<18}"
        f"{moved[0]}{moved[1]}   {found.verdict}"
    )


def comparison_content(comparison: Comparison) -> dict[str, object]:
    """The content of the file for two runs: by score, and `too_few_queries` if no conclusion can be drawn."""
    scores = {score: found.as_dict() for score, found in comparison.scores.items()}
    return {**scores, **too_few_entry(comparison.queries)}


def paper_lines(title: str, run: str, found: PaperComparison) -> Iterator[str]:
    """Lines of a table of one run and the paper."""
    yield f"{title}: {run} and the paper; percent"
    yield f"{'':<{_SCORE}}{'paper 1':>9}{'paper 2':>9}{'ours 1':>9}{'ours 2':>9}{'2: ours - paper':>18}"
    for score, figure in found.figures.items():
        before = "" if figure.ours_stage1 is None else f"{figure.ours_stage1:.2f}"
        yield (
            f"{score:<{_SCORE}}{figure.paper_stage1:9.2f}{figure.paper:9.2f}{before:>9}{figure.ours:9.2f}"
            f"{figure.difference:+18.2f}"
        )
    yield "protocol:"
    for aspect, (theirs, ours) in found.protocol.items():
        yield f"  {aspect:<16} paper: {theirs}"
        yield f"  {'':<16} ours:  {ours}"
    yield from (f"note: {note}" for note in found.notes)
    if found.reasons:
        yield f"not comparable, because these differ: {', '.join(found.differing)}"
    else:
        yield "comparable: data and protocol are the paper's"
    yield f"source: {found.source}"


def paper_content(found: PaperComparison) -> dict[str, dict[str, object]]:
    """The content of the file for a run and the paper, by score."""

    def entry(figure: PaperFigure) -> dict[str, object]:
        return {
            "paper_stage1": figure.paper_stage1,
            "paper": figure.paper,
            "ours_stage1": figure.ours_stage1,
            "ours": figure.ours,
            "difference": figure.difference,
            "comparable": not found.reasons,
            "reasons": list(found.reasons),
        }

    return {score: entry(figure) for score, figure in found.figures.items()}


def merge(parts: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Merges the content of each data set and family into that of one file.

    One part is returned unchanged; the scores of several are prefixed with their names.
    """
    if len(parts) == 1:
        return dict(next(iter(parts.values())))
    return {f"{place}/{score}": entry for place, content in parts.items() for score, entry in content.items()}
