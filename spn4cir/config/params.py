"""The settings: `params.yaml` as frozen models. Unknown keys are errors; values have no defaults here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from spn4cir.config.base import Positive, Settings
from spn4cir.config.positives import Caption, Dedup, Match, Triplets
from spn4cir.config.training import BankSettings, CheckpointSettings, Train
from spn4cir.errors import InputError

PARAMS_FILE = "params.yaml"


class ScoredBenchmark(Settings):
    """A benchmark, and the data set whose trained weights are scored on it."""

    name: str
    weights: str


class RunSettings(Settings):
    """Which pipelines exist."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    submit: tuple[str, ...]
    benchmarks: tuple[ScoredBenchmark, ...]


class Machine(Settings):
    """Where the work runs; not part of any result, so no stage depends on it."""

    device: str
    workers: Annotated[int, Field(ge=0)]


class Hub(Settings):
    """The hub repository of the published files."""

    repository: str
    revision: str


class TableSettings(Settings):
    """Of layout `table`: which files hold what, as patterns of paths, and what their columns are called.

    `split` is that of all rows, whatever files and columns state.
    """

    files: str | None = None
    images: str | None = None
    targets: str | None = None
    split: Literal["train", "val", "test"] | None = None
    columns: dict[str, str] | None = None


class HubData(Settings):
    """The repository of a data set on the hub, which `add-dataset` fetches; `revision` is a commit."""

    repository: str
    revision: str


class Dataset(Settings):
    """How the folder `data/raw/<dataset>` is read; `pool`: the parts of `data/pool/<dataset>`, null all of them.

    `annotations` (a file, its path from that folder), `held_out` (a share of the queries), `table` and `categories` are
    for layouts that take them; what is absent or null is left to the layout. `hub` says where the folder came from.
    """

    layout: str
    missing: Literal["error", "skip"]
    pool: tuple[Annotated[int, Field(ge=0)], ...] | None
    annotations: str | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    table: TableSettings | None = None
    categories: tuple[str, ...] | None = None
    hub: HubData | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The settings that not every layout takes, those that are set."""
        return self.model_dump(include={"annotations", "held_out", "table", "categories"}, exclude_none=True)


class HubModel(Settings):
    """A model that the Hugging Face hub serves."""

    hub: str
    revision: str | None = None


class OpenClipModel(Settings):
    """A model that open_clip knows by architecture and pretraining tag."""

    open_clip: str
    tag: str


class LocalModel(Settings):
    """A file or folder under `data/models/<dataset>/...`; `.` is that folder itself."""

    local: str


class Models(Settings):
    """Where each model of a data set comes from; a local tokenizer is in the folder of each family's model."""

    captioner: HubModel | LocalModel
    encoder: LocalModel
    tokenizer: HubModel | LocalModel
    stage1: dict[str, HubModel | LocalModel | OpenClipModel]


class Validate(Settings):
    """The evaluation protocol and what is kept of each query."""

    remove_reference: bool
    capitalise: bool
    batch_size: Positive
    sheet_queries: Positive


class BenchmarkSettings(Settings):
    """How the folder `data/raw/<benchmark>` is read and scored. `query_text`: of layouts that make texts of fields.

    `tasks` is for layouts of several tasks; absent or null: all of them.
    """

    layout: str
    missing: Literal["error", "skip"]
    query_text: str
    tasks: tuple[str, ...] | None = None
    validate_: Annotated[Validate, Field(alias="validate")]

    @property
    def options(self) -> dict[str, Any]:
        """The settings that not every layout takes."""
        return self.model_dump(include={"query_text", "tasks"}, exclude_none=True)


class Shortcuts(Settings):
    """What `validate` measures beside the scores where `enabled`: parts of queries alone, paraphrases, hard negatives.

    `paraphrases` is a JSON file below the data set's root: other texts by text; null: the templates alone. `lookalikes`
    and `text_matches`: how many images most like the reference, and best for the text alone, count as hard negatives.
    """

    enabled: bool
    templates: tuple[str, ...]
    paraphrases: str | None
    lookalikes: Annotated[int, Field(gt=0, le=50)]
    text_matches: Annotated[int, Field(gt=0, le=50)]

    @model_validator(mode="after")
    def _templates_have_the_field(self) -> "Shortcuts":
        for template in self.templates:
            try:
                fits = template.format(text="\0") != template.format(text="")
            except (LookupError, ValueError, TypeError, AttributeError):
                fits = False
            if not fits:
                raise ValueError(f"a template has the field {{text}} and no other, got '{template}'")
        return self


class Report(Settings):
    """How much the report shows of what there is."""

    examples: Positive
    queries: Positive
    triplets: Positive
    duplicates: Positive
    windows: Positive
    thumbnail: Annotated[int, Field(ge=16, le=512)]


class Params(Settings):
    """The whole file."""

    run: RunSettings
    seed: Annotated[int, Field(ge=0, lt=1 << 32)]
    machine: Machine
    hub: Hub
    datasets: dict[str, Dataset]
    models: dict[str, Models]
    dedup: dict[str, Dedup]
    caption: dict[str, Caption]
    match: dict[str, Match]
    triplets: dict[str, dict[str, Triplets]]
    checkpoint: dict[str, dict[str, CheckpointSettings]]
    bank: dict[str, dict[str, BankSettings]]
    train: dict[str, dict[str, Train]]
    validate_: Annotated[dict[str, dict[str, Validate]], Field(alias="validate")]
    shortcuts: dict[str, Shortcuts]
    benchmarks: dict[str, BenchmarkSettings]
    report: Report


Value = TypeVar("Value")


def of_dataset(section: Mapping[str, Value], dataset: str, name: str) -> Value:
    """The settings of one data set. Raises InputError when there are none."""
    if dataset not in section:
        known = ", ".join(section) or "none"
        raise InputError(
            f"{PARAMS_FILE}: {name}.{dataset} is not set (data sets there: {known}); "
            "check the name, or add it: a data set by spn4cir add-dataset, a benchmark's entry by hand"
        )
    return section[dataset]


def of_family(section: Mapping[str, Mapping[str, Value]], dataset: str, family: str, name: str) -> Value:
    """The settings of one data set and family. Raises InputError when there are none."""
    return entry(of_dataset(section, dataset, name), family, f"{name}.{dataset}")


def entry(families: Mapping[str, Value], family: str, name: str) -> Value:
    """The entry of a family under the key `name`. Raises InputError when there is none."""
    if family not in families:
        raise InputError(
            f"{PARAMS_FILE}: {name}.{family} is not set (families there: {', '.join(families) or 'none'}); "
            "check the name, or add settings for this family"
        )
    return families[family]


def protocol_of(params: Params, name: str, family: str) -> Validate:
    """The evaluation protocol of a benchmark, or of a data set and family. Raises InputError if there is none."""
    if name in params.benchmarks:
        return params.benchmarks[name].validate_
    return of_family(params.validate_, name, family, "validate")
