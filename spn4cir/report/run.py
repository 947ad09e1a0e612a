"""The results of a run that a report shows, as its stage collects them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spn4cir.comparison.compare import ComparedRuns, Comparison
from spn4cir.comparison.paper import PaperComparison
from spn4cir.comparison.query_pairs import QueryPair
from spn4cir.positives.filter_table import FilteredTriplets
from spn4cir.positives.partners import Window
from spn4cir.positives.rank_samples import RankSamples
from spn4cir.report.image_lookup import Lookup
from spn4cir.types import Triplet, UniqueImages


@dataclass(frozen=True)
class RunResults:
    """A pipeline's results for one data set and family.

    Attributes:
        dataset: name of the data set.
        family: name of the family.
        settings: settings of the data set and family, by section of `params.yaml`.
        inputs: sha256 hashes of the inputs, by name.
        date: date on which the queries were scored, as in `2026-01-31`.
        metrics: content of the metrics file.
        stages: comparison of stage 2 with stage 1.
        adjusted: comparison of each adjusted ranking of stage 2 with its plain ranking, by name.
        baselines: flat scores without training, by the name of a network and the rule that composes the queries.
        paper: the paper's scores beside those of the run; None if the paper has none for it.
        recall_ks: values of k of the layout's recalls, ascending.
        queries: all scored queries with the answers of stage 1 and stage 2.
        curves: folders of training curves, by the name of the training.
        triplets: the generated triplets.
        filtered: which of them stage 2 uses; None if the filter is off.
        text_origin: who wrote their texts, if a language model did; otherwise empty, or the origin of a published file.
        captions: captions by image name.
        unique: the unique training images.
        samples: sampled images at similarity ranks.
        window: window of the family's partners; None for any other image.
        images: lookup of the images of the queries and galleries.
        triplet_path: function from the name of an image of a generated triplet to its path.
    """

    dataset: str
    family: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    date: str
    metrics: Mapping[str, Any]
    stages: ComparedRuns
    adjusted: Mapping[str, Comparison]
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    paper: PaperComparison | None
    recall_ks: tuple[int, ...]
    queries: tuple[QueryPair, ...]
    curves: Mapping[str, Path]
    triplets: Sequence[Triplet]
    filtered: FilteredTriplets | None
    text_origin: Mapping[str, Any]
    captions: Mapping[str, str]
    unique: UniqueImages
    samples: RankSamples
    window: Window | None
    images: Lookup
    triplet_path: Callable[[str], Path]
