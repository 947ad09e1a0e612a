"""Finds settings of different sections that contradict each other. They are reported when params are read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from spn4cir.config.adjustments import RerankByModel
from spn4cir.config.machine import unknown_endpoint
from spn4cir.config.params import LocalModel, Params, ServedCaptioner

_Families = Mapping[str, Mapping[str, Any]]
# The sections with an entry for each data set, and those with an entry for each data set and family (and `validate`).
_SHARED = ("models", "dedup", "caption", "match", "shortcuts", "baselines")
_BY_FAMILY = ("triplets", "checkpoint", "bank", "filter", "train", "adjust")


def conflicts(params: Params) -> Iterator[str]:
    """Yields the contradictions, each as a line that names the keys and what to change."""
    if both := params.benchmarks.keys() & params.datasets.keys():
        yield f"'{min(both)}' is a data set and a benchmark; both are folders of data/raw; rename one"
    yield from _undefined(params)
    yield from _unknown_families(params)
    for dataset, families in params.bank.items():
        for family in families:
            yield from _pair_conflicts(params, dataset, family)
    yield from _base_models(params)
    yield from _generated(params)
    yield from _repeated(params)
    yield from _run_data_sets(params)
    yield from _run_benchmarks(params)
    yield from _endpoints(params)


def _undefined(params: Params) -> Iterator[str]:
    """Yields entries for data sets that `datasets` does not define."""
    sections: dict[str, Mapping[str, Any]] = {name: getattr(params, name) for name in (*_SHARED, *_BY_FAMILY)}
    for name, section in (sections | {"validate": params.validate_}).items():
        for dataset in section:
            if dataset not in params.datasets and dataset not in params.benchmarks:
                known = ", ".join(params.datasets)
                yield f"{name}: '{dataset}' is not in datasets ({known}); add it by: spn4cir add-dataset, or remove it"


def _unknown_families(params: Params) -> Iterator[str]:
    """Yields families of captions, windows and weights for which a data set has no other settings: misspelt names."""
    sections: list[_Families] = [*(getattr(params, name) for name in _BY_FAMILY), params.validate_]
    for dataset in params.datasets:
        known = list(dict.fromkeys(family for section in sections for family in section.get(dataset, {})))
        for key, families in _entries_of_families(params, dataset):
            if unknown := [family for family in families if family not in known]:
                yield (
                    f"{key}: '{unknown[0]}' is no family with settings of {dataset} ({', '.join(known)}); "
                    "check the name, or remove it"
                )


def _entries_of_families(params: Params, dataset: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the keys within the settings of a data set that have an entry for each family, with the entries."""
    if caption := params.caption.get(dataset):
        yield f"caption.{dataset}.words", caption.words
        yield f"caption.{dataset}.pool", caption.pool
    if match := params.match.get(dataset):
        yield f"match.{dataset}.window", match.window
    if models := params.models.get(dataset):
        yield f"models.{dataset}.stage1", models.stage1


def _repeated(params: Params) -> Iterator[str]:
    """Yields names that a list of `run` contains twice."""
    run = params.run
    pairs = [f"{benchmark.name} with the weights of {benchmark.weights}" for benchmark in run.benchmarks]
    lists = {"datasets": run.datasets, "models": run.models, "submit": run.submit, "benchmarks": pairs}
    for key, names in lists.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            yield f"run.{key}: '{twice[0]}' is listed {Counter(names)[twice[0]]} times; list it once"


def _pair_conflicts(params: Params, dataset: str, family: str) -> Iterator[str]:
    """Yields settings of a pair that train on triplets which its bank or its captions do not cover."""
    images = params.bank[dataset][family].images
    train = params.train.get(dataset, {}).get(family)
    triplets = params.triplets.get(dataset, {}).get(family)
    if images == "generated" and train is not None and train.positives != "generated":
        yield (
            f"train.{dataset}.{family}.positives: {train.positives} needs a bank of annotated images; set it to "
            f"generated, or bank.{dataset}.{family}.images to annotated"
        )
    caption = params.caption.get(dataset)
    if caption is None or family not in caption.pool:
        return
    pool = f"caption.{dataset}.pool.{family}"
    if images != "generated":
        yield f"bank.{dataset}.{family}.images: {pool} draws triplets of the pool's images; set it to generated"
    if triplets is not None and triplets.refer:
        yield f"triplets.{dataset}.{family}.refer: no annotated triplet names an image of {pool}; set it to false"


def _generated(params: Params) -> Iterator[str]:
    """Yields pairs that train on generated triplets without a source of them, or without the models that make them."""
    for dataset, families in params.triplets.items():
        for family, triplets in families.items():
            key = f"triplets.{dataset}.{family}.source"
            if triplets.source == "none" and (needing := _needing_generated(params, dataset, family)):
                yield f"{key}: none generates no triplets, which {needing} needs; set it to annotated, or {key} to make"
            runs = dataset in params.run.datasets and family in params.run.models
            if runs and triplets.source == "make" and (absent := _absent_model(params, dataset, family)):
                yield f"{key}: make needs models.{dataset}.{absent}, which is null; set it, or {key} to none"


