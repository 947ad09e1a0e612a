"""Zero-shot: CLIP4CIR's network, taught by triplets generated from a pool of other images (CC3M)."""

from typing import ClassVar

from spn4cir.composers.addition import AdditionComposer


class ZsPoolComposer(AdditionComposer):
    """The zero-shot recipe: which triplets and images it learns from stands in `params.yaml`."""

    backbone: ClassVar[str] = "ViT-L-14"
