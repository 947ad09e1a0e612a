"""Registry of what reranks beside networks of this package; a stage's code contains only what its settings choose."""

from spn4cir.config.adjustments import Adjustments, RerankByModel

RERANKERS = {
    "served": "stages.served_reranker:ServedReranker",
}


def reranker_kind(settings: Adjustments | None) -> str:
    """Returns the entry of a pair's reranker in `RERANKERS`; empty if it has none there."""
    rerank = settings.rerank if settings else None
    return "served" if rerank and isinstance(rerank.by, RerankByModel) else ""
