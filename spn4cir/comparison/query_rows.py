"""Reads a table of queries, and checks the types of its columns."""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from spn4cir.errors import InputError, first_line
from spn4cir.evaluation.score_recipe import RECIPE_KEY

IDENTITY = ("split", "query", "reference", "target")
_EMPTY = ("subset_rank",)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(of: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)) and of(kind.value_type)


# The type of each column in words, and its test. Only the subset rank may be empty: a query may have no subset.
_NEEDED: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "split": ("texts", _is_text),
    "query": ("whole numbers", pa.types.is_integer),
    "reference": ("texts", _is_text),
    "target": ("texts", _is_text),
    "rank": ("whole numbers", pa.types.is_integer),
    "subset_rank": ("whole numbers", pa.types.is_integer),
}
_OPTIONAL: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "text": ("texts", _is_text),
    "top": ("lists of names", _is_list(_is_text)),
    "target_ranks": ("lists of whole numbers", _is_list(pa.types.is_integer)),
}


def read_queries_table(content: bytes, place: str) -> pa.Table:
    """Reads a table of queries.

    Args:
        content: the bytes of the parquet file.
        place: name of the table, for messages.

    Raises:
        InputError: it is no parquet file, has no row or a row twice, or lacks a column or the recipe of the scores;
            or a column has another type or an empty cell.
    """
    try:
        table = pq.read_table(io.BytesIO(content))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{place} is not a parquet file ({first_line(error)}); run validate again") from None
    if set(_NEEDED) - set(table.column_names) or RECIPE_KEY not in (table.schema.metadata or {}):
        raise InputError(f"{place} was written by another version; run validate again")
    if not len(table):
        raise InputError(f"{place} contains no query; run validate again")
    for name, (words, is_valid) in (_NEEDED | _OPTIONAL).items():
        if name in table.column_names:
            _check_column(table, name, words, is_valid, place)
    if len(table.group_by(list(IDENTITY)).aggregate([])) < len(table):
        raise InputError(f"{place} contains a query twice; run validate again")
    return table


def _check_column(table: pa.Table, name: str, words: str, is_valid: Callable[[pa.DataType], bool], place: str) -> None:
    if table.column_names.count(name) > 1:
        raise InputError(f"{place} has {table.column_names.count(name)} columns '{name}'; run validate again")
    column = table[name]
    if name in _EMPTY and column.null_count == len(column):
        return
    if not is_valid(column.type):
        raise InputError(f"{place}: column '{name}' contains {column.type}, expected {words}; run validate again")
    if column.null_count and name not in _EMPTY:
        raise InputError(f"{place}: column '{name}' has empty cells, expected {words}; run validate again")
