"""CLIP4CIR, supervised: stage 1 learns from annotated triplets."""

from spn4cir.composers.addition import AdditionComposer


class ClipComposer(AdditionComposer):
    """The supervised recipe."""
