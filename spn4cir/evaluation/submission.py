"""Submission files of test servers, and the check of such a file. The layout defines what its server expects."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spn4cir.composers.encoding import EncodedGallery
from spn4cir.composers.protocol import Composer
from spn4cir.config.params import Validate
from spn4cir.datasets.protocol import SubmissionFile
from spn4cir.errors import InputError
from spn4cir.evaluation.evaluate import RankedSplit, encode_splits, rank_split
from spn4cir.files import atomic_file
from spn4cir.json_files import read_json, write_json
from spn4cir.types import EvaluationSplit, Triplet

Predictions = dict[str, Any]
Files = Sequence[SubmissionFile]
# File names of most systems have at most 255 bytes; the rest of the name, and of a temporary one, is shorter than 55.
_LONGEST_NAME = 200


def predict(
    composer: Composer,
    split: EvaluationSplit,
    files: Files,
    settings: Validate,
    workers: int,
    device: torch.device,
    stored: Path | None = None,
) -> dict[str, Predictions]:
    """Encodes the images of the test split, or reads their stored features, and returns the content of each file.

    See `list_best` for the content, and `encode_splits` for `stored`.
    """
    images = encode_splits(composer, [split], settings, workers, device, stored)
    return list_best(composer, split, files, images, settings, device)


def list_best(
    composer: Composer,
    split: EvaluationSplit,
    files: Files,
    images: EncodedGallery,
    settings: Validate,
    device: torch.device,
) -> dict[str, Predictions]:
    """The content of each file, by metric; lists are shorter if the gallery or the subset is small.

    Args:
        composer: the network, on `device`.
        split: the test queries.
        files: the files that the server expects.
        images: features of the gallery.
        settings: evaluation protocol.
        device: where the network runs.
    """
    ranked, _ = rank_split(composer, split, images, settings, device)
    return {
        file.metric: {
            **file.header,
            **{str(triplet.query_id): _listed(file, ranked, row) for row, triplet in enumerate(split.triplets)},
        }
        for file in files
    }


def _listed(file: SubmissionFile, ranked: RankedSplit, query: int) -> list[str] | list[int]:
    """The best candidates of a query, in the form of the file."""
    triplet = ranked.split.triplets[query]
    names = _subset_names(ranked, query, triplet) if file.of_subset else ranked.top_names(query)
    kept = [name for name in names if file.own_reference or name != triplet.reference_name][: file.count]
    return [int(name) for name in kept] if file.integers else kept


def _subset_names(ranked: RankedSplit, query: int, triplet: Triplet) -> list[str]:
    """The subset of a query without its reference and without images outside the gallery, best first."""
    present = [n for n in triplet.subset_names if n in ranked.split.gallery.index and n != triplet.reference_name]
    order = ranked.ranking.subset_top[query].tolist()
    return [present[position] for position in order if position < len(present)]


def check_name(name: str) -> None:
    """Raises InputError for a name that cannot be part of a file name, or that makes one that is too long."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise InputError(f"'{name}' cannot be part of a file name; use only letters, digits, '.', '_' and '-'")
    if len(name) > _LONGEST_NAME:
        raise InputError(f"'{name}' has {len(name)} characters, expected at most {_LONGEST_NAME}")


def write_submission(
    predictions: dict[str, Predictions],
    files: Files,
    folder: Path,
    name: str,
    queries: Sequence[Triplet],
    gallery: Sequence[str],
) -> list[Path]:
    """Checks the content of all files, then writes them.

    Args:
        predictions: content of each file, by metric.
        files: the files that the server expects.
        folder: where the files are written.
        name: the end of the file names.
        queries: all queries of the test split, including those that `missing: skip` left out: a server rejects a file
            without them.
        gallery: names of all images of the test split.

    Raises:
        InputError: lists the problems of a file; no file is written.
    """
    places = {file.metric: folder / file.pattern.format(name=name) for file in files}
    for metric, content in predictions.items():
        problems = submission_problems(content, files, queries, gallery)
        if problems:
            raise InputError(
                f"{places[metric].name}: not written: {'; '.join(problems[:5])}; check that the test split is whole"
            )
    with ExitStack() as together:
        for file in files:
            temporary = together.enter_context(atomic_file(places[file.metric]))
            write_json(temporary, predictions[file.metric])
            _check_size(temporary, places[file.metric], file)
    return list(places.values())


def _check_size(written: Path, path: Path, file: SubmissionFile) -> None:
    size = written.stat().st_size
    if file.max_bytes is not None and size > file.max_bytes:
        raise InputError(f"{path}: {size:,} bytes, expected at most {file.max_bytes:,}, which the server takes")


