"""Shared by all stages: command-line arguments, paths of their files, and the handling of bad input."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spn4cir.config.adjustments import RerankByWeights
from spn4cir.config.load import load_params
from spn4cir.config.params import PARAMS_FILE, LocalModel, Params, entry, of_dataset
from spn4cir.datasets import adapter_class, has_server, open_layout, with_server
from spn4cir.datasets.protocol import Layout
from spn4cir.errors import InputError, memory_error_line, os_error_line
from spn4cir.hub.variables import check_import_variables
from spn4cir.started import is_started_again
from spn4cir.streams import open_streams
from spn4cir.user import name_user
from stages.claim import claimed

DATA = Path("data")
CODE = DATA / "code"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Job:
    """One item of a stage's matrix.

    Attributes:
        params: the settings.
        dataset: name of the data set; empty for the stage that serves all data sets.
        family: name of the model family; empty for stages that serve all families.
        weights: data set whose trained weights are scored on a benchmark; empty for other stages.
    """

    params: Params
    dataset: str = ""
    family: str = ""
    weights: str = ""

    def layout(self) -> Layout:
        """The adapter of `data/raw/<dataset>`."""
        settings = of_dataset(self.params.datasets, self.dataset, "datasets")
        return open_layout(settings.layout, DATA / "raw" / self.dataset, settings.missing, settings.options)

    def place(self, stage: str) -> Path:
        """`data/<stage>/<dataset>`, followed by `/<family>` if the job has one."""
        return DATA / stage / self.dataset / self.family

    def shared(self, stage: str) -> Path:
        """`data/<stage>/<dataset>`: the folder of a stage that serves all families."""
        return DATA / stage / self.dataset

    def work(self, stage: str) -> Path:
        """`data/work/<stage>/<dataset>[-<family>]`: the folder of work in progress."""
        return DATA / "work" / stage / self._name

    def code_file(self, stage: str) -> Path:
        """`data/code/<stage>/<dataset>[-<family>].txt`: hashes of the code that the stage runs for this job."""
        return CODE / stage / f"{self._name}.txt"

    @property
    def _name(self) -> str:
        return "-".join(filter(None, (self.dataset, self.family)))

    def model(self, kind: str, source: LocalModel) -> Path:
        """The file or folder of a local model; `kind` is captioner, encoder or stage1/<family>."""
        path = DATA / "models" / self.dataset / kind / source.local
        if not path.exists():
            raise InputError(
                f"{path}: no such model file; put it there, or change models.{self.dataset} in params.yaml"
            )
        return path

    def of_family(self, families: dict[str, Value], name: str, family: str = "") -> Value:
        """The entry of a family (the job's own unless given) in settings of the data set.

        Raises InputError if there is no entry. `name` contains a field for the data set, as in `caption.{}.words`.
        """
        return entry(families, family or self.family, name.format(self.dataset))

    @property
    def dedup_file(self) -> Path:
        """The file of unique images that `dedup` writes."""
        return self.shared("dedup") / "optimized_images.json"

    @property
    def listing_file(self) -> Path:
        """The listing that `triplets` writes for recipes that learn only from generated triplets."""
        return DATA / "listing" / self.dataset / f"{self.family}.json"

    @property
    def stage1_file(self) -> Path:
        """The stage-1 weights that `checkpoint` writes."""
        return self.place("checkpoint") / "stage1.pt"


def reranker_file(dataset: str, family: str, by: RerankByWeights) -> Path:
    """The weights that rerank a pair's ranking. Raises InputError if they are absent."""
    path = DATA / "models" / dataset / "rerank" / by.weights.file
    if not path.is_file():
        key = f"adjust.{dataset}.{family}.rerank"
        raise InputError(f"{path}: no such file of weights; copy it there, or change {key} in params.yaml")
    return path


def run(stage: Callable[[Job], None], names: Sequence[str] = ("DATASET", "FAMILY")) -> None:
    """Runs a stage on the data set and family of the command line, unless another process runs it in this folder.

    A wrong call prints the usage and exits with status 2. A bad input, or a file that cannot be read or written, prints
    one line and exits with status 1. Ctrl-C exits with status 130.

    Args:
        stage: function to run.
        names: names of its command-line arguments.
    """
    open_streams()
    spec = sys.modules[stage.__module__].__spec__  # a script is named __main__
    module = spec.name if spec else stage.__module__
    if len(sys.argv) != 1 + len(names):
        print(f"usage: python -m {module} {' '.join(names)}", file=sys.stderr)
        raise SystemExit(2)
    try:
        name_user()
        check_import_variables()
        params = load_params()
        _check_layouts(params)
        _check_rerankers(params)
        with nullcontext() if is_started_again() else claimed(module.rpartition(".")[2], sys.argv[1:]):
            stage(Job(params, *sys.argv[1:]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {os_error_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    except MemoryError as error:
        print(f"error: {memory_error_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; run it again to continue", file=sys.stderr)
        raise SystemExit(130) from None


def _check_layouts(params: Params) -> None:
    """Raises InputError for layouts that the last stages of `run` would reject, hours after the first stage."""
    for dataset in params.run.submit:
        layout = params.datasets[dataset].layout
        if not has_server(layout):
            raise InputError(
                f"{PARAMS_FILE}: run.submit: '{dataset}' has layout {layout}, which has no test server; remove "
                f"it (layouts with a server: {with_server()})"
            )
    for benchmark in params.run.benchmarks:
        adapter_class(params.benchmarks[benchmark.name].layout)


def _check_rerankers(params: Params) -> None:
    """Raises InputError for absent weights that `validate` would ask for, hours after the first stage."""
    for dataset in params.run.datasets:
        for family in params.run.models:
            rerank = params.adjust[dataset][family].rerank
            if rerank and isinstance(rerank.by, RerankByWeights):
                reranker_file(dataset, family, rerank.by)
