"""The card of an exported network: what it is, how it was scored, of what it was made, and how to load it."""

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
from spn4cir.files import file_hash, read_json

UNKNOWN = "unknown"
# What can be a data set's name on the hub; other words stand in the card's text alone.
_HUB_ID = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")
# The hub refuses a card whose licence is no identifier.
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_TASK = "Composed image retrieval"


@dataclass(frozen=True)
class Facts:
    """What the weights do not tell.

    Attributes:
        name: of the model.
        licence: of the weights, by the hub's identifier; None: not known.
        data: what it was trained on, as ids of the hub's data sets or in words.
        metrics: what `validate` wrote; None: no scores.
        scored_on: the data set of the scores.
    """

    name: str
    licence: str | None = None
    data: tuple[str, ...] = ()
    metrics: Path | None = None
    scored_on: str | None = None


@dataclass(frozen=True)
class CardScores:
    """Scores with what they mean.

    Attributes:
        scores: in percent, by key.
        protocol: how they came about.
        counts: of queries and pictures, by split.
        dataset: whose queries.
    """

    scores: dict[str, float]
    protocol: dict[str, Any]
    counts: dict[str, dict[str, int]]
    dataset: str

    def split(self, key: str) -> str:
        """Which queries a score is of: `validation` or `test`."""
        return "test" if key.startswith("test_") else "validation"

    def query_count(self, key: str) -> int:
        """How many queries a score is of: its own split's or category's, else those of all that choose something."""
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
    """What of a metrics file is not a score."""

    protocol: dict[str, Any]
    counts: _Counts
    stage1: dict[str, Any] | None = None
    weights: _Weights | None = None


def read_measured(facts: Facts, name: str, stage: int, weights: Path) -> CardScores | None:
    """The scores of a metrics file; None where none is named.

    A file of the pipeline holds stage 2's scores and, under `stage1`, those before it: each stage takes its own.

    Args:
        facts: name the file and its data set.
        name: the recipe or family of the network.
        stage: of the network.
        weights: the file of its weights.

    Raises:
        InputError: the file is no metrics file, or of another family or of other weights, holds no scores, or its data
            set is not named.
    """
    if facts.metrics is None:
        return None
    scored_on = (facts.scored_on or "").strip()
    if not scored_on:
        raise InputError(f"{facts.metrics}: does not say which data set it is of; name it with --scored-on NAME")
    content = read_json(facts.metrics)
    try:
        metrics = _Metrics.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{facts.metrics}: is no metrics file ({first_problem(error)}); name one of `validate`"
        ) from None
    if (found := metrics.protocol.get("family")) != name:
        raise InputError(f"{facts.metrics}: holds scores of '{found}', the network is '{name}'; name the right file")
    if metrics.weights is not None and metrics.weights.sha256 != file_hash(weights):
        raise InputError(f"{facts.metrics}: holds scores of other weights than {weights}; score these with `validate`")
    scores = metrics.stage1 if stage == 1 and metrics.stage1 is not None else content
    flat = {key: float(value) for key, value in scores.items() if isinstance(value, (int, float))}
    if not flat or not all(map(isfinite, flat.values())):
        raise InputError(f"{facts.metrics}: holds no scores, or some that are no numbers; name one of `validate`")
    return CardScores(flat, metrics.protocol, metrics.counts.model_dump(), scored_on)


def check_facts(facts: Facts) -> None:
    """Refuses a licence that the hub would refuse when the card is uploaded, and data without a name."""
    licence = facts.licence
    if any(not name.strip() for name in facts.data):
        raise InputError("--data '': name what the network was trained on, or leave the option out")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise InputError(
            f"licence '{licence}': is no identifier of the hub's; write it as mit or cc-by-4.0, or other where the hub "
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
    environment = Environment(
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
    """The scores in the hub's form, each with the protocol as the arguments of its data set."""
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
    """A row a split: how many queries, pictures, and how many of each were left out."""
    columns = ("queries", "gallery", "left_out", "missing_images")
    return [
        {"split": split, **{column: counts[column].get(split, "") for column in columns}} for split in counts["queries"]
    ]
