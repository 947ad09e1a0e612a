"""What a report is about, as its stage collects it."""

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
    """A query with what came out; ranks count from 1.

    Attributes:
        query: its id within the split.
        stage1_rank: of its target by the stage-1 weights.
        top: the best candidates by the stage-2 weights, best first.
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
        settings: what `params.yaml` says of it, by section.
        inputs: sha256 by what was hashed.
        metrics: the metrics file.
        paper: the paper's figures beside the run's; None: none apply.
        recall_ks: the k of the layout's recalls, ascending.
        queries: every scored query.
        curves: the folders of figures, by what was trained.
        triplets: the generated triplets.
        captions: by image name.
        unique: the unique training images.
        samples: the images at some similarity ranks.
        window: of the family's partners; None: any other image.
        gallery_path: gives the path of a candidate image.
        triplet_path: gives the path of an image of a generated triplet.
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
    """The queries of a table that `validate` wrote. Raises InputError when it is absent or of another form."""
    names = [field.name for field in fields(Outcome)]
    try:
        rows = pq.read_table(path, columns=names).to_pylist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the validate stage") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: is not a table of queries ({str(error).splitlines()[0]}); run validate") from None
    return tuple(Outcome(**row | {"top": tuple(row["top"])}) for row in rows)
