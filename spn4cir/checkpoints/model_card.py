"""The model card of an exported network: its scores, training data, licence, and how to load it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spn4cir.checkpoints.hub_folder import LIBRARY, Config
from spn4cir.config.base import first_problem
from spn4cir.errors import InputError
from spn4cir.json_files import read_json

UNKNOWN = "unknown"
# Names of data sets on the hub; other descriptions of data appear only in the text of the card.
_HUB_ID = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")
# The hub refuses a card whose licence is not an identifier.
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_TASK = "Composed image retrieval"


@dataclass(frozen=True)
class Facts:
    """Facts for the card that the weights do not contain.

    Attributes:
        name: name of the model.
        licence: licence of the weights, as an identifier of the hub; None if unknown.
        data: training data, as ids of data sets on the hub or as descriptions.
        metrics: metrics file of `validate`; None for a card without scores.
        scored_on: data set of the scores.
    """

    name: str
    licence: str | None = None
    data: tuple[str, ...] = ()
    metrics: Path | None = None
    scored_on: str | None = None


@dataclass(frozen=True)
class CardScores:
    """Scores with their protocol.

    Attributes:
        scores: scores in percent, by key.
        protocol: evaluation protocol of the scores.
        counts: numbers of queries and images, by split.
        dataset: data set of the queries.
    """

    scores: dict[str, float]
    protocol: dict[str, Any]
    counts: dict[str, dict[str, int]]
    dataset: str

    def split(self, key: str) -> str:
        """Returns the split of a score: `validation` or `test`."""
        return "test" if key.startswith("test_") else "validation"

    def query_count(self, key: str) -> int:
        """Returns the number of queries of a score: those of its split or category, else all except the test split."""
        queries = self.counts["queries"]
        own = [count for split, count in queries.items() if key.startswith(f"{split}_")]
        return own[0] if own else sum(count for split, count in queries.items() if split != "test")


class _Counts(BaseModel):
    queries: dict[str, int] = {}
    gallery: dict[str, int] = {}
    left_out: dict[str, int] = {}
    missing_images: dict[str, int] = {}


class _Weights(BaseModel):
    sha256: str


class _Metrics(BaseModel):
    """The entries of a metrics file that are not scores."""

    protocol: dict[str, Any]
    counts: _Counts
    stage1: dict[str, Any] | None = None
    weights: _Weights | None = None


def read_measured(facts: Facts, name: str, stage: int, checkpoint: Path, sha256: str) -> CardScores | None:
    """Reads the scores of the network from a metrics file; returns None if no file is given.

    A metrics file of the pipeline contains the scores of stage 2 and, under `stage1`, those of stage 1.

    Args:
        facts: contain the metrics file and its data set.
        name: the recipe or family of the network.
        stage: stage of the network.
        checkpoint: file, folder or name of the network, for messages.
        sha256: the hash that identifies its weights.

    Raises:
        InputError: the file is not a metrics file, is of another family or of other weights, contains no scores, or its
            data set is not given.
    """
    if facts.metrics is None:
        return None
    scored_on = (facts.scored_on or "").strip()
    if not scored_on:
        raise InputError(f"{facts.metrics}: does not contain its data set; name it with --scored-on NAME")
    content = read_json(facts.metrics)
    try:
        metrics = _Metrics.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{facts.metrics}: is not a metrics file ({first_problem(error)}); name one of `validate`"
        ) from None
    if (found := metrics.protocol.get("family")) != name:
        raise InputError(f"{facts.metrics}: contains scores of '{found}', the network is '{name}'; name the right file")
    if metrics.weights is not None and metrics.weights.sha256 != sha256:
        raise InputError(
            f"{facts.metrics}: contains scores of other weights than {checkpoint}; score these with `validate`"
        )
    scores = metrics.stage1 if stage == 1 and metrics.stage1 is not None else content
    flat = {key: float(value) for key, value in scores.items() if isinstance(value, (int, float))}
    if not flat or not all(map(isfinite, flat.values())):
        raise InputError(f"{facts.metrics}: contains no scores, or some that are not finite; name one of `validate`")
    return CardScores(flat, metrics.protocol, metrics.counts.model_dump(), scored_on)


def check_facts(facts: Facts) -> None:
    """Raises InputError for a licence that the hub would refuse on upload, and for data without a name."""
    licence = facts.licence
    if any(not name.strip() for name in facts.data):
        raise InputError("--data '': name what the network was trained on, or leave the option out")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise InputError(
            f"licence '{licence}': is not an identifier of the hub; write it as mit or cc-by-4.0, or other if the hub "
            "has none"
        )


def write_card(path: Path, config: Config, facts: Facts, measured: CardScores | None) -> None:
    """Writes the card with the hub's front matter."""
    from huggingface_hub import ModelCard, ModelCardData
    from jinja2 import Environment, PackageLoader, StrictUndefined

    data = ModelCardData(
        library_name=LIBRARY,
        license=facts.licence or UNKNOWN,
        pipeline_tag="feature-extraction",
        tags=["composed-image-retrieval", "image-retrieval", config.name],
        datasets=[each for each in facts.data if _HUB_ID.fullmatch(each)] or None,
        model_name=facts.name,
        eval_results=_results(measured) if measured else None,
    )
    environment = Environment(  # noqa: S701 - the template writes Markdown, no page
        loader=PackageLoader("spn4cir.checkpoints", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    body = environment.get_template("model_card.md").render(
        config=config,
        facts=facts,
        measured=measured,
        kinds=sorted({measured.split(key) for key in measured.scores}, reverse=True) if measured else [],
        splits=_splits(measured.counts) if measured else [],
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(path)


def _results(measured: CardScores) -> list[Any]:
    """Returns the scores in the hub's form, each with the protocol as the arguments of its data set."""
    from huggingface_hub import EvalResult

    slug = re.sub(r"[^a-z0-9_./-]+", "-", measured.dataset.lower()).strip("-")
    arguments = {key: value for key, value in measured.protocol.items() if isinstance(value, (str, int, float))}
    return [
        EvalResult(
            task_type="image-retrieval",
            task_name=_TASK,
            dataset_type=slug or UNKNOWN,
            dataset_name=measured.dataset,
            dataset_split=measured.split(key),
            dataset_args={**arguments, "query_count": measured.query_count(key)},
            metric_type=key,
            metric_name=f"{key} (percent)",
            metric_value=round(value, 4),
        )
        for key, value in measured.scores.items()
    ]


def _splits(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Returns one row per split: the numbers of queries, gallery images, queries left out and images missing."""
    columns = ("queries", "gallery", "left_out", "missing_images")
    return [
        {"split": split, **{column: counts[column].get(split, "") for column in columns}} for split in counts["queries"]
    ]
