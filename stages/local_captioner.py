"""Captions by a LLaVA that runs in the stage `caption`."""

from collections.abc import Callable
from functools import cache, partial

from spn4cir.config.params import LocalModel, ServedCaptioner, of_dataset
from spn4cir.config.positives import Caption
from spn4cir.device import dtype_of
from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import Record, caption_key, make_captions
from spn4cir.positives.llava import LlavaCaptioner, load_captioner
from stages.caption_files import CaptionFile
from stages.common import Job
from stages.image_workers import image_workers
from stages.published import Origin
from stages.work import code_hash, work_folder


class LocalCaptioner:
    """Captions the images of caption files; the model is loaded once, and only if a caption is missing.

    Args:
        job: data set.
        settings: the settings of its captions.
    """

    def __init__(self, job: Job, settings: Caption) -> None:
        source = of_dataset(job.params.models, job.dataset, "models").captioner
        assert source is not None, "the stage makes no captions without a captioner"
        assert not isinstance(source, ServedCaptioner), "the registry has another entry for it"
        workers, device = image_workers(job)
        dtype = dtype_of(settings.dtype, device)
        model = str(job.model("captioner", source)) if isinstance(source, LocalModel) else source.hub
        revision = None if isinstance(source, LocalModel) else source.revision
        key = caption_key(model, revision, settings.prompt, dtype, settings.quantization, settings.max_new_tokens)
        self._settings, self._workers = settings, workers
        load: Callable[[], LlavaCaptioner]
        load = partial(load_captioner, model, revision, dtype, device, settings.quantization)
        self._load = cache(load) if isinstance(workers, int) else load  # a cluster's workers share no loaded model
        self._store = CaptionStore(work_folder(job.work("caption"), {**key, "code": code_hash(job, "caption")}))

    def __call__(self, file: CaptionFile) -> tuple[list[Record], Origin]:
        """Returns the records of a caption file and their origin."""
        settings = self._settings
        records = make_captions(
            file.images(),
            file.words,
            settings.prompt,
            self._load,
            self._store,
            settings.batch_size,
            settings.max_new_tokens,
            self._workers,
        )
        return records, {"source": "make"}
