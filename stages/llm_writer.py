"""The texts of generated triplets by a language model, for the stage `triplets`."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from spn4cir.config.positives import Triplets as TripletSettings
from spn4cir.errors import some_names
from spn4cir.json_files import write_json
from spn4cir.positives.llm_table import LLM_TABLE, write_llm_table
from spn4cir.positives.llm_texts import LlmText, LlmTexts
from spn4cir.positives.triplets import Written, select_pairs, write_triplet
from spn4cir.served.client import open_model
from spn4cir.types import Triplet
from stages.common import Job
from stages.triplet_origin import TripletOrigin

_SHOWN = 3


class LlmWriter:
    """Writes triplets as `write_triplets` does, with texts of the language model that the settings name.

    Beside the triplets it writes `texts.parquet`, a row for each text, and `source.json`. Answers are kept in
    `data/work/triplets/<dataset>-<family>/answers.jsonl`.

    Args:
        job: data set and family.
        origin: the images that the triplets are generated from.
    """

    def __init__(self, job: Job, origin: TripletOrigin) -> None:
        self._job, self._origin = job, origin

    def __call__(
        self,
        pairs: Iterable[tuple[str, str]],
        captions: Mapping[str, str],
        settings: TripletSettings,
        references: frozenset[str],
        seed: int,
        count_tokens: Callable[[str], int],
    ) -> list[Written]:
        """Returns the triplets; the arguments are those of `write_triplets`.

        Raises:
            InputError: see `write_triplets` and `LlmTexts.write`; or the settings have no such endpoint.
        """
        job, llm = self._job, settings.llm
        assert llm is not None, "the params refuse writer llm without it"
        key = f"triplets.{job.dataset}.{job.family}.llm.served"
        model = open_model(job.params.machine, llm.served, llm.model, key)
        chosen = select_pairs(pairs, captions, settings, references, seed)
        written = [write_triplet(reference, target, captions, settings, count_tokens) for reference, target in chosen]
        store = job.work("triplets") / "answers.jsonl"
        writer = LlmTexts(model, llm, seed, self._origin.image_path, store, settings.max_tokens, count_tokens)
        texts = writer.write(written)
        self._record([each.triplet for each in written], texts, llm.model)
        return [
            each._replace(triplet=replace(each.triplet, captions=tuple(text.text for text in several)))
            for each, several in zip(written, texts, strict=True)
        ]

    def _record(self, triplets: Sequence[Triplet], texts: Sequence[Sequence[LlmText]], model: str) -> None:
        """Writes the table and the origin of the texts, and reports those of templates on stderr."""
        place = self._job.place("triplets")
        write_llm_table(triplets, texts, model, place / LLM_TABLE)
        faults = {
            f"{triplet.reference_name} to {triplet.target_name}: {text.fault}": None
            for triplet, several in zip(triplets, texts, strict=True)
            for text in several
            if text.fault
        }
        total = sum(map(len, texts))
        by_template = sum(bool(text.fault) for several in texts for text in several)
        origin = {"source": "make", "written_by": model, "texts": total, "by_template": by_template}
        write_json(place / "source.json", origin, indent=2)
        if faults:
            print(
                f"triplets: {by_template} of {total} texts are those of templates, as no answer of {model} can be used "
                f"({some_names(list(faults), _SHOWN)}; all are in {place / LLM_TABLE})",
                file=sys.stderr,
            )
