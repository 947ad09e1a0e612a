"""checkpoint: the stage-1 weights, taken from a published file or trained from a base model."""

from typing import Any

from spn4cir.checkpoints.published import build_composer, read_checkpoint, save_composer
from spn4cir.config.params import LocalModel, of_dataset, of_family
from spn4cir.config.training import CheckpointSettings
from spn4cir.errors import InputError
from spn4cir.files import file_hash, tree_hash
from spn4cir.json_files import write_json
from spn4cir.parallel import Group
from spn4cir.training.figures import write_figures
from spn4cir.training.stage1 import train_stage1
from spn4cir.training.trainer import History
from stages import published
from stages.base_model import ModelSource, base_model, model_source, tokenizer_options
from stages.common import DATA, Job, run
from stages.inputs import data_hash, training_triplets, unique_images
from stages.training import GlobalBatch, in_processes, training_setup
from stages.work import clear_work


def main(job: Job) -> None:
    """Writes `data/checkpoint/<dataset>/<family>/{stage1.pt, source.json, figures/}`."""
    settings = of_family(job.params.checkpoint, job.dataset, job.family, "checkpoint")
    source = model_source(job)
    if settings.source == "train":
        key = f"checkpoint.{job.dataset}.{job.family}.train.batch_size"
        in_processes(job, GlobalBatch(key, settings.train.batch_size), _train)
    else:
        _write(job, *_take(job, settings, source))


def _write(job: Job, history: History, origin: published.Origin) -> None:
    """Writes what is beside the weights."""
    write_json(job.place("checkpoint") / "source.json", origin, indent=2)
    write_figures(history, job.place("checkpoint") / "figures", job.place("speed") / "checkpoint")


def _take(job: Job, settings: CheckpointSettings, source: ModelSource) -> tuple[History, published.Origin]:
    local = DATA / "models" / job.dataset / "stage1" / job.family
    if settings.source == "path" and isinstance(source, LocalModel):
        local = job.model(f"stage1/{job.family}", source)
    path, origin = published.find(job, settings.source, local, settings.hub)
    checkpoint = read_checkpoint(path, job.family)
    if checkpoint.stage != 1:
        raise InputError(f"{path}: is a stage-2 checkpoint, expected stage 1; name a stage-1 file")
    save_composer(
        build_composer(checkpoint, path, job.family, tokenizer_options(job)), job.stage1_file, stage=1, epoch=0
    )
    clear_work(job.work("checkpoint"))
    return History(), origin


def _train(job: Job, group: Group) -> None:
    settings = of_family(job.params.checkpoint, job.dataset, job.family, "checkpoint")
    source = model_source(job)

    def inputs() -> dict[str, Any]:
        return {
            "base": [source.model_dump(), tree_hash(DATA / "models" / job.dataset / "stage1" / job.family)],
            "tokenizer": of_dataset(job.params.models, job.dataset, "models").tokenizer.model_dump(),
            "images": [file_hash(job.dedup_file), file_hash(job.listing_file), data_hash(job)],
        }

    triplets = training_triplets(job, settings.positives, settings.positives)
    setup = training_setup(job, "checkpoint", settings, inputs, triplets, group)
    unique = unique_images(job, settings.positives)
    history = train_stage1(base_model(job, source), unique, settings.train, setup, job.stage1_file)
    if group.first:
        _write(job, history, {"source": "train", "base": source.model_dump()})


if __name__ == "__main__":
    run(main)
