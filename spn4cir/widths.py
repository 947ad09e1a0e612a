"""Widths of attention heads as published; no state dict tells them."""

# Of CLIP, of BLIP's ViT, of BERT, of the Q-Former and of Unicom.
HEAD_WIDTH = 64
# Of BLIP-2's ViT.
EVA_HEAD_WIDTH = 88
