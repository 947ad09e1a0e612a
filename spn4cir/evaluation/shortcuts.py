"""Shortcuts: how much of a score the reference alone, the text alone, or the wording of the text explains.

A benchmark that one of them solves measures little composition. Hard negatives show which shortcut a network uses.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import mean, pstdev
from typing import Any, NamedTuple

import torch

from spn4cir.composers.encoding import EncodedGallery, report_long_texts
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Shortcuts, Validate
from spn4cir.datasets.protocol import Benchmark, Scores
from spn4cir.datasets.texts import evaluation_text
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import Evaluation, RankedSplit, compose_queries, measured, rank_queries
from spn4cir.evaluation.hard_negatives import Counts, Nearest, count_above, summarise
from spn4cir.evaluation.ranking import Ranking
from spn4cir.evaluation.text_alone import without_reference
from spn4cir.json_files import read_json
from spn4cir.types import EvaluationSplit

Wordings = dict[str, tuple[tuple[str, ...], ...]]
AS_WRITTEN = "as written"


class Probe(NamedTuple):
    """Settings of the measurement: other texts of the queries, and the number of hard negatives.

    Attributes:
        nearest: number of hard negatives of each kind.
        templates: templates of other texts, each with the field `{text}`.
        path: JSON file of paraphrases, a list for each text (as the network reads it; case is ignored); None: no file.
            The wording `paraphrase n` uses the n-th of each list, or the text as written if a list is shorter or
            absent.
    """

    nearest: Nearest
    templates: tuple[str, ...]
    path: Path | None


class ShortcutScores(NamedTuple):
    """Results of the shortcut measurements.

    Attributes:
        scores: the entry of the metrics file.
        counts: hard negatives above the targets, for each split.
    """

    scores: dict[str, Any]
    counts: tuple[Counts, ...]


def probe_of(settings: Shortcuts, path: Path | None) -> Probe:
    """The probe of the settings, with a file of paraphrases."""
    return Probe(Nearest(settings.lookalikes, settings.text_matches), settings.templates, path)


def require_gallery(layout: Benchmark) -> None:
    """Raises InputError for a benchmark in which each query has its own gallery: shortcuts need a shared gallery."""
    if not (layout.protocol.recall_ks or layout.protocol.map_ks):
        raise InputError(
            f"{layout.root}: shortcuts are measured where all queries share a gallery, and here it is "
            f"{layout.protocol.gallery}; leave out --shortcuts and --paraphrases"
        )


def measure_shortcuts(
    composer: Composer,
    layout: Benchmark,
    evaluation: Evaluation,
    images: EncodedGallery,
    settings: Validate,
    wordings: Wordings,
    nearest: Nearest,
    device: torch.device,
) -> ShortcutScores:
    """Scores the queries without their text, without their reference, and with other texts; encodes no image again.

    The reference alone is a query composed with the empty text. The text alone is a query composed with reference
    features of zeros, "no information about the image"; see `without_reference`. The evaluation protocol, including the
    removal of references, is unchanged.

    Args:
        composer: the network, on `device`.
        layout: layout of the scores.
        evaluation: scores of the network with image and text.
        images: features of the galleries.
        settings: evaluation protocol.
        wordings: other texts of each query, by name of the wording, one tuple for each split.
        nearest: number of hard negatives of each kind.
        device: where the network runs.

    Returns:
        Scores under `reference_alone`, `text_alone`, `hard_negatives`, and `paraphrases` if there are wordings.
    """
    silent = tuple(("",) * len(ranked.texts) for ranked in evaluation.splits)
    said = tuple(ranked.texts for ranked in evaluation.splits)

    def rank(texts: Sequence[Sequence[str]], source: EncodedGallery) -> list[Ranking]:
        return [
            _rank_split(composer, ranked, own, source, settings, device)
            for ranked, own in zip(evaluation.splits, texts, strict=True)
        ]

    by_text = rank(said, replace(images, reference=without_reference(images.reference)))
    counts = tuple(
        count_above(composer, ranked, own, images, nearest, settings, device)
        for ranked, own in zip(evaluation.splits, by_text, strict=True)
    )
    found: dict[str, Any] = {
        "reference_alone": _scores(layout, evaluation, rank(silent, images)),
        "text_alone": _scores(layout, evaluation, by_text),
        "hard_negatives": summarise(counts, nearest, (layout.protocol.recall_ks or layout.protocol.map_ks)[0]),
    }
    for name, texts in wordings.items():
        report_long_texts(composer, chain(*texts), f"paraphrases '{name}'")
    if wordings:
        reworded = {name: rank(texts, images) for name, texts in wordings.items()}
        found["paraphrases"] = _compare(layout, evaluation, reworded)
    return ShortcutScores(found, counts)


def _rank_split(
    composer: Composer,
    ranked: RankedSplit,
    texts: Sequence[str],
    images: EncodedGallery,
    settings: Validate,
    device: torch.device,
) -> Ranking:
    triplets = ranked.split.triplets
    queries = compose_queries(composer, triplets, texts, images, settings.batch_size, device)
    return rank_queries(composer, queries, triplets, ranked.names, images, settings, device)


def _scores(layout: Benchmark, evaluation: Evaluation, rankings: Sequence[Ranking]) -> Scores:
    names = [ranked.split.name for ranked in evaluation.splits]
    return layout.summarise({name: measured(layout, ranking) for name, ranking in zip(names, rankings, strict=True)})


def _compare(layout: Benchmark, evaluation: Evaluation, reworded: Mapping[str, Sequence[Ranking]]) -> dict[str, Any]:
    """Scores of each wording, their spread, and how much the rank of a query's target varies between wordings."""
    sets = {AS_WRITTEN: evaluation.scores}
    sets |= {name: _scores(layout, evaluation, rankings) for name, rankings in reworded.items()}
    written = torch.cat([ranked.ranking.rank for ranked in evaluation.splits])
    ranks = torch.stack([written, *(torch.cat([part.rank for part in rankings]) for rankings in reworded.values())])
    apart = (ranks.max(dim=0).values - ranks.min(dim=0).values).double()
    return {
        "sets": sets,
        "spread": {key: _spread([scores[key] for scores in sets.values()]) for key in evaluation.scores},
        "rank_apart": {"median": float(apart.median()), "mean": float(apart.mean()), "largest": float(apart.max())},
    }


