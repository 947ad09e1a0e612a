"""caption: what the training images show, in the word counts that the selected families read."""

import shutil
from collections.abc import Iterator
from functools import cache

from spn4cir.captioners import load_captioner
from spn4cir.captioning import Record, caption_key, make_captions, read_captions, write_captions
from spn4cir.datasets.protocol import Layout
from spn4cir.device import choose_device, dtype_of
from spn4cir.files import atomic_folder
from spn4cir.params import Caption, LocalModel, of_dataset
from spn4cir.work import code_hash, work_folder
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `data/caption/<dataset>/`, a file a word count, in the published form of the layout."""
    settings = of_dataset(job.params.caption, job.dataset, "caption")
    layout = job.layout()
    counts = sorted({job.of_family(settings.words, "caption.words", family) for family in job.params.run.models})
    with atomic_folder(job.place("caption")) as folder:
        if settings.source == "path":
            for count in counts:
                read_captions(layout.published_captions(count))
                shutil.copyfile(layout.published_captions(count), folder / layout.captions_name(count))
        else:
            for count, records in _make(job, settings, layout, counts):
                write_captions(records, folder / layout.captions_name(count))


def _make(job: Job, settings: Caption, layout: Layout, counts: list[int]) -> Iterator[tuple[int, list[Record]]]:
    """Captions of each word count; the model is loaded once, and only when a caption is missing."""
    source = of_dataset(job.params.models, job.dataset, "models").captioner
    device = choose_device(job.params.machine.device)
    dtype = dtype_of(settings.dtype, device)
    model = str(job.model("captioner", source)) if isinstance(source, LocalModel) else source.hub
    revision = None if isinstance(source, LocalModel) else source.revision
    key = caption_key(model, revision, settings.prompt, dtype, settings.quantization, settings.max_new_tokens)
    load = cache(lambda: load_captioner(model, revision, dtype, device, settings.quantization))
    store = work_folder(job.work("caption"), {**key, "code": code_hash("stages.caption")})
    images = layout.caption_images(settings.images)
    for count in counts:
        yield (
            count,
            make_captions(
                images,
                count,
                settings.prompt,
                load,
                store,
                settings.batch_size,
                settings.max_new_tokens,
                job.params.machine.workers,
            ),
        )


if __name__ == "__main__":
    run(main, shared=True)
