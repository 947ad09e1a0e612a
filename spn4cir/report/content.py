"""The content of a report's sections, as plain values for the template."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.config.params import Report
from spn4cir.errors import InputError
from spn4cir.positives.rank_samples import strips
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, examples, outcome, spread_out
from spn4cir.report.run import Outcome, RunResults
from spn4cir.report.thumbnails import Thumbnails

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class PageImage:
    """An image in the page.

    Attributes:
        style: CSS class of the image; empty for an image that cannot be shown, instead of which the page shows `alt`.
        alt: alternative text.
        note: caption under the image; empty for none.
        framed: whether the image gets a frame, which marks the target.
    """

    style: str
    alt: str
    note: str = ""
    framed: bool = False


@dataclass(frozen=True)
class Strip:
    """A row of images with a heading."""

    title: str
    images: tuple[PageImage, ...]


@dataclass(frozen=True)
class Example:
    """A query with its reference, its target and its best results."""

    query: Outcome
    reference: PageImage
    target: PageImage
    results: tuple[PageImage, ...]


def recall_rows(run: RunResults) -> list[dict[str, Any]]:
    """Returns one row per score: stage 1, stage 2, the gain, and the paper's score if there is one."""
    before = run.metrics.get("stage1", {})
    paper = run.paper.figures if run.paper else {}
    return [
        {
            "label": score_label(key),
            "stage1": before.get(key),
            "stage2": value,
            "gain": value - before[key] if key in before else None,
            "paper": paper.get(key),
        }
        for key, value in flat_scores(run.metrics).items()
    ]


def flat_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the recalls of a metrics file."""
    return {key: value for key, value in metrics.items() if isinstance(value, float) and "recall" in key}


def score_label(key: str) -> str:
    """Returns the label of a score, e.g. `dress R@10`."""
    key = re.sub(r"recall_subset_at(\d+)", r"R_subset@\1", key)
    key = re.sub(r"recall_at(\d+)", r"R@\1", key)
    return (
        key.replace("mean_recall5_subset1", "mean of R@5 and R_subset@1")
        .replace("_", " ")
        .replace("R subset", "R_subset")
    )


def settings_rows(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the keys of settings, joined by dots, and their values as JSON."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from ((f"{key}.{inner}", shown) for inner, shown in settings_rows(value))
        else:
            yield key, json.dumps(value, ensure_ascii=False)


def sheets(run: RunResults, settings: Report, thumbnails: Thumbnails) -> dict[str, list[Example]]:
    """Returns examples of each outcome."""
    kinds = (HIT, NEAR_MISS, FAILURE)
    return {
        kind: [
            _example(run, query, thumbnails) for query in examples(run.queries, run.recall_ks, kind, settings.examples)
        ]
        for kind in kinds
    }


def _example(run: RunResults, query: Outcome, thumbnails: Thumbnails) -> Example:
    def page_image(name: str, what: str, note: str, framed: bool = False) -> PageImage:
        return PageImage(thumbnails.add(run.gallery_path(name)), f"{what}: {name}", note, framed)

    results = tuple(
        page_image(
            name,
            f"result {place}, the target" if name == query.target else f"result {place}",
            str(place),
            name == query.target,
        )
        for place, name in enumerate(query.top[:_SHOWN], start=1)
    )
    return Example(
        query,
        page_image(query.reference, "reference", "reference"),
        page_image(query.target, "target", f"target, rank {query.rank}", framed=True),
        results,
    )


def query_rows(run: RunResults, settings: Report) -> list[tuple[Outcome, str]]:
    """Returns evenly spaced queries with their outcomes."""
    return [(query, outcome(query, run.recall_ks)) for query in spread_out(run.queries, settings.queries)]


def triplet_rows(run: RunResults, settings: Report, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Returns evenly spaced generated triplets: both images with their captions, and the texts."""
    rows = []
    for triplet in spread_out(run.triplets, settings.triplets):
        names = (triplet.reference_name, str(triplet.target_name))
        images = [
            PageImage(thumbnails.add(run.triplet_path(name)), f"{what}: {name}", run.captions.get(name, "no caption"))
            for what, name in zip(("reference", "target"), names, strict=True)
        ]
        rows.append({"images": images, "names": names, "texts": triplet.captions})
    return rows


