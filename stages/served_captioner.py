"""Captions by a served model."""

import sys
from collections import defaultdict
from pathlib import Path

from spn4cir.config.params import ServedCaptioner, of_dataset
from spn4cir.config.positives import Caption
from spn4cir.errors import some_names
from spn4cir.positives.answer_store import AnswerStore
from spn4cir.positives.served_captions import AnsweredImages, ImageAsker
from spn4cir.served.client import open_model
from stages.caption_files import CaptionFile
from stages.common import Job
from stages.published import Origin

_SHOWN = 3


class ServedImages:
    """Captions the images of caption files.

    The answers are kept in `data/work/caption/<dataset>/answers.jsonl`. This file is read once.

    Args:
        job: data set.
        settings: the settings of its captions.

    Raises:
        InputError: the settings have no such endpoint.
    """

    def __init__(self, job: Job, settings: Caption) -> None:
        source = of_dataset(job.params.models, job.dataset, "models").captioner
        assert isinstance(source, ServedCaptioner), "the registry has another entry for it"
        model = open_model(job.params.machine, source.served, source.model, f"models.{job.dataset}.captioner.served")
        store = AnswerStore(job.work("caption") / "answers.jsonl")
        self._asker = ImageAsker(model, settings.prompt, settings.max_new_tokens, store)

    def __call__(self, file: CaptionFile) -> tuple[list[dict[str, str]], Origin]:
        """Returns the records of a caption file and their origin, and reports images without a usable answer."""
        found = self._asker.captions(file.images(), file.words)
        model = self._asker.model.model
        _report(found, file.place.name, model, self._asker.store.path)
        origin = {"source": "make", "written_by": model, "cut": len(found.cut), "faults": found.faults}
        return found.records, origin


def _report(found: AnsweredImages, file: str, model: str, answers: Path) -> None:
    by_fault: dict[str, list[str]] = defaultdict(list)
    for name, fault in found.faults.items():
        by_fault[fault].append(name)
    for fault, names in sorted(by_fault.items(), key=lambda each: -len(each[1]))[:_SHOWN]:
        print(f"{file}: no answer of {model} can be used for {some_names(names, _SHOWN)}: {fault}", file=sys.stderr)
    if found.faults:
        print(f"{file}: these answers are kept; delete {answers} to ask for all captions again", file=sys.stderr)
    if found.cut:
        print(
            f"{file}: {len(found.cut)} captions end at caption.<dataset>.max_new_tokens "
            f"({some_names(found.cut, _SHOWN)}); they are kept",
            file=sys.stderr,
        )
