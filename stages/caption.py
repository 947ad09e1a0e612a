"""caption: what the training images show, in the word counts that the selected families read."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spn4cir.config.base import HubFile
from spn4cir.config.params import LocalModel, of_dataset
from spn4cir.config.positives import Caption
from spn4cir.device import choose_device, dtype_of
from spn4cir.files import atomic_folder, write_json
from spn4cir.positives.caption_files import check_answered, count_empty, read_captions, write_captions
from spn4cir.positives.captions import caption_key, make_captions
from spn4cir.positives.llava import load_captioner
from spn4cir.types import CaptionedImage
from stages import published
from stages.common import Job, run
from stages.pools import open_pool
from stages.work import code_hash, work_folder

# Name of a caption file, its captions by image name, and where it comes from.
Written = tuple[str, dict[str, str], published.Origin]


@dataclass(frozen=True)
class CaptionFile:
    """One caption file.

    Attributes:
        images: what it describes, in order.
        words: the word count.
        place: where the published file of that name lies.
        root: the folder that it lies in, of which the hub has a copy.
    """

    images: Callable[[], Sequence[CaptionedImage]]
    words: int
    place: Path
    root: Path


def main(job: Job) -> None:
    """Writes `data/caption/<dataset>/`: a file a word count (and part of the pool), and `source.json`."""
    settings = of_dataset(job.params.caption, job.dataset, "caption")
    wanted = [*_own(job, settings), *_pooled(job, settings)]
    written = _make if settings.source == "make" else _take
    with atomic_folder(job.place("caption")) as folder:
        origins, images = {}, 0
        for name, captions, origin in written(job, settings, wanted, folder):
            images += len(captions)
            origins[name] = origin | {"empty": count_empty(captions, name)}
        check_answered(images, sum(origin["empty"] for origin in origins.values()))
        write_json(folder / "source.json", origins, indent=2)


def _own(job: Job, settings: Caption) -> Iterator[CaptionFile]:
    """Files of the data set's own images."""
    layout = job.layout()
    families = [family for family in job.params.run.models if family not in settings.pool]
    for words in sorted({job.of_family(settings.words, "caption.{}.words", family) for family in families}):
        place = layout.names.captions(words)
        yield CaptionFile(lambda: layout.caption_images(settings.images), words, place, layout.root / "mm_data")


def _pooled(job: Job, settings: Caption) -> Iterator[CaptionFile]:
    """Files of the pool's images, one a part; none where no selected family reads them."""
    counts = sorted({settings.pool[family] for family in job.params.run.models if family in settings.pool})
    if not counts:
        return
    pool = open_pool(job)
    parts: dict[int, list[CaptionedImage]] = {}
    for image in pool.images():
        parts.setdefault(pool.part_of(image.name), []).append(image)
    for words in counts:
        for part, images in parts.items():
            place = pool.published_captions(part, words)
            yield CaptionFile(lambda images=images: images, words, place, pool.root / "mm_data")  # type: ignore[misc]


def _take(job: Job, settings: Caption, wanted: Sequence[CaptionFile], folder: Path) -> Iterator[Written]:
    """Copies the published files."""
    for each in wanted:
        hub = HubFile(file=f"{settings.hub}/{each.place.relative_to(each.root)}") if settings.hub else None
        path, origin = published.find(job, settings.source, each.place, hub)
        captions = read_captions(path)
        shutil.copyfile(path, folder / each.place.name)
        yield each.place.name, captions, origin


def _make(job: Job, settings: Caption, wanted: Sequence[CaptionFile], folder: Path) -> Iterator[Written]:
    """Describes the images of each file; the model is loaded once, and only when a caption is missing."""
    source = of_dataset(job.params.models, job.dataset, "models").captioner
    device = choose_device(job.params.machine.device)
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
