"""Protocols of annotation layouts. Only layouts know the file names of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from spn4cir.datasets.published_names import PublishedNames
from spn4cir.datasets.splits import Assigned
from spn4cir.types import CaptionedImage, EvaluationSplit, Gallery, Triplet


@dataclass(frozen=True)
class SubmissionFile:
    """One file of a server: a JSON object of its header and, by query id, a list of image names.

    Attributes:
        metric: the metric that the server computes.
        pattern: its name, with the field `{name}`.
        count: how many names a query has.
        query: the noun of a query id, as in `pair`.
        split: name of the test split.
        header: further keys and values of the file.
        of_subset: the names are of the query's subset alone.
        integers: names are written as integers.
        own_reference: a query may list its own reference.
        max_bytes: how large it may be; None: no limit is known.
    """

    metric: str
    pattern: str
    count: int
    query: str
    split: str
    header: Mapping[str, str] = field(default_factory=dict)
    of_subset: bool = False
    integers: bool = False
    own_reference: bool = False
    max_bytes: int | None = None


Scores = dict[str, float]


@dataclass(frozen=True)
class EvaluationProtocol:
    """Which figures the queries of a data set are scored by, and the rules that the metrics file states.

    Attributes:
        gallery: which images a gallery contains.
        captions: how the captions of a query become one text.
        recall_ks: the k of the recalls over the whole gallery; empty where there are none.
        subset_ks: the k of the recalls within each query's subset; empty where there are none.
        map_ks: the k of the mean average precision over all targets of a query; empty where there is none.
        selection: key of the score by which the best epoch is kept; empty for a data set without a training split.
        queries: who wrote the queries.
        parts: the categories or tasks that are read, by the setting's name; empty where all are, or there are none.
        assigned: how rows or queries that state no split came into theirs; empty where all state it.
    """

    gallery: str
    captions: str
    recall_ks: tuple[int, ...] = ()
    subset_ks: tuple[int, ...] = ()
    map_ks: tuple[int, ...] = ()
    selection: str = ""
    queries: str = "annotated"
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    assigned: Sequence[Assigned] = ()


@dataclass(frozen=True)
class AnnotatedSplit:
    """The content of a split's annotation files, whether or not its images are on disk.

    Attributes:
        split: `train`, `val`, `test`, `test1`.
        triplets: its triplets.
        images: paths of the images that the split needs; a triplet that names another image is of no use.
        listed: the names that the annotation files say; None: all of `images`.
        category: FashionIQ's dress, shirt or toptee; empty where there is none.
        setting: the setting that chooses this category or task; empty where none does.
        absent: the fault that is reported for a name that a triplet has and `images` lacks.
        whole_subsets: whether a triplet is of use only with every image of its subset.
    """

    split: str
    triplets: tuple[Triplet, ...]
    images: Mapping[str, Path]
    listed: frozenset[str] | None = None
    category: str = ""
    setting: str = ""
    absent: str = "is absent from the split file"
    whole_subsets: bool = False


class Benchmark(Protocol):
    """Queries with their galleries over one root folder, as evaluation and check-data read them.

    Attributes:
        published: name of this layout's published settings in `params.yaml`.
    """

    published: ClassVar[str]

    @property
    def protocol(self) -> EvaluationProtocol:
        """Which figures the queries are scored by, and the rules that the metrics file states."""

    @property
    def official(self) -> Mapping[str, int]:
        """Totals of the data set as published, by what they count (`val triplets`, `val dress images`, ...)."""

    @property
    def root(self) -> Path:
        """The folder of the data set; it is only read."""

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folders of its images; empty where they contain images of other data sets too."""

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """The validation queries with their galleries; none where none are annotated and none were held out.

        A query whose target is its own reference, or that lacks an image, is an InputError, or left out under `skip`.
        """

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """The flat scores of the metrics file, from those of each split (`recall_at10`, `map_at10`, ...)."""

    @property
    def absent_splits(self) -> tuple[str, ...]:
        """The published splits that a stage reads and whose annotation files are not in the folder."""

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """The splits whose annotation files are in the folder, whatever `missing`.

        Raises InputError for a damaged file, and where there are no annotation files.
        """


class Submittable(Benchmark, Protocol):
    """A benchmark whose test queries a server scores.

    Attributes:
        submission: the files that the server takes.
    """

    submission: ClassVar[tuple[SubmissionFile, ...]]

    def test_split(self) -> EvaluationSplit:
        """The test queries, which have no targets."""

    def test_queries(self) -> tuple[tuple[Triplet, ...], tuple[str, ...]]:
        """The test queries and the names of the test gallery, from the annotation files alone."""

    def other_queries(self) -> Mapping[str, tuple[Triplet, ...]]:
        """Queries of other splits over the same gallery, by split; the authors' scripts score files of them."""


class Layout(Benchmark, Protocol):
    """A benchmark with a training split."""

    def image_path(self, name: str) -> Path:
        """Path of the training image `name`; the file may be absent."""

    def training_triplets(self) -> tuple[Triplet, ...]:
        """The annotated training triplets, in file order; those with a missing image left out under `skip`."""

    def training_gallery(self) -> Gallery:
        """The images that annotated training triplets name: in file order, reference before target."""

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """The images to caption: all of the train split files, or those that triplets name.

        A name that comes twice is captioned twice, and the last caption counts.
        """

    @property
    def names(self) -> PublishedNames:
        """Names of the files of captions, unique images and generated triplets."""

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """A generated triplet as the original code reads it."""

    def read_generated(self, path: Path) -> tuple[Triplet, ...]:
        """The generated triplets of a file."""

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[tuple[Triplet, ...], tuple[Triplet, ...]]:
        """The generated triplets to learn from, and those that are held out as queries where none are annotated."""

    def with_queries(self, generated: Sequence[Triplet], of: int) -> Self:
        """The layout scored by these queries, held out of so many generated triplets, where none are annotated."""
