"""caption: captions of the training images, in the word counts that the selected families read."""

import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from spn4cir.config.base import HubFile
from spn4cir.config.params import of_dataset
from spn4cir.config.positives import Caption
from spn4cir.files import atomic_folder
from spn4cir.json_files import write_json
from spn4cir.positives.caption_files import check_answered, count_empty, read_captions, write_captions
from stages import published
from stages.caption_files import CaptionFile, caption_files
from stages.captioners import CAPTIONERS, captioner_kind
from stages.common import Job, run

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
    """Captions the images of each file, in the way that the data set's captioner needs."""
    kind = captioner_kind(of_dataset(job.params.models, job.dataset, "models"))
    if not kind:
        return
    module, name = CAPTIONERS[kind].split(":")
    captioned = getattr(import_module(module), name)(job, settings)
    for each in wanted:
        records, origin = captioned(each)
        out = folder / each.place.name
        write_captions(records, out)
        yield out.name, read_captions(out), origin


if __name__ == "__main__":
    run(main, ("DATASET",))
