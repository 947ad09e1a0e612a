"""SPN4CIR: composed image retrieval with scaled positives and negatives.

The public names are imported on first use: an import of the package loads no other module, and each pipeline stage
depends only on the modules that it names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spn4cir.search.encoder import Encoder
    from spn4cir.search.hits import Hit
    from spn4cir.search.mteb import MtebModel
    from spn4cir.search.retriever import Retriever
    from spn4cir.standalone.train import train

    __version__: str

__all__ = ["Encoder", "Hit", "MtebModel", "Retriever", "__version__", "train"]

_MODULES = {
    "Encoder": "search.encoder",
    "Hit": "search.hits",
    "MtebModel": "search.mteb",
    "Retriever": "search.retriever",
    "train": "standalone.train",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that contains it, or the version. Raises AttributeError for another name."""
    if name == "__version__":
        return import_module("importlib.metadata").version("spn4cir")
    if name not in _MODULES:
        raise AttributeError(f"module 'spn4cir' has no attribute {name!r}")
    return getattr(import_module(f"spn4cir.{_MODULES[name]}"), name)