def _absent_model(params: Params, dataset: str, family: str) -> str:
    """Returns the name of a model that the generation of triplets needs and that is null; empty if there is none."""
    models, caption = params.models.get(dataset), params.caption.get(dataset)
    if models is None or caption is None:
        return ""
    if models.captioner is None and caption.source == "make":
        return "captioner"
    return "encoder" if models.encoder is None and family not in caption.pool else ""


def _needing_generated(params: Params, dataset: str, family: str) -> str:
    """Returns the key of a setting that asks for generated triplets; empty if there is none."""
    sections: Mapping[str, tuple[_Families, str]] = {
        "checkpoint": (params.checkpoint, "positives"),
        "bank": (params.bank, "images"),
        "train": (params.train, "positives"),
    }
    for section, (entries, key) in sections.items():
        settings = entries.get(dataset, {}).get(family)
        if settings is not None and getattr(settings, key) != "annotated":
            return f"{section}.{dataset}.{family}.{key}"
    return ""


def _base_models(params: Params) -> Iterator[str]:
    """Yields stage-1 checkpoints with source `path` that no local model names."""
    for dataset, families in params.checkpoint.items():
        models = params.models[dataset].stage1 if dataset in params.models else {}
        for family, settings in families.items():
            if settings.source == "path" and not isinstance(models.get(family, LocalModel(local=".")), LocalModel):
                yield (
                    f"checkpoint.{dataset}.{family}.source: path needs models.{dataset}.stage1.{family}: "
                    "{local: FILE}; or set source to train or hub"
                )


def _endpoints(params: Params) -> Iterator[str]:
    """Yields endpoints that stages of `run` ask for and `machine` does not define."""
    for dataset in params.run.datasets:
        for key, endpoint in _asked(params, dataset):
            if fault := unknown_endpoint(params.machine, endpoint, key):
                yield fault


def _asked(params: Params, dataset: str) -> Iterator[tuple[str, str]]:
    """Yields the keys that name an endpoint which the stages of a data set ask for, with the endpoint."""
    models, caption = params.models.get(dataset), params.caption.get(dataset)
    if models and caption and caption.source == "make" and isinstance(models.captioner, ServedCaptioner):
        yield f"models.{dataset}.captioner.served", models.captioner.served
    for family in params.run.models:
        triplets = params.triplets.get(dataset, {}).get(family)
        if triplets and triplets.llm and triplets.writer == "llm" and triplets.source == "make":
            yield f"triplets.{dataset}.{family}.llm.served", triplets.llm.served
        adjust = params.adjust.get(dataset, {}).get(family)
        if adjust and adjust.rerank and isinstance(adjust.rerank.by, RerankByModel):
            yield f"adjust.{dataset}.{family}.rerank.by.served", adjust.rerank.by.served


def _run_data_sets(params: Params) -> Iterator[str]:
    """Yields data sets and families of `run` that a section does not define, and submissions of untrained weights."""
    for dataset in params.run.datasets:
        if dataset not in params.datasets:
            known = ", ".join(params.datasets)
            yield f"run.datasets: '{dataset}' is not in datasets ({known}); add it by: spn4cir add-dataset"
        else:
            yield from _lacking(params, dataset)
    for dataset in params.run.submit:
        if dataset not in params.run.datasets:
            yield (
                f"run.submit: '{dataset}' is not in run.datasets, so nothing trains its weights; add it there, or "
                "remove it here"
            )


def _run_benchmarks(params: Params) -> Iterator[str]:
    """Yields benchmarks of `run` that are not defined or need weights that no pair trains."""
    for benchmark in params.run.benchmarks:
        if benchmark.name not in params.benchmarks:
            known = ", ".join(params.benchmarks)
            yield f"run.benchmarks: '{benchmark.name}' is not in benchmarks ({known}); add it by: spn4cir add-dataset"
        if benchmark.weights not in params.run.datasets:
            yield (
                f"run.benchmarks: {benchmark.name} takes weights of '{benchmark.weights}', which is not in "
                "run.datasets, so nothing trains them; add it there, or name another data set"
            )


def _lacking(params: Params, dataset: str) -> Iterator[str]:
    """Yields absent entries that the stages of a data set read for the families of `run`."""
    shared: Mapping[str, Mapping[str, Any]] = {name: getattr(params, name) for name in _SHARED}
    by_family: Mapping[str, _Families] = {name: getattr(params, name) for name in _BY_FAMILY} | {
        "validate": params.validate_
    }
    if lacking := [name for name, section in (*shared.items(), *by_family.items()) if dataset not in section]:
        yield f"run.datasets: '{dataset}' has no entry in {', '.join(lacking)}; copy that of another data set"
        return
    caption = params.caption[dataset]
    entries: _Families = {
        f"models.{dataset}.stage1": params.models[dataset].stage1,
        f"caption.{dataset}.words or .pool": caption.words | caption.pool,
        f"match.{dataset}.window": params.match[dataset].window,
        **{f"{name}.{dataset}": section[dataset] for name, section in by_family.items()},
    }
    for family in params.run.models:
        if lacking := [name for name, families in entries.items() if family not in families]:
            yield f"run.models: '{family}' has no entry in {', '.join(lacking)}; check the name, or add it there"
