"""The settings of the adjustments that `validate` scores beside the plain ranking."""

from typing import Annotated

from pydantic import Field

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


class RerankByWeights(Settings):
    """Reranking by a network of this package."""

    weights: RerankWeights


class Rerank(Settings):
    """Reranking of the first `top` candidates of the plain ranking by a second network.

    `share` is the share of the second network in the sum of both standardised scores; 1 uses the second alone.
    """

    top: Annotated[int, Field(ge=2, le=50)]
    by: RerankByWeights
    share: Annotated[float, Field(gt=0, le=1)]
