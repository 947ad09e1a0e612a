"""Models of `params.yaml`. They are frozen and reject unknown keys; default values are in the file, not here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from spn4cir.config.adjustments import Adjustments
from spn4cir.config.base import Positive, Settings
from spn4cir.config.machine import Machine
from spn4cir.config.positives import Caption, Dedup, Filter, Match, Triplets
from spn4cir.config.training import BankSettings, CheckpointSettings, Train
from spn4cir.errors import InputError

PARAMS_FILE = "params.yaml"
# Prefix of the name of a pretrained network in a folder, and the file with its configuration.
LOCAL_NETWORK, NETWORK_CONFIG = "local-dir:", "open_clip_config.json"


class ScoredBenchmark(Settings):
    """A benchmark to score; `weights` is the data set that the scored weights are trained on."""

    name: str
    weights: str


class RunSettings(Settings):
    """The data sets, families, submissions and benchmarks that `dvc repro` runs."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    submit: tuple[str, ...]
    benchmarks: tuple[ScoredBenchmark, ...]


class Hub(Settings):
    """The hub repository with the published files."""

    repository: str
    revision: str


class TableSettings(Settings):
    """Settings of layout `table`: patterns of its files (`files`, `images`, `targets`) and the names of their columns.

    `split` is the split of all rows; it overrides the names of files and a column of splits.
    """

    files: str | None = None
    images: str | None = None
    targets: str | None = None
    split: Literal["train", "val", "test"] | None = None
    columns: dict[str, str] | None = None


class HubData(Settings):
    """The hub repository that `add-dataset` downloads a data set from; `revision` is a commit."""

    repository: str
    revision: str


class Dataset(Settings):
    """Settings for reading the folder `data/raw/<dataset>`.

    `pool` lists the parts of `data/pool/<dataset>` to read; null reads all. `annotations` (path of a file relative to
    the folder), `held_out` (share that is held out for validation), `table` and `categories` are for layouts that take
    them; if they are absent or null, the layout's own default is used. `hub` is the origin of a downloaded folder.
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
        """The settings that are set and that only some layouts take."""
        return self.model_dump(include={"annotations", "held_out", "table", "categories"}, exclude_none=True)


class HubModel(Settings):
    """A model that the Hugging Face hub serves."""

    hub: str
    revision: str | None = None


class OpenClipModel(Settings):
    """A model of open_clip, named by architecture and pretraining tag."""

    open_clip: str
    tag: str


class LocalModel(Settings):
    """A file or folder, relative to the model's folder in `data/models/<dataset>`; `.` is that folder itself."""

    local: str


class ServedCaptioner(Settings):
    """A captioner behind OpenAI-compatible URLs.

    `served` is a name in `machine.endpoints`, and `model` the model's name at the servers.
    """

    served: str
    model: str


class Models(Settings):
    """The source of each model of a data set; a local tokenizer is in the folder of each family's model.

    Without a captioner (null), no captions are made; without an encoder (null), no partners are found.
    """

    captioner: HubModel | LocalModel | ServedCaptioner | None
    encoder: LocalModel | None
    tokenizer: HubModel | LocalModel
    stage1: dict[str, HubModel | LocalModel | OpenClipModel]


class ScoringSettings(Settings):
    """The evaluation protocol, and the batch size of the encoding."""

    remove_reference: bool
    capitalise: bool
    batch_size: Positive


class Validate(ScoringSettings):
    """The evaluation protocol, and the number of queries on a contact sheet."""

    sheet_queries: Positive


class Baselines(ScoringSettings):
    """The pretrained networks that are scored without training, and their evaluation protocol.

    The folder of a name `local-dir:FOLDER` is relative to `data/models/<dataset>/baselines`.
    """

    networks: tuple[str, ...]

    @field_validator("networks")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"'{twice}' is listed {names.count(twice)} times; list it once")
        return names


class BenchmarkSettings(Settings):
    """Settings for reading and scoring the folder `data/raw/<benchmark>`.

    `query_text` is the template of query texts, for layouts that build them from fields. `tasks` is for layouts with
    several tasks; if it is absent or null, all tasks are scored.
    """

    layout: str
    missing: Literal["error", "skip"]
    query_text: str
    tasks: tuple[str, ...] | None = None
    validate_: Annotated[Validate, Field(alias="validate")]

    @property
    def options(self) -> dict[str, Any]:
        """The settings that are set and that only some layouts take."""
        return self.model_dump(include={"query_text", "tasks"}, exclude_none=True)


class Shortcuts(Settings):
    """Settings of the shortcut tests of `validate`: parts of queries alone, paraphrases and hard negatives.

    The tests run if `enabled`. `paraphrases` is a JSON file, relative to the data set's root, that maps each text to
    other texts; null uses only `templates`. The hard negatives of a query are the `lookalikes` images most similar to
    its reference and the `text_matches` images that match its text alone best.
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
    """The number of items of each kind that the report shows, and the size of its thumbnails in pixels."""

    examples: Positive
    queries: Positive
    triplets: Positive
    duplicates: Positive
    windows: Positive
    thumbnail: Annotated[int, Field(ge=16, le=512)]


class Params(Settings):
    """The content of `params.yaml`."""

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
    filter: dict[str, dict[str, Filter]]
    train: dict[str, dict[str, Train]]
    validate_: Annotated[dict[str, dict[str, Validate]], Field(alias="validate")]
    adjust: dict[str, dict[str, Adjustments]]
    shortcuts: dict[str, Shortcuts]
    baselines: dict[str, Baselines]
    benchmarks: dict[str, BenchmarkSettings]
    report: Report


Value = TypeVar("Value")


def of_dataset(section: Mapping[str, Value], dataset: str, name: str) -> Value:
    """Returns a section's settings of one data set. Raises InputError if there are none."""
    if dataset not in section:
        known = ", ".join(section) or "none"
        raise InputError(
            f"{PARAMS_FILE}: {name}.{dataset} is not set (data sets there: {known}); "
            "check the name, or add it: a data set by spn4cir add-dataset, a benchmark's entry by hand"
        )
    return section[dataset]


def of_family(section: Mapping[str, Mapping[str, Value]], dataset: str, family: str, name: str) -> Value:
    """Returns a section's settings of one data set and family. Raises InputError if there are none."""
    return entry(of_dataset(section, dataset, name), family, f"{name}.{dataset}")


def entry(families: Mapping[str, Value], family: str, name: str) -> Value:
    """Returns the entry of a family under the key `name`. Raises InputError if there is none."""
    if family not in families:
        raise InputError(
            f"{PARAMS_FILE}: {name}.{family} is not set (families there: {', '.join(families) or 'none'}); "
            "check the name, or add settings for this family"
        )
    return families[family]


def protocol_of(params: Params, name: str, family: str) -> Validate:
    """Returns the evaluation protocol of a benchmark, or of a data set and family. Raises InputError for neither."""
    if name in params.benchmarks:
        return params.benchmarks[name].validate_
    return of_family(params.validate_, name, family, "validate")
