"""Registry of what captions images, by the kind of captioner; a stage's code contains only the kind that is chosen."""

from spn4cir.config.params import Models, ServedCaptioner

CAPTIONERS = {
    "local": "stages.local_captioner:LocalCaptioner",
    "served": "stages.served_captioner:ServedImages",
}


def captioner_kind(models: Models) -> str:
    """Returns the entry of a data set's captioner in `CAPTIONERS`; empty if it has none."""
    if models.captioner is None:
        return ""
    return "served" if isinstance(models.captioner, ServedCaptioner) else "local"
