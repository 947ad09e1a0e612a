"""Submission files of CIRR's test server, and the check of such a file."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError
from spn4cir.evaluation import RankedSplit, encode_splits, rank_split
from spn4cir.files import atomic_file, read_json, write_json
from spn4cir.params import Validate
from spn4cir.types import EvaluationSplit, Triplet

Metric = Literal["recall", "recall_subset"]
VERSION = "rc2"
NAMES = {"recall": 50, "recall_subset": 3}
MAX_BYTES = 5_000_000
Predictions = dict[str, Any]


def predict(
    composer: Composer, split: EvaluationSplit, settings: Validate, workers: int, device: torch.device
) -> dict[Metric, Predictions]:
    """Both submission files of the test queries. Raises InputError for a gallery or subset that is too small."""
    images = encode_splits(composer, [split], settings, workers, device)
    ranked, _ = rank_split(composer, split, images, settings, device)
    recall: Predictions = {"version": VERSION, "metric": "recall"}
    subset: Predictions = {"version": VERSION, "metric": "recall_subset"}
    for query, triplet in enumerate(split.triplets):
        names = [name for name in ranked.top_names(query) if name != triplet.reference_name]
        recall[str(triplet.query_id)] = names[: NAMES["recall"]]
        subset[str(triplet.query_id)] = _subset_names(ranked, query, triplet)[: NAMES["recall_subset"]]
    return {"recall": recall, "recall_subset": subset}


def _subset_names(ranked: RankedSplit, query: int, triplet: Triplet) -> list[str]:
    """The query's subset without its reference and without images that are not in the gallery, best first."""
    present = [n for n in triplet.subset_names if n in ranked.split.gallery.index and n != triplet.reference_name]
    order = ranked.ranking.subset_top[query].tolist()
    return [present[position] for position in order if position < len(present)]


def check_name(name: str) -> None:
    """Raises InputError for a name that would not end a file name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise InputError(f"'{name}' will not do as a name of the files: use letters, digits, '.', '_' and '-' alone")


def submission_path(folder: Path, metric: Metric, name: str) -> Path:
    """`recall_submission_{name}.json` or `recall_subset_submission_{name}.json`."""
    return folder / f"{metric}_submission_{name}.json"


def write_submission(
    predictions: dict[Metric, Predictions], folder: Path, name: str, queries: Sequence[Triplet], gallery: Sequence[str]
) -> list[Path]:
    """Checks both files, then puts them in place. Raises InputError that says what is wrong: neither is written.

    Args:
        predictions: both files' contents.
        folder: where they go.
        name: ends their names.
        queries: all of test1, also those that `missing: skip` left out: the server refuses a file that lacks one.
        gallery: names of all test1 images.
    """
    places = {metric: submission_path(folder, metric, name) for metric in predictions}
    for metric, content in predictions.items():
        problems = submission_problems(content, queries, gallery)
        if problems:
            raise InputError(f"{places[metric]}: not written: {'; '.join(problems[:5])}")
    for metric, content in predictions.items():
        with atomic_file(places[metric]) as temporary:
            write_json(temporary, content)
            _check_size(temporary, places[metric])
    return list(places.values())


def _check_size(file: Path, path: Path) -> None:
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes; the server takes at most {MAX_BYTES:,}")


def check_submission(path: Path, queries: Sequence[Triplet], gallery: Sequence[str]) -> str:
    """Checks a submission file against the test split; returns its metric.

    Args:
        path: the file.
        queries: the test queries.
        gallery: names of the test images.

    Raises:
        InputError: lists the first faults found.
    """
    content = _read_pairs(path)
    problems = submission_problems(content, queries, gallery)
    if problems:
        more = f" (and {len(problems) - 10} more)" if len(problems) > 10 else ""
        raise InputError(f"{path}: {'; '.join(problems[:10])}{more}; write it again with: spn4cir submit")
    _check_size(path, path)
    return str(content["metric"])


def _read_pairs(path: Path) -> Predictions:
    """The file as a dict. Raises InputError for a key that stands there twice, which JSON readers drop silently."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a JSON object of pair id -> names")
    keys = Counter(key for key, _ in json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list))
    if twice := [key for key, count in keys.items() if count > 1]:
        raise InputError(f"{path}: {', '.join(twice[:5])}: stands there twice; every pair id stands there once")
    return content


def submission_problems(content: Predictions, queries: Sequence[Triplet], gallery: Sequence[str]) -> list[str]:
    """What is wrong with a submission: version, metric, pair ids, names; empty when it is right."""
    problems = []
    if content.get("version") != VERSION:
        problems.append(f"version is {content.get('version')!r}, expected '{VERSION}'")
    metric = content.get("metric")
    if not isinstance(metric, str) or metric not in NAMES:
        return [*problems, f"metric is {metric!r}, expected one of {', '.join(NAMES)}"]
    wanted = {str(query.query_id): query for query in queries}
    given = content.keys() - {"version", "metric"}
    if absent := sorted(wanted.keys() - given):
        problems.append(f"{len(absent)} pair ids are missing, the first is {absent[0]}")
    if strange := sorted(given - wanted.keys()):
        problems.append(f"{len(strange)} pair ids are not in test1, the first is {strange[0]}")
    known = frozenset(gallery)
    for pair_id in sorted(given & wanted.keys()):
        problems.extend(_list_problems(content[pair_id], wanted[pair_id], NAMES[metric], known, metric))
    return problems


def _list_problems(names: Any, query: Triplet, count: int, known: frozenset[str], metric: str) -> list[str]:
    place = f"pair {query.query_id}"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return [f"{place}: expected a list of image names"]
    problems = []
    if len(names) != count:
        problems.append(f"{place}: {len(names)} names, expected {count}")
    if len(set(names)) < len(names):
        problems.append(f"{place}: a name stands there twice")
    if query.reference_name in names:
        problems.append(f"{place}: lists its own reference '{query.reference_name}'")
    if unknown := [name for name in names if name not in known]:
        problems.append(f"{place}: '{unknown[0]}' is not a test1 image")
    elif metric == "recall_subset" and (outside := [name for name in names if name not in query.subset_names]):
        problems.append(f"{place}: '{outside[0]}' is not in the query's subset")
    return problems
