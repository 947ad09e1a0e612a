"""code: lists the code that each stage runs, one file for each item of its matrix, so that an edit reruns only what
it changes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from spn4cir.composers import COMPOSERS
from spn4cir.config.adjustments import RerankByWeights
from spn4cir.config.params import Params, of_dataset
from spn4cir.datasets import LAYOUTS
from spn4cir.errors import InputError
from spn4cir.files import atomic_folder
from stages.captioners import CAPTIONERS, captioner_kind
from stages.common import CODE, Job, run
from stages.fingerprint import Sources
from stages.rerankers import RERANKERS, reranker_kind
from stages.writers import WRITERS

# The family whose modules a stage of all families runs; empty: none.
OF_DATASET = {"dedup": "", "caption": "", "match": "", "baselines": "clip"}
OF_PAIR = ("triplets", "checkpoint", "bank", "gallery", "filter", "train", "validate", "report")
OF_SUBMISSION = ("submit_gallery", "submit")
OF_BENCHMARK = ("benchmark_gallery", "benchmark")
_ROOT = Path(__file__).parents[1]


def main(job: Job) -> None:
    """Writes `data/code/<stage>/<dataset>[-<family>].txt`: `<hash> <path>` of each file that the stage can run.

    Of all layouts, families, captioners, writers of triplets and rerankers, a file contains only those of its data set
    and family.
    """
    sources = Sources(_ROOT)
    with atomic_folder(CODE) as folder:
        for stage, item, layout in jobs(job.params):
            family = OF_DATASET.get(stage, item.family)
            path = folder / item.code_file(stage).relative_to(CODE)
            path.parent.mkdir(exist_ok=True)
            second = second_family(item) if stage == "validate" else frozenset()
            left_out = (others(layout, family) | unchosen(job.params, item)) - second
            path.write_text(sources.fingerprint(f"stages.{stage}", left_out), encoding="utf-8")


def jobs(params: Params) -> Iterator[tuple[str, Job, str]]:
    """Every stage that `run` selects, with the items of its matrix and the layout of each item's data set."""
    chosen = params.run
    layouts = {
        name: of_dataset(params.datasets, name, "datasets").layout for name in (*chosen.datasets, *chosen.submit)
    }
    for dataset in chosen.datasets:
        yield from ((stage, Job(params, dataset), layouts[dataset]) for stage in OF_DATASET)
    for family in chosen.models:
        for dataset in chosen.datasets:
            yield from ((stage, Job(params, dataset, family), layouts[dataset]) for stage in OF_PAIR)
        for dataset in chosen.submit:
            yield from ((stage, Job(params, dataset, family), layouts[dataset]) for stage in OF_SUBMISSION)
        for name in dict.fromkeys(each.name for each in chosen.benchmarks):
            layout = of_dataset(params.benchmarks, name, "benchmarks").layout
            yield from ((stage, Job(params, name, family), layout) for stage in OF_BENCHMARK)


def others(layout: str, family: str) -> frozenset[str]:
    """The modules of all other layouts and families; only of layouts if `family` is empty.

    Raises InputError for an unknown layout or family.
    """
    families = {name: entry.target for name, entry in COMPOSERS.items()}
    return _others("layout", LAYOUTS, layout) | (_others("family", families, family) if family else frozenset())


def unchosen(params: Params, item: Job) -> frozenset[str]:
    """The modules of the captioners, writers of triplets and rerankers that an item's settings do not choose."""
    models = params.models.get(item.dataset)
    triplets = params.triplets.get(item.dataset, {}).get(item.family)
    adjust = params.adjust.get(item.dataset, {}).get(item.family)
    return (
        _but(CAPTIONERS, captioner_kind(models) if models else "")
        | _but(WRITERS, triplets.writer if triplets else "")
        | _but(RERANKERS, reranker_kind(adjust))
    )


def second_family(item: Job) -> frozenset[str]:
    """The module of the family that reranks in `validate`; empty if none does. Raises InputError if it is unknown."""
    settings = item.params.adjust.get(item.dataset, {}).get(item.family)
    by = settings.rerank.by if settings and settings.rerank else None
    if not isinstance(by, RerankByWeights):
        return frozenset()
    family = by.weights.family
    if family not in COMPOSERS:
        key = f"adjust.{item.dataset}.{item.family}.rerank.by.weights.family"
        raise InputError(f"{key}: family '{family}' is not known; choose one of: {', '.join(COMPOSERS)}")
    return frozenset({COMPOSERS[family].target.split(":")[0]})


def _but(registry: Mapping[str, str], chosen: str) -> frozenset[str]:
    return frozenset(target.split(":")[0] for name, target in registry.items() if name != chosen)


def _others(kind: str, registry: Mapping[str, str], chosen: str) -> frozenset[str]:
    if chosen not in registry:
        raise InputError(f"{kind} '{chosen}' is not known; choose one of: {', '.join(registry)}")
    return _but(registry, chosen) - {registry[chosen].split(":")[0]}


if __name__ == "__main__":
    run(main, ())
