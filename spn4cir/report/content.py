"""The content of a report's sections, as plain values for the template."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.comparison.compare import Comparison
from spn4cir.config.params import Report
from spn4cir.errors import InputError
from spn4cir.positives.filter_table import SHORTCUT, WRONG
from spn4cir.positives.rank_samples import strips
from spn4cir.report.breakdown import FAILURE, HIT, NEAR_MISS, examples, spread_out
from spn4cir.report.compared_queries import ComparedQuery, PageImage, QueryImages
from spn4cir.report.run import RunResults
from spn4cir.report.thumbnails import Thumbnails

_SHOWN = 5
# The baselines that the table of recalls shows.
_RULES = ("text", "image", "sum")
# The entries of the protocol that settings of the baselines decide, beside those of the run.
_COMPARED = ("reference", "text")


@dataclass(frozen=True)
class Strip:
    """A row of images with a heading."""

    title: str
    images: tuple[PageImage, ...]


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns one row per score: its label, its difference, and its interval in percent of the width of a bar.

    The bar reaches from -scale to scale, where the scale is the largest end of an interval.
    """
    scores = comparison.scores
    scale = max(max(abs(score.low), abs(score.high)) for score in scores.values()) or 1.0
    rows = []
    for key, score in scores.items():
        low, high, difference = (50 + 50 * value / scale for value in (score.low, score.high, score.difference))
        bar = {"left": low, "width": high - low, "mark": difference}
        rows.append({"key": key, "label": score_label(key), "score": score, "bar": bar})
    return rows


def recall_rows(run: RunResults) -> list[dict[str, Any]]:
    """Returns one row per score: both stages, the gain, the baselines, and the paper's score if there is one."""
    paper = run.paper.figures if run.paper else {}
    columns = [run.baselines[network][rule] for network, rules in baseline_columns(run).items() for rule in rules]
    return [
        row | {"baselines": [scores.get(row["key"]) for scores in columns], "paper": paper.get(row["key"])}
        for row in score_rows(run.stages.comparison)
    ]


def baseline_columns(run: RunResults) -> dict[str, list[str]]:
    """Returns the rules whose scores are shown beside the stages, by network."""
    found = {network: [rule for rule in _RULES if rule in rules] for network, rules in run.baselines.items()}
    return {network: rules for network, rules in found.items() if rules}


def baseline_notes(run: RunResults) -> list[str]:
    """Returns a sentence for each network without training whose scores follow another protocol than the run's."""
    notes, own = [], run.metrics["protocol"]
    for network in baseline_columns(run):
        other = run.baselines[network].get("protocol", own)
        if differing := [
            f"{key}: {other.get(key)}, not {own.get(key)}" for key in _COMPARED if other.get(key) != own.get(key)
        ]:
            notes.append(f"{network} was scored by another protocol ({'; '.join(differing)}).")
    return notes


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


def sheets(run: RunResults, settings: Report, images: QueryImages) -> dict[str, list[ComparedQuery]]:
    """Returns examples of each outcome."""
    kinds = (HIT, NEAR_MISS, FAILURE)
    return {
        kind: [images.compared("", query) for query in examples(run.queries, run.recall_ks, kind, settings.examples)]
        for kind in kinds
    }


def triplet_rows(run: RunResults, settings: Report, thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Returns evenly spaced generated triplets: both images with their captions, and the texts."""
    return [
        _triplet_row(run, (triplet.reference_name, str(triplet.target_name)), triplet.captions, thumbnails)
        for triplet in spread_out(run.triplets, settings.triplets)
    ]


def _triplet_row(
    run: RunResults, names: tuple[str, str], texts: Sequence[Any], thumbnails: Thumbnails
) -> dict[str, Any]:
    images = [
        PageImage(thumbnails.add(run.triplet_path(name)), f"{what}: {name}", run.captions.get(name, "no caption"))
        for what, name in zip(("reference", "target"), names, strict=True)
    ]
    return {"images": images, "names": names, "texts": texts}


def removed_triplets(run: RunResults, settings: Report, thumbnails: Thumbnails) -> dict[str, list[dict[str, Any]]]:
    """Returns, for each reason, evenly spaced triplets that the filter removed, with the ranks of their targets."""
    if run.filtered is None:
        return {}
    return {
        reason: [
            _triplet_row(run, (texts[0].reference, texts[0].target), texts, thumbnails)
            for texts in spread_out(run.filtered.removed(reason), settings.examples)
        ]
        for reason in (WRONG, SHORTCUT)
    }


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
