"""caption: captions of the training images, in the word counts that the selected families read."""

import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from spn4cir.config.base import HubFile
from spn4cir.config.params import LocalModel, of_dataset
from spn4cir.config.positives import Caption
from spn4cir.device import dtype_of
from spn4cir.files import atomic_folder, write_json
from spn4cir.positives.caption_files import check_answered, count_empty, read_captions, write_captions
from spn4cir.positives.captions import caption_key, make_captions
from spn4cir.positives.llava import load_captioner
from stages import published
from stages.caption_files import CaptionFile, caption_files
from stages.common import Job, run
from stages.device import stage_device
from stages.work import code_hash, work_folder

# Name of a caption file, its captions by image name, and its origin.
Written = tuple[str, dict[str, str], published.Origin]


def main(job: Job) -> None:
    """Writes `data/caption/<dataset>/`: one file for each word count (and part of the pool), and `source.json`.

    Without a captioner, no captions are made.
    """
    settings = of_dataset(job.params.caption, job.dataset, "caption")
    wanted = caption_files(job, settings)
    written = _make if settings.source == "make" else _take
    with atomic_folder(job.place("caption")) as folder:
        origins, images = {}, 0
        for name, captions, origin in written(job, settings, wanted, folder):
            images += len(captions)
            origins[name] = origin | {"empty": count_empty(captions, name)}
        check_answered(images, sum(origin["empty"] for origin in origins.values()))
        write_json(folder / "source.json", origins, indent=2)


def _take(job: Job, settings: Caption, wanted: Sequence[CaptionFile], folder: Path) -> Iterator[Written]:
    """Copies the published files."""
    for each in wanted:
        hub = HubFile(file=f"{settings.hub}/{each.place.relative_to(each.root)}") if settings.hub else None
        path, origin = published.find(job, settings.source, each.place, hub)
        captions = read_captions(path)
        shutil.copyfile(path, folder / each.place.name)
        yield each.place.name, captions, origin


def _make(job: Job, settings: Caption, wanted: Sequence[CaptionFile], folder: Path) -> Iterator[Written]:
    """Captions the images of each file; the model is loaded once, and only if a caption is missing."""
    source = of_dataset(job.params.models, job.dataset, "models").captioner
    if source is None:
        return
    device = stage_device(job)
    dtype = dtype_of(settings.dtype, device)
    model = str(job.model("captioner", source)) if isinstance(source, LocalModel) else source.hub
    revision = None if isinstance(source, LocalModel) else source.revision
    key = caption_key(model, revision, settings.prompt, dtype, settings.quantization, settings.max_new_tokens)
    load = cache(lambda: load_captioner(model, revision, dtype, device, settings.quantization))
    store = work_folder(job.work("caption"), {**key, "code": code_hash(job, "caption")})
    for each in wanted:
        records = make_captions(
            each.images(),
            each.words,
            settings.prompt,
            load,
            store,
            settings.batch_size,
            settings.max_new_tokens,
            job.params.machine.workers,
        )
        out = folder / each.place.name
        write_captions(records, out)
        yield out.name, read_captions(out), {"source": "make"}


if __name__ == "__main__":
    run(main, ("DATASET",))
