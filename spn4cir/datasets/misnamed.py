"""Images whose names are not UTF-8, which no file of the pipeline can contain."""

import sys
from collections.abc import Collection
from pathlib import Path

from spn4cir.datasets.records import SKIP, Missing
from spn4cir.errors import InputError
from spn4cir.utf8 import is_utf8


def misnamed(names: Collection[str], missing: Missing, place: Path) -> frozenset[str]:
    """Returns the names or paths of images that are not UTF-8; under `skip`, their number is reported on stderr.

    JSON, parquet and the files of DVC cannot contain such a name.

    Args:
        names: names or paths of all images.
        missing: whether such images are an error or are left out.
        place: the folder of the images, for messages.

    Raises:
        InputError: there is such a name, and `missing` is error.
    """
    found = [name for name in names if not is_utf8(name)]
    if found:
        count = f"{len(found)} of {len(names)} images whose names are not UTF-8, the first is '{found[0]}'"
        if missing == "error":
            raise InputError(f"{place}: contains {count}; rename them, or leave them out by {SKIP}")
        print(InputError(f"{place}: left out {count}"), file=sys.stderr)
    return frozenset(found)