def _spread(values: Sequence[float]) -> Scores:
    return {"mean": mean(values), "min": min(values), "max": max(values), "deviation": pstdev(values)}


def wordings_of(splits: Sequence[EvaluationSplit], capitalise: bool, probe: Probe) -> Wordings:
    """Other texts of every query: one wording for each template, then one for each paraphrase of the file.

    Args:
        splits: the queries.
        capitalise: whether the first letter of a text is capitalised.
        probe: templates and file.

    Raises:
        InputError: the file is absent, has another form, or contains none of the texts.
    """
    texts = [[evaluation_text(triplet.captions, capitalise) for triplet in split.triplets] for split in splits]
    found = {
        template: tuple(tuple(template.format(text=text) for text in own) for own in texts)
        for template in probe.templates
    }
    return found if probe.path is None else found | _read_wordings(probe.path, texts)


def _read_wordings(path: Path, texts: Sequence[Sequence[str]]) -> Wordings:
    content = read_json(path)
    if not isinstance(content, dict) or not all(_is_list_of_texts(value) for value in content.values()):
        raise InputError(f'{path}: expected a JSON object of lists of texts, as in {{"is red": ["make it red"]}}')
    lists = {text.lower(): value for text, value in content.items()}
    asked = [[lists.get(text.lower(), []) for text in own] for own in texts]
    count = max((len(value) for own in asked for value in own), default=0)
    if not count:
        example = next((text for own in texts for text in own), "")
        raise InputError(f"{path}: contains none of the queries' texts; write keys such as '{example}'")
    print(f"{path}: paraphrases of {sum(map(bool, chain(*asked)))} of {sum(map(len, texts))} queries", file=sys.stderr)
    return {
        f"paraphrase {number + 1}": tuple(
            tuple(value[number] if number < len(value) else text for text, value in zip(own, values, strict=True))
            for own, values in zip(texts, asked, strict=True)
        )
        for number in range(count)
    }


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)
