"""Model families by name. A new family is one file here and one entry."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from spn4cir.errors import InputError

if TYPE_CHECKING:
    from spn4cir.composers.protocol import Composer


@dataclass(frozen=True)
class Container:
    """How a published file packs a family's weights.

    Attributes:
        stage: 1 or 2.
        key: top-level key of the state dict.
        prefix: what every name of the network begins with.
        mark: a name fragment that only this family's state dicts hold; empty where `key` or `prefix` tells.
        beside: names that stand in the state dict without the prefix.
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
        target: module and class, as an import string: a family is imported when it is asked for.
        containers: of its files, the surer mark first; none for a recipe whose files are another family's.
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
            # A first-stage file may hold the second stage's names too; only it holds the temperature of its loss.
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
    """The class of a family. Raises InputError for one that is not known."""
    if family not in COMPOSERS:
        raise InputError(f"family '{family}' is not known; choose one of: {', '.join(COMPOSERS)}")
    module, name = COMPOSERS[family].target.split(":")
    return cast("type[Composer]", getattr(import_module(module), name))