def duplicate_strips(run: RunResults, settings: Report, thumbnails: Thumbnails) -> tuple[list[Strip], int]:
    """Returns groups of equal images, largest first, and the number of all groups."""
    members: dict[int, list[str]] = {}
    for name, row in run.unique.row.items():
        members.setdefault(row, []).append(name)
    groups = sorted((names for names in members.values() if len(names) > 1), key=len, reverse=True)
    shown = []
    for names in groups[: settings.duplicates]:
        path = run.unique.gallery.paths[run.unique.row[names[0]]]
        style = thumbnails.add(path)
        kept = run.unique.gallery.names[run.unique.row[names[0]]]
        images = (PageImage(style, f"{'kept' if name == kept else 'dropped'}: {name}", name) for name in names[:_SHOWN])
        shown.append(Strip(f"{kept}: {len(names)} equal images", tuple(images)))
    return shown, len(groups)


def window_strips(run: RunResults, thumbnails: Thumbnails) -> list[tuple[str, PageImage, list[Strip]]]:
    """Returns, for each sampled image, the images at ranks in, before and beyond the family's window."""
    shown = strips(run.window, run.samples.images)
    found = []
    for sample in run.samples.samples:
        at = {neighbour.rank: neighbour for neighbour in sample.neighbours}
        lists = [
            Strip(_ranks_label(label, ranks), _neighbours(run, ranks, at, thumbnails)) for label, ranks in shown.items()
        ]
        found.append(
            (
                sample.reference,
                _training_image(run, sample.reference, "rank 0, the image itself", "0", thumbnails),
                lists,
            )
        )
    return found


def _ranks_label(label: str, ranks: range) -> str:
    return f"{label}: ranks {ranks.start} to {ranks.stop - 1}"


def _neighbours(
    run: RunResults, ranks: Sequence[int], at: Mapping[int, Any], thumbnails: Thumbnails
) -> tuple[PageImage, ...]:
    missing = [rank for rank in ranks if rank not in at]
    if missing:
        raise InputError(f"the sampled ranks lack rank {missing[0]}, which the window needs; run the match stage again")
    return tuple(
        _training_image(run, at[rank].name, f"rank {rank}", f"{rank} ({at[rank].similarity:.2f})", thumbnails)
        for rank in ranks
    )


def _training_image(run: RunResults, name: str, what: str, note: str, thumbnails: Thumbnails) -> PageImage:
    path: Path = run.unique.gallery.paths[run.unique.row[name]]
    return PageImage(thumbnails.add(path), f"{what}: {name}", note)


def shortcut_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row per score: whole queries, reference alone, text alone, and the spread over paraphrases."""
    found = metrics.get("shortcuts")
    if not found:
        return []
    spread = found.get("paraphrases", {}).get("spread", {})
    return [
        {
            "label": score_label(key),
            "whole": value,
            "reference": found["reference_alone"].get(key),
            "text": found["text_alone"].get(key),
            "spread": spread.get(key),
        }
        for key, value in flat_scores(metrics).items()
    ]


def hard_negatives(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the hard negatives above the targets: a row per kind and one for both; None if they were not measured."""
    found = metrics.get("shortcuts", {}).get("hard_negatives")
    if not found:
        return None
    labels = {"lookalikes": "most like the reference", "text_matches": "best by the text alone"}
    rows = [{"label": f"{found[kind]['images']} {label}", **found[kind]} for kind, label in labels.items()]
    either = {"label": "either", "queries": None, "by_chance": None, "mean_above": None, **found["either"]}
    return {**found, "rows": [*rows, either]}
