"""The entries of a metrics file that comparisons read, and the check of their types."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from spn4cir.config.base import first_problem
from spn4cir.errors import InputError


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True)


class _Protocol(_Entry):
    preprocess: dict[str, Any] = {}


class _QueryCounts(_Entry):
    queries: dict[str, NonNegativeInt]
    gallery: dict[str, NonNegativeInt]


class _Entries(_Entry):
    """The entries that are not scores, and those that contain further scores."""

    protocol: _Protocol
    counts: _QueryCounts
    stage1: dict[str, FiniteFloat] | None = None
    scores: Annotated[dict[str, FiniteFloat], Field(min_length=1)]


def is_metrics(content: Any) -> bool:
    """Whether parsed JSON is the content of a metrics file."""
    return isinstance(content, dict) and isinstance(content.get("protocol"), dict)


def flat_scores(metrics: dict[str, Any]) -> dict[str, float]:
    """The scores at the top of a metrics file, in percent."""
    return {name: value for name, value in metrics.items() if type(value) in (float, int)}


def check_metrics(metrics: dict[str, Any], place: str) -> None:
    """Raises InputError if an entry of a metrics file has another type, or a score is not finite.

    Args:
        metrics: the content.
        place: file or revision, for the message.
    """
    try:
        _Entries.model_validate(metrics | {"scores": flat_scores(metrics)})
    except ValidationError as error:
        problem = first_problem(error)
        raise InputError(f"{place}: is not a metrics file ({problem}); give one that spn4cir validate wrote") from None
