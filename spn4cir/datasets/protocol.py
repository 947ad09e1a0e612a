"""Protocols that annotation layouts implement. Only layouts know the file names of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from spn4cir.datasets.published_names import PublishedNames
from spn4cir.datasets.splits import Assigned
from spn4cir.types import CaptionedImage, EvaluationSplit, Gallery, Triplet


@dataclass(frozen=True)
class SubmissionFile:
    """A file for a test server: a JSON object with header keys and, by query id, a list of image names.

    Attributes:
        metric: the metric that the server computes.
        pattern: file name, with the field `{name}`.
        count: number of names per query.
        query: noun for a query, used before its id in messages, e.g. `pair`.
        split: name of the test split.
        header: further keys and values of the file.
        of_subset: whether a query lists only names of its subset.
        integers: whether names are written as integers.
        own_reference: whether a query may list its own reference.
        max_bytes: largest size that the server accepts; None if no limit is known.
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
    """The metrics of a data set's queries, and the rules that the metrics file states.

    Attributes:
        gallery: rule that says which images a gallery contains.
        captions: rule that turns the captions of a query into one text.
        recall_ks: values of k for recalls over the whole gallery; empty for no such recalls.
        subset_ks: values of k for recalls within each query's subset; empty for no such recalls.
        map_ks: values of k for the mean average precision over all targets of a query; empty for none.
        selection: key of the score that selects the best epoch; empty for a data set without a training split.
        queries: origin of the queries, e.g. `annotated`.
        parts: categories or tasks that are read, by the setting's name; empty if all are read or the layout has none.
        assigned: rows or queries that state no split, with the rule that assigned one; empty if all state it.
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
        split: name of the split: `train`, `val`, `test`, `test1` or a task.
        triplets: the triplets of the split.
        images: paths of the images that the split needs; a triplet that names another image cannot be used.
        listed: names that the annotation files list; None for all of `images`.
        category: FashionIQ's dress, shirt or toptee; empty for no category.
        setting: the setting that chooses this category or task; empty for none.
        absent: fault that is reported for an image that a triplet names and `images` lacks.
        whole_subsets: whether a triplet can be used only if all images of its subset are on disk.
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
    """Queries and their galleries in one root folder, as evaluation and check-data read them.

    Attributes:
        published: name of the layout's published settings in `params.yaml`.
    """

    published: ClassVar[str]

    @property
    def protocol(self) -> EvaluationProtocol:
        """The metrics of the queries, and the rules that the metrics file states."""

    @property
    def official(self) -> Mapping[str, int]:
        """Published totals of the data set, by name (`val triplets`, `val dress images`, ...)."""

    @property
    def root(self) -> Path:
        """The folder of the data set; nothing is written to it."""

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """The folders of the data set's images; empty if they also contain images of other data sets."""

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns the validation queries with their galleries; empty if none are annotated or held out.

        Raises InputError for a query that has its reference as its target or lacks an image; under `missing=skip`
        such queries are left out.
        """

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns the flat scores of the metrics file, from those of each split (`recall_at10`, `map_at10`, ...)."""

    @property
    def absent_splits(self) -> tuple[str, ...]:
        """The published splits that a stage reads and that have no annotation files in the folder."""

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns the splits that have annotation files in the folder, with all triplets, whatever `missing` says.

        Raises InputError for a damaged file, and if there are no annotation files.
        """


class Submittable(Benchmark, Protocol):
    """A benchmark with test queries that a server scores.

    Attributes:
        submission: the files that the server accepts.
    """

    submission: ClassVar[tuple[SubmissionFile, ...]]

    def test_split(self) -> EvaluationSplit:
        """Returns the test queries, which have no targets, and their gallery."""

    def test_queries(self) -> tuple[tuple[Triplet, ...], tuple[str, ...]]:
        """Returns the test queries and the names of the test gallery, from the annotation files alone."""

    def other_queries(self) -> Mapping[str, tuple[Triplet, ...]]:
        """Returns the queries of other splits over the test gallery, by split; the authors' scripts can score them."""


class Layout(Benchmark, Protocol):
    """A benchmark with a training split."""

    def image_path(self, name: str) -> Path:
        """Returns the path of the training image `name`; the file may be absent."""

    def training_triplets(self) -> tuple[Triplet, ...]:
        """Returns the annotated training triplets, in file order; under `skip`, without those that lack an image."""

    def training_gallery(self) -> Gallery:
        """Returns the images that annotated training triplets name: in file order, reference before target."""

    def caption_images(self, scope: Literal["split", "triplets"]) -> tuple[CaptionedImage, ...]:
        """Returns the images to caption: all images of the train split files, or those that triplets name.

        A name that occurs twice is captioned twice, and its last caption is used.
        """

    @property
    def names(self) -> PublishedNames:
        """Names of the files of captions, unique images and generated triplets."""

    def generated_record(self, triplet: Triplet, reference_caption: str, target_caption: str) -> dict[str, Any]:
        """Returns the record of a generated triplet in the form that the original code reads."""

    def read_generated(self, path: Path) -> Sequence[Triplet]:
        """Reads the generated triplets of a file."""

    def hold_out(self, generated: Sequence[Triplet]) -> tuple[Sequence[Triplet], Sequence[Triplet]]:
        """Divides generated triplets into training triplets and, if no queries are annotated, held-out queries."""

    def with_queries(self, generated: Sequence[Triplet], of: int) -> Self:
        """Returns the layout with these held-out queries, or the layout itself if queries are annotated.

        Args:
            generated: the held-out queries.
            of: number of generated triplets before some were held out.
        """
