"""Formats the result of a check of a data set's images as lines."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from spn4cir.errors import escaped
from spn4cir.images.endings import passed_over_line
from spn4cir.projects.check import Check, Cost, Fault

_SHOWN = 20
_HEADS = ("split", "triplets", "lost", "images", "missing", "broken")


def check_lines(check: Check, whole: bool) -> list[str]:
    """Returns the lists of faults, the losses, the official totals and a summary; long lists are cut unless `whole`.

    Line breaks and control characters in a name are written as escapes.
    """
    lines = (
        *_listed("missing", [_fault_line(fault) for fault in check.missing], whole),
        *_listed("broken", [_fault_line(fault) for fault in check.broken], whole),
        *_listed("unlisted (not named by the annotation files that were read)", check.unlisted, whole),
        *filter(None, [passed_over_line(Counter(check.passed_over))]),
        *_table(check.costs),
        *_empty_texts(check.costs),
        *_official(check),
        *_absent_splits(check),
        *check.advice,
        summary(check),
    )
    return [escaped(line) for line in lines]


def summary(check: Check) -> str:
    """Returns one line that counts missing and broken images and the losses."""
    unlisted = f"; {len(check.unlisted)} unlisted" if check.unlisted else ""
    if check.is_whole:
        return f"ok: all {check.checked:,} images are there and can be decoded{unlisted}"
    costs = "; ".join(filter(None, map(_loss, check.costs))) or "no triplet is lost"
    found = f"{len(check.missing)} missing, {len(check.broken)} broken of {check.checked:,} images{unlisted}"
    return f"{found}; lost: {costs}"


def images_lines(name: str, check: Check) -> list[str]:
    """Returns the lines about images and empty texts that add-dataset prints."""
    more = [] if check.is_whole else [f"              by name: spn4cir check-data {name}"]
    empty = (f"  texts       {line}" for line in _empty_texts(check.costs))
    return [f"  images      {summary(check)}", *more, *empty]


def _loss(cost: Cost) -> str:
    kind = "training triplets" if cost.split == "train" else "queries"
    lost = [f"{cost.triplets_lost:,} of {cost.triplets:,} {kind}"] if cost.triplets_lost else []
    if gone := cost.missing + cost.broken:
        lost.append(f"{gone:,} of {cost.images:,} {'images' if cost.split == 'train' else 'gallery images'}")
    return f"{_label(cost)} {' and '.join(lost)}" if lost else ""


def _label(cost: Cost) -> str:
    return f"{cost.split} {cost.category}".strip()


def _fault_line(fault: Fault) -> str:
    return f"{fault.name}: {fault.reason} ({', '.join(fault.splits)}{f'; {fault.path}' if fault.path else ''})"


def _listed(head: str, lines: Sequence[str], whole: bool) -> Iterator[str]:
    if not lines:
        return
    shown = lines if whole else lines[:_SHOWN]
    yield f"{head}: {len(lines):,}"
    yield from (f"  {line}" for line in shown)
    if len(shown) < len(lines):
        yield f"  ... and {len(lines) - len(shown):,} more: --all shows them, --json FILE writes them"


def _table(costs: Iterable[Cost]) -> Iterator[str]:
    rows = [
        (_label(cost), *(f"{n:,}" for n in (cost.triplets, cost.triplets_lost, cost.images, cost.missing, cost.broken)))
        for cost in costs
    ]
    width = max(len(row[0]) for row in (*rows, _HEADS))
    for first, *others in (_HEADS, *rows):
        yield first.ljust(width) + "".join(f"{cell:>10}" for cell in others)


def _empty_texts(costs: Iterable[Cost]) -> Iterator[str]:
    if found := [f"{_label(cost)} {cost.empty_texts:,}" for cost in costs if cost.empty_texts]:
        yield f"triplets with an empty text, which is used as it is: {', '.join(found)}"


def _absent_splits(check: Check) -> Iterator[str]:
    if check.absent_splits:
        use = "; enough to validate or submit, not to train" if "train" in check.absent_splits else ""
        yield f"not checked: {', '.join(check.absent_splits)} (no annotation files){use}"


def _official(check: Check) -> Iterator[str]:
    """Yields official totals of published data for comparison; mirrors and selections can differ without being wrong.

    Data of which no total agrees is another data set in a published layout, or a part of one: one line says so.
    """
    if not check.totals:
        return
    if not check.has_official_total:
        what, (here, total) = next(iter(check.totals.items()))
        none = f"none of {len(check.totals)} agrees ({what}: {total:,}, here {here:,})"
        yield f"official totals: {none}; this is another data set or a part of it"
        return
    yield "official totals, for information:"
    for what, (here, total) in check.totals.items():
        yield f"  {what:<26}{total:>8,}   here {here:,}{'' if here == total else '   (differs)'}"
