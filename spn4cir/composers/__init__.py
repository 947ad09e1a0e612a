"""Registry of the model families. A new family is one file in this package and one entry here."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.composers.protocol import Composer


@dataclass(frozen=True)
class Container:
    """How a published file stores a family's weights.

    Attributes:
        stage: training stage, 1 or 2.
        key: top-level key of the state dict.
        prefix: prefix of the names of the network's tensors.
        mark: a fragment of a name that only this family's state dicts contain; empty if `key` or `prefix` identifies
            the family.
        beside: names that the state dict contains without the prefix.
    """

    stage: int
    key: str
    prefix: str = ""
    mark: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class FamilyEntry:
    """A family of the registry.

    Attributes:
        target: module and class, as an import string; the module is imported when the family is used.
        containers: containers of the family's files, the most specific mark first; empty for a recipe that uses the
            files of another family.
    """

    target: str
    containers: tuple[Container, ...] = ()


COMPOSERS = {
    "clip": FamilyEntry(
        "spn4cir.composers.clip:ClipComposer", (Container(1, "CLIP"), Container(2, "state_dict", prefix="clip."))
    ),
    "tgcir": FamilyEntry(
        "spn4cir.composers.tgcir:TgcirComposer",
        (
            # A first-stage file may also contain the names of the second stage, but only it contains `loss_T`.
            Container(1, "state_dict", mark="loss_T"),
            Container(2, "state_dict", mark="backbone.masks_text"),
            Container(1, "state_dict", mark="backbone.masks"),
        ),
    ),
    "blip": FamilyEntry(
        "spn4cir.composers.blip:BlipComposer",
        (Container(1, "BLIP_Retrieval"), Container(2, "state_dict", prefix="blip.", beside=("tau",))),
    ),
    "blip2": FamilyEntry(
        "spn4cir.composers.blip2:Blip2Composer",
        (Container(1, "Blip2QformerCirAlignPrompt"), Container(2, "state_dict", prefix="blip_model.")),
    ),
    "zs": FamilyEntry("spn4cir.composers.clip:ZsComposer"),
    "zs_cc": FamilyEntry("spn4cir.composers.clip:ZsPoolComposer"),
}


def composer_class(family: str) -> type["Composer"]:
    """Returns the class of a family. Raises InputError if the family is unknown."""
    if family not in COMPOSERS:
        raise InputError(f"family '{family}' is not known; choose one of: {', '.join(COMPOSERS)}")
    module, name = COMPOSERS[family].target.split(":")
    return cast("type[Composer]", getattr(import_module(module), name))
