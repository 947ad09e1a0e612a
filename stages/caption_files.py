"""The caption files of a data set: which images each describes, in how many words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spn4cir.config.positives import Caption
from spn4cir.types import CaptionedImage
from stages.common import Job
from stages.pools import open_pool


@dataclass(frozen=True)
class CaptionFile:
    """One caption file.

    Attributes:
        images: returns the images that it describes, in order.
        words: the word count of its captions.
        place: path of the published file of that name.
        root: folder of published caption files, of which the hub has a copy.
    """

    images: Callable[[], Sequence[CaptionedImage]]
    words: int
    place: Path
    root: Path


def caption_files(job: Job, settings: Caption) -> list[CaptionFile]:
    """The files that the selected families read, of the data set's own images and of its pool."""
    return [*_own(job, settings), *_pooled(job, settings)]


def _own(job: Job, settings: Caption) -> Iterator[CaptionFile]:
    """Caption files of the data set's own images."""
    layout = job.layout()
    families = [family for family in job.params.run.models if family not in settings.pool]
    for words in sorted({job.of_family(settings.words, "caption.{}.words", family) for family in families}):
        place = layout.names.captions(words)
        yield CaptionFile(lambda: layout.caption_images(settings.images), words, place, layout.root / "mm_data")


def _pooled(job: Job, settings: Caption) -> Iterator[CaptionFile]:
    """Caption files of the pool's images, one for each part; none if no selected family reads them."""
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
