"""Model families by name. A new family is one file here and one entry."""

from importlib import import_module
from typing import cast

from spn4cir.composers.protocol import Composer
from spn4cir.errors import InputError

COMPOSERS = {
    "clip": "spn4cir.composers.clip:ClipComposer",
}


def composer_class(family: str) -> type[Composer]:
    """The class of a family. Raises InputError for one that is not known."""
    if family not in COMPOSERS:
        raise InputError(f"family '{family}' is not known; choose one of: {', '.join(COMPOSERS)}")
    module, name = COMPOSERS[family].split(":")
    return cast(type[Composer], getattr(import_module(module), name))
