"""The results of a run that a report shows, as its stage collects them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.comparison.paper import PaperComparison
from spn4cir.errors import InputError
from spn4cir.positives.partners import Window
from spn4cir.positives.rank_samples import RankSamples
from spn4cir.types import Triplet, UniqueImages


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query with its results; ranks start at 1.

    Attributes:
        split: name of the split.
        query: id of the query within the split.
        reference: name of the reference.
        text: text of the query.
        target: name of the target.
        rank: rank of the target with the stage-2 weights.
        stage1_rank: rank of the target with the stage-1 weights.
        top: names of the best candidates with the stage-2 weights, best first.
    """

    split: str
    query: int
    reference: str
    text: str
    target: str
    rank: int
    stage1_rank: int
    top: tuple[str, ...]


@dataclass(frozen=True)
class RunResults:
    """A pipeline's results for one data set and family.

    Attributes:
        dataset: name of the data set.
        family: name of the family.
        settings: settings of the data set and family, by section of `params.yaml`.
        inputs: sha256 hashes of the inputs, by name.
        metrics: content of the metrics file.
        paper: the paper's scores beside those of the run; None if the paper has none for it.
        recall_ks: values of k of the layout's recalls, ascending.
        queries: all scored queries.
        curves: folders of training curves, by the name of the training.
        triplets: the generated triplets.
        captions: captions by image name.
        unique: the unique training images.
        samples: sampled images at similarity ranks.
        window: window of the family's partners; None for any other image.
        gallery_path: function from the name of a candidate image to its path.
        triplet_path: function from the name of an image of a generated triplet to its path.
    """

    dataset: str
    family: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    metrics: Mapping[str, Any]
    paper: PaperComparison | None
    recall_ks: tuple[int, ...]
    queries: tuple[Outcome, ...]
    curves: Mapping[str, Path]
    triplets: tuple[Triplet, ...]
    captions: Mapping[str, str]
    unique: UniqueImages
    samples: RankSamples
    window: Window | None
    gallery_path: Callable[[str], Path]
    triplet_path: Callable[[str], Path]


def read_outcomes(path: Path) -> tuple[Outcome, ...]:
    """Reads the table of queries that `validate` wrote. Raises InputError if it is absent or has another form."""
    names = [field.name for field in fields(Outcome)]
    try:
        rows = pq.read_table(path, columns=names).to_pylist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the validate stage") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: is not a table of queries ({str(error).splitlines()[0]}); run validate") from None
    return tuple(Outcome(**row | {"top": tuple(row["top"])}) for row in rows)
