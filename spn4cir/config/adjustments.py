"""The settings of the adjustments that `validate` scores beside the plain ranking."""

from spn4cir.config.base import Positive, Rate, Settings


class Hubness(Settings):
    """A bias for each gallery image that lowers images which score high for many training queries.

    `beta` is the inverse temperature of the sum over training queries. `queries` is the number of training queries,
    which are drawn with the seed; null uses all.
    """

    beta: Rate
    queries: Positive | None
