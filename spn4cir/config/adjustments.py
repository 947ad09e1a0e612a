"""The settings of the adjustments that `validate` scores beside the plain ranking."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, field_validator

from spn4cir.config.base import Positive, Rate, Settings


class Hubness(Settings):
    """A bias for each gallery image that lowers images which score high for many training queries.

    `beta` is the inverse temperature of the sum over training queries. `queries` is the number of training queries,
    which are drawn with the seed; null uses all.
    """

    beta: Rate
    queries: Positive | None


class RerankWeights(Settings):
    """The weights of the network that reranks: a family, and a file below `data/models/<dataset>/rerank`."""

    family: str
    file: str

    @field_validator("file")
    @classmethod
    def _is_below_the_folder(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"file is below data/models/<dataset>/rerank, which DVC watches, got '{file}'")
        return file


class RerankByWeights(Settings):
    """Reranking by a network of this package."""

    weights: RerankWeights


class RerankByModel(Settings):
    """Reranking by a served model that reads the reference and the candidate, and answers a prompt with yes or no.

    `served` is a name in `machine.endpoints`, `model` the model's name at the servers. The prompt has the field
    `{text}`.
    """

    served: str
    model: str
    prompt: str

    @field_validator("prompt")
    @classmethod
    def _has_the_field(cls, prompt: str) -> str:
        try:
            fits = prompt.format(text="\0") != prompt.format(text="")
        except (LookupError, ValueError, TypeError, AttributeError):
            fits = False
        if not fits:
            raise ValueError("prompt has the field {text} and no other")
        return prompt


class Rerank(Settings):
    """Reranking of the first `top` candidates of the plain ranking by a second network or a served model.

    `share` is the share of the second in the sum of both standardised scores; 1 uses the second alone.
    """

    top: Annotated[int, Field(ge=2, le=50)]
    by: RerankByWeights | RerankByModel
    share: Annotated[float, Field(gt=0, le=1)]


class Adjustments(Settings):
    """The adjustments of a data set and family; one that is null is not computed."""

    hubness: Hubness | None
    rerank: Rerank | None
