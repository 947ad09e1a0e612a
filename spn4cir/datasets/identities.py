"""What rows of a table are called: the ids of images and queries, which tables write as text or as numbers."""

from collections.abc import Sequence
from math import isnan
from typing import Any

from spn4cir.datasets.embedded import TableFile
from spn4cir.errors import InputError

# As many digits as always fit into 64 bits.
_DIGITS = 18


def identity(value: Any) -> str:
    """An id as text, empty for none; of a whole number without a point, as pandas makes floats of ids with gaps."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def identities(table: TableFile, key: str) -> list[str]:
    """The ids of a column. Raises InputError that names the first row without one."""
    found = [identity(value) for value in table.values(key)]
    if "" in found:
        raise InputError(
            f"{table.path}: row {found.index('')}: the column '{table.columns[key]}' is empty; write the name, or "
            "remove the row"
        )
    return found


def query_numbers(ids: Sequence[Any]) -> list[int | None]:
    """The ids of queries as numbers, where each is a number of its own that 64 bits hold; else None for all."""
    texts = [identity(value) for value in ids]
    whole = all(text.isascii() and text.isdecimal() and len(text) <= _DIGITS for text in texts)
    numbers = [int(text) for text in texts] if whole else []
    return [*numbers] if len(set(numbers)) == len(texts) else [None] * len(texts)
