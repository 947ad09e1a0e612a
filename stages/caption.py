"""caption: what the training images show, in the word counts that the selected families read."""

import shutil

from spn4cir.captioners import load_captioner
from spn4cir.captioning import caption_key, make_captions, read_captions, write_captions
from spn4cir.datasets.protocol import Layout
from spn4cir.device import choose_device, dtype_of
from spn4cir.files import atomic_folder
from spn4cir.params import Caption, LocalModel, of_dataset, of_family
from spn4cir.work import code_hash, work_folder
from stages.common import Job, run


def main(job: Job) -> None:
    """Writes `data/caption/<dataset>/`, a file a word count, in the published form of the layout."""
    settings = of_dataset(job.params.caption, job.dataset, "caption")
    layout = job.layout()
    counts = sorted(
        {of_family({job.dataset: settings.words}, job.dataset, f, "caption.words") for f in job.params.run.models}
    )
    with atomic_folder(job.place("caption")) as folder:
        for words in counts:
            if settings.source == "path":
                read_captions(layout.published_captions(words))
                shutil.copyfile(layout.published_captions(words), folder / layout.captions_name(words))
            else:
                write_captions(_make(job, settings, layout, words), folder / layout.captions_name(words))


def _make(job: Job, settings: Caption, layout: Layout, words: int) -> list[dict[str, str]]:
    source = of_dataset(job.params.models, job.dataset, "models").captioner
    device = choose_device(job.params.machine.device)
    dtype = dtype_of(settings.dtype, device)
    model = str(job.model("captioner", source)) if isinstance(source, LocalModel) else source.hub
    revision = None if isinstance(source, LocalModel) else source.revision
    key = caption_key(model, revision, settings.prompt, dtype, settings.quantization, settings.max_new_tokens)
    return make_captions(
        layout.caption_images(settings.images),
        words,
        settings.prompt,
        lambda: load_captioner(model, revision, dtype, device, settings.quantization),
        work_folder(job.work("caption"), {**key, "code": code_hash("stages.caption")}),
        settings.batch_size,
        settings.max_new_tokens,
        job.params.machine.workers,
    )


if __name__ == "__main__":
    run(main)
