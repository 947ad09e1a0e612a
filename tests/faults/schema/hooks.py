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
    """Leaves out a request that should fit the description, but has an empty text.

    For a form with a file of an own strategy, the tool makes one whose required fields are empty, whatever their
    schema says. A hook that fills them in would change the request to one that should be refused.
    """
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    return not (fits and isinstance(case.body, dict) and case.body.get("text") == "")
