"""CLIP4CIR, supervised: stage 1 learns from annotated triplets."""

from typing import ClassVar

from spn4cir.composers.addition import AdditionComposer


class ClipComposer(AdditionComposer):
    """The supervised recipe."""

    backbone: ClassVar[str] = "RN50x4"
