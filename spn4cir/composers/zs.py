"""Zero-shot: CLIP4CIR's network, taught by triplets generated from the data set's own images."""

from typing import ClassVar

from spn4cir.composers.addition import AdditionComposer


class ZsComposer(AdditionComposer):
    """The zero-shot recipe: which triplets and images it learns from stands in `params.yaml`."""

    backbone: ClassVar[str] = "ViT-L-14"
