"""SPN4CIR: composed image retrieval with scaled positives and negatives.

`Retriever` and `Hit` are imported when they are asked for: an import of the package loads nothing else, and each
pipeline stage depends on just the modules it names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spn4cir.search.retriever import Hit, Retriever

__all__ = ["Hit", "Retriever"]


def __getattr__(name: str) -> Any:
    """The public classes, from the module that holds them."""
    if name not in __all__:
        raise AttributeError(f"module 'spn4cir' has no attribute {name!r}")
    return getattr(import_module("spn4cir.search.retriever"), name)
