"""checkpoint: the stage-1 weights, taken from a published file or trained from a base model."""

from spn4cir.checkpoints import load_composer, read_checkpoint, save_composer
from spn4cir.composers import composer_class
from spn4cir.composers.protocol import Composer
from spn4cir.curves import write_curves
from spn4cir.dedup import read_optimized_images
from spn4cir.device import choose_device
from spn4cir.errors import InputError
from spn4cir.files import file_hash, tree_hash
from spn4cir.leftovers import clear_others
from spn4cir.params import Checkpoint, LocalModel, OpenClipModel, of_dataset, of_family
from spn4cir.stage1 import train_stage1
from spn4cir.training import History
from spn4cir.work import clear_work, code_hash, listing_hash, work_folder
from stages.common import DATA, Job, run


def main(job: Job) -> None:
    """Writes `data/checkpoint/<dataset>/<family>/{stage1.pt, steps.csv, epochs.csv}`."""
    settings = of_family(job.params.checkpoint, job.dataset, job.family, "checkpoint")
    source = job.of_family(of_dataset(job.params.models, job.dataset, "models").stage1, "models.stage1")
    history = _train(job, settings, source) if settings.source == "train" else _take(job, source)
    write_curves(history, job.place("checkpoint"))


def _take(job: Job, source: LocalModel | OpenClipModel) -> History:
    if not isinstance(source, LocalModel):
        raise InputError(
            f"checkpoint.{job.dataset}.{job.family}: source path needs models.{job.dataset}.stage1.{job.family}: "
            "{local: FILE}; or set source to train"
        )
    path = job.model(f"stage1/{job.family}", source)
    if read_checkpoint(path, job.family).stage != 1:
        raise InputError(f"{path}: is a stage-2 checkpoint; stage 1 is wanted here")
    save_composer(load_composer(path, job.family), job.stage1_file, stage=1, epoch=0)
    clear_work(job.work("checkpoint"))
    return History()


def _base(job: Job, source: LocalModel | OpenClipModel) -> Composer:
    cls = composer_class(job.family)
    if isinstance(source, LocalModel):
        return cls.from_base(f"local-dir:{job.model(f'stage1/{job.family}', source)}", None)
    return cls.from_base(source.open_clip, source.tag)


def _train(job: Job, settings: Checkpoint, source: LocalModel | OpenClipModel) -> History:
    layout = job.layout()
    device = choose_device(job.params.machine.device)
    work = work_folder(
        job.work("checkpoint"),
        {
            "settings": settings.model_dump(),
            "validate": of_family(job.params.validate_, job.dataset, job.family, "validate").model_dump(),
            "seed": job.params.seed,
            "base": [source.model_dump(), tree_hash(DATA / "models" / job.dataset / "stage1" / job.family)],
            "images": [file_hash(job.dedup_file), listing_hash(layout.root)],
            "code": code_hash("stages.checkpoint"),
            "device": device.type,
        },
    )
    clear_others(work)
    return train_stage1(
        _base(job, source),
        layout,
        read_optimized_images(job.dedup_file, layout.image_path),
        settings.train,
        of_family(job.params.validate_, job.dataset, job.family, "validate"),
        seed=job.params.seed,
        work=work,
        out=job.stage1_file,
        workers=job.params.machine.workers,
        device=device,
    )


if __name__ == "__main__":
    run(main)
