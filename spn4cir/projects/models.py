"""Makes the folders of a data set's models: copies local models, and reports those that the user must add."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from spn4cir.config.params import (
    LOCAL_NETWORK,
    PARAMS_FILE,
    HubModel,
    LocalModel,
    OpenClipModel,
    Params,
    ServedCaptioner,
    of_dataset,
)
from spn4cir.files import atomic_file, atomic_folder

PLACEHOLDER = "PLACEHOLDER.md"
# The published encoder, and its origin.
UNICOM = "FP16-ViT-L-14.pt"
UNICOM_ORIGIN = f"{UNICOM} of the releases of github.com/deepglint/unicom"
Source = HubModel | LocalModel | OpenClipModel | ServedCaptioner | None


def add_models(models: Path, params: Params, name: str, other: str, families: Collection[str]) -> Iterator[str]:
    """Makes the folders of the models, copies local files from `other`, and yields remarks on files to add.

    Args:
        models: the folder `data/models`.
        params: the settings.
        name: the data set.
        other: the data set whose local models are copied.
        families: the families to run; files of other families are not asked for.
    """
    own = of_dataset(params.models, name, "models")
    sources: dict[str, Source] = {"captioner": own.captioner, "encoder": own.encoder}
    sources |= {f"stage1/{family}": source for family, source in own.stage1.items()}
    for kind, source in sources.items():
        folder = models / name / kind
        if isinstance(source, LocalModel):
            if _has_model(folder, source) or _copy_model(models / other / kind, folder, source):
                continue
            if kind.startswith("stage1/") and kind.removeprefix("stage1/") not in families:
                _write_placeholder(folder, kind, source, name)
                continue
            what = "the model's files" if source.local == "." else source.local
            what = UNICOM_ORIGIN if what == UNICOM else what
            yield f"put {what} into {folder}: models.{name}.{kind.replace('/', '.')} in {PARAMS_FILE} names it"
        _write_placeholder(folder, kind, source, name)
    _add_rerankers(models / name / "rerank", name)
    yield from _add_networks(models, params, name, other)


def _add_networks(models: Path, params: Params, name: str, other: str) -> Iterator[str]:
    """Makes the folder of the networks that are scored without training, as `add_models` makes those of the models."""
    folder = models / name / "baselines"
    for network in of_dataset(params.baselines, name, "baselines").networks:
        source = LocalModel(local=network.removeprefix(LOCAL_NETWORK))
        is_local = network.startswith(LOCAL_NETWORK)
        if (
            is_local
            and not _has_model(folder, source)
            and not _copy_model(models / other / "baselines", folder, source)
        ):
            yield f"put the network {source.local} into {folder}: baselines.{name}.networks in {PARAMS_FILE} names it"
    if not folder.exists():
        text = (
            "The folders of the networks that are scored without training. This folder is a declared dependency of the "
            f"pipeline; baselines.{name}.networks in {PARAMS_FILE} names its content as {LOCAL_NETWORK}FOLDER.\n"
        )
        _write_text(folder / PLACEHOLDER, text)


def _add_rerankers(folder: Path, name: str) -> None:
    """Makes the folder of the weights that rerank."""
    if not folder.exists():
        text = (
            "Weights that rerank. This folder is a declared dependency of the pipeline; "
            f"adjust.{name}.<family>.rerank in {PARAMS_FILE} names a file here.\n"
        )
        _write_text(folder / PLACEHOLDER, text)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _has_model(folder: Path, source: LocalModel) -> bool:
    """Whether the model's file exists; for a model that is the whole folder, any file other than the placeholder."""
    if source.local != ".":
        return (folder / source.local).exists()
    return folder.is_dir() and any(file.name != PLACEHOLDER for file in folder.iterdir())


def _copy_model(origin: Path, folder: Path, source: LocalModel) -> bool:
    """Copies a local model atomically; returns False if `origin` does not contain it."""
    if not _has_model(origin, source):
        return False
    model = origin / source.local
    if model.is_dir():
        left_out = shutil.ignore_patterns(PLACEHOLDER, ".gitignore", "*.dvc")
        with atomic_folder(folder / source.local) as temporary:
            shutil.copytree(model, temporary, copy_function=shutil.copyfile, ignore=left_out, dirs_exist_ok=True)
    else:
        with atomic_file(folder / source.local) as temporary:
            shutil.copyfile(model, temporary)
    return True


def _write_placeholder(folder: Path, kind: str, source: Source, name: str) -> None:
    key = f"models.{name}.{kind.replace('/', '.')}"
    if isinstance(source, HubModel):
        text = f"The Hugging Face hub serves {source.hub}; no files are needed here."
    elif isinstance(source, OpenClipModel):
        text = f"open_clip serves {source.open_clip} ({source.tag}); no files are needed here."
    elif isinstance(source, ServedCaptioner):
        text = f"The endpoint {source.served} of machine.endpoints serves {source.model}; no files are needed here."
    elif source is None:
        text = "The data set has no such model, so no triplets are generated."
    else:
        text = f"Put {'the files of the model' if source.local == '.' else source.local} here."
    text += f" This folder is a declared dependency of the pipeline; {key} in {PARAMS_FILE} names its content.\n"
    place = folder / PLACEHOLDER
    if not place.exists():
        _write_text(place, text)