class Checked(NamedTuple):
    """A submission file that passed the check.

    Attributes:
        file: which of the server's files it is.
        split: the split whose queries it answers.
        queries: number of queries.
    """

    file: SubmissionFile
    split: str
    queries: int


def check_submission(
    path: Path,
    files: Files,
    queries: Sequence[Triplet],
    gallery: Sequence[str],
    others: Mapping[str, Sequence[Triplet]] | None = None,
) -> Checked:
    """Checks a submission file against the test split.

    Args:
        path: the file.
        files: the files that the server accepts.
        queries: the test queries.
        gallery: names of the test images.
        others: queries of other splits over the same images, by split; a file that contains exactly the ids of one is
            checked against that split.

    Raises:
        InputError: lists the first problems.
    """
    content = _read_queries(path, files[0].query)
    splits = {files[0].split: queries, **(others or {})}
    given = content.keys() - files[0].header.keys()
    split = next((name for name, own in splits.items() if given == _ids(own)), files[0].split)
    queries = splits[split]
    problems = submission_problems(content, tuple(replace(file, split=split) for file in files), queries, gallery)
    if problems:
        more = f" (and {len(problems) - 10} more)" if len(problems) > 10 else ""
        server = files[0].split
        other = "" if split == server else f"answers the queries of {split}, and the server scores {server}; "
        raise InputError(f"{path}: {other}{'; '.join(problems[:10])}{more}; write it again with: spn4cir submit")
    (found,) = _fitting(content, files)
    _check_size(path, path, found)
    return Checked(found, split, len(queries))


def _ids(queries: Sequence[Triplet]) -> set[str]:
    return {str(query.query_id) for query in queries}


def _read_queries(path: Path, query: str) -> Predictions:
    """Reads the file as a dict. Raises InputError for a repeated key, which JSON readers drop silently."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: contains a {type(content).__name__}, expected a JSON object of {query} id -> names")
    keys = Counter(key for key, _ in json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=list))
    if twice := [key for key, count in keys.items() if count > 1]:
        raise InputError(f"{path}: {', '.join(twice[:5])}: occurs twice; write every {query} id once")
    return content


def submission_problems(
    content: Predictions, files: Files, queries: Sequence[Triplet], gallery: Sequence[str]
) -> list[str]:
    """The problems of a submission in header, query ids and names; empty if it is valid."""
    problems = list(_header_problems(content, files))
    fitting = _fitting(content, files)
    if len(fitting) != 1:
        return problems
    (file,) = fitting
    wanted = {str(query.query_id): query for query in queries}
    given = content.keys() - file.header.keys()
    if absent := sorted(wanted.keys() - given):
        problems.append(f"{len(absent)} {file.query} ids are missing, the first is {absent[0]}")
    if strange := sorted(given - wanted.keys()):
        problems.append(f"{len(strange)} {file.query} ids are not in {file.split}, the first is {strange[0]}")
    known = frozenset(gallery)
    for query_id in sorted(given & wanted.keys()):
        problems.extend(_list_problems(content[query_id], wanted[query_id], file, known))
    return problems


def _header_problems(content: Predictions, files: Files) -> Iterator[str]:
    for key in files[0].header:
        known = list(dict.fromkeys(file.header[key] for file in files))
        if content.get(key) not in known:
            expected = f"one of {', '.join(known)}" if len(known) > 1 else f"'{known[0]}'"
            yield f"{key} is {content.get(key)!r}, expected {expected}"


def _fitting(content: Predictions, files: Files) -> list[SubmissionFile]:
    """The files whose header matches the content, by the keys in which the headers differ."""
    distinct = [key for key in files[0].header if len({file.header[key] for file in files}) > 1]
    return [file for file in files if all(content.get(key) == file.header[key] for key in distinct)]


def _list_problems(names: Any, query: Triplet, file: SubmissionFile, known: frozenset[str]) -> list[str]:
    place = f"{file.query} {query.query_id}"
    kind, noun = (int, "integers, the ids of images") if file.integers else (str, "image names")
    if not isinstance(names, list) or not all(type(name) is kind for name in names):
        return [f"{place}: expected a list of {noun}"]
    problems = []
    if len(names) != file.count:
        problems.append(f"{place}: {len(names)} names, expected {file.count}")
    if len(set(names)) < len(names):
        problems.append(f"{place}: a name occurs twice")
    listed = [str(name) for name in names]
    if query.reference_name in listed and not file.own_reference:
        problems.append(f"{place}: lists its own reference '{query.reference_name}'")
    if unknown := [name for name in listed if name not in known]:
        problems.append(f"{place}: '{unknown[0]}' is not a {file.split} image")
    elif file.of_subset and (outside := [name for name in listed if name not in query.subset_names]):
        problems.append(f"{place}: '{outside[0]}' is not in the query's subset")
    return problems
