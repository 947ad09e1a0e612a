"""Contrastive losses, in batch or against a bank, for candidates of one vector or of several tokens."""

from spn4cir.losses.contrast import INFO_NCE, Contrast
from spn4cir.losses.dot_products import info_nce, sampled_info_nce
from spn4cir.losses.tokens import token_info_nce, token_scores

__all__ = ["INFO_NCE", "Contrast", "info_nce", "sampled_info_nce", "token_info_nce", "token_scores"]
