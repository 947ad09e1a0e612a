"""What Schemathesis, in its own environment, cannot know: files that are images, and names that the gallery has."""

import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies

_FILES = sorted(Path(os.environ["SPN4CIR_FAULTS_GALLERY"]).glob("*.png"))  # tests.faults.schema.run sets it
_KINDS = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif")

for _kind in _KINDS:  # the server reads the file, not its stated type
    schemathesis.openapi.media_type(_kind, strategies.sampled_from([path.read_bytes() for path in _FILES]))


@schemathesis.hook
def map_query(_context: Any, query: Any) -> Any:
    """Replaces names of even length by one of the gallery, so that thumbnails are found too."""
    name = query.get("name") if isinstance(query, dict) else None
    return query | {"name": _FILES[0].name} if isinstance(name, str) and len(name) % 2 == 0 and name else query


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """Leaves out forms whose text the tool judges wrongly.

    For a form with a file of an own strategy, it makes one that should fit, but whose required fields are empty,
    whatever their schema says. A hook that fills them in would change the request to one that should be refused. And it
    expects that a text of another type is refused, which is a text as soon as it is written into a form.
    """
    if not isinstance(case.body, dict) or "text" not in case.body or case.meta is None:
        return True
    text, fits = case.body["text"], case.meta.generation.mode.is_positive
    return bool(text != "" if fits else isinstance(text, str))
