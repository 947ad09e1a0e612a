"""The table of the texts that a language model wrote, beside the triplets."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.files import atomic_file
from spn4cir.positives.llm_texts import LlmText
from spn4cir.types import Triplet

LLM_TABLE = "texts.parquet"
_SCHEMA = pa.schema(
    {
        "reference": pa.string(),
        "target": pa.string(),
        "number": pa.int32(),
        "text": pa.string(),
        "model": pa.string(),
        "prompt_sha256": pa.string(),
        "tries": pa.int32(),
        "fault": pa.string(),
    }
)


def write_llm_table(triplets: Sequence[Triplet], texts: Sequence[Sequence[LlmText]], model: str, path: Path) -> None:
    """Writes one row for each text of each triplet, atomically.

    Columns: names of reference and target, position of the text within the triplet, the text, the model's name, the
    sha256 of the prompt, the number of answers that were read, and why the template's text is used; this is empty if
    the model wrote the text.
    """
    rows = [
        {
            "reference": triplet.reference_name,
            "target": triplet.target_name,
            "number": number,
            "text": text.text,
            "model": model,
            "prompt_sha256": text.prompt,
            "tries": text.tries,
            "fault": text.fault,
        }
        for triplet, several in zip(triplets, texts, strict=True)
        for number, text in enumerate(several)
    ]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary)
