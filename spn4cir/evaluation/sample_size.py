"""How many queries are needed before two scores can be told apart."""

from math import ceil, sqrt
from statistics import NormalDist

# With fewer queries no conclusion is drawn: a percentile interval over 8 queries covers the truth in 3 cases of 4.
FEWEST = 50
# The example that messages and docs/scores.md give: a difference of 3 points, if 20 % of the queries change.
_DIFFERENCE, _CHANGED = 3.0, 20.0
_LEVEL, _POWER = 0.05, 0.8


def queries_wanted(difference: float, changed: float, level: float = _LEVEL, power: float = _POWER) -> int:
    """Returns the number of queries with which McNemar's test finds a difference of two recalls.

    The recalls are over the same queries. With d = difference / 100 and the share c = changed / 100 of queries that
    only one of the two answers, the number is ((z_a sqrt(c) + z_b sqrt(c - d^2)) / d)^2, rounded up, with the normal
    quantiles z_a = z(1 - level / 2) and z_b = z(power). Source: Connor, "Sample Size for Testing Differences in
    Proportions for the Paired-Sample Design", Biometrics 43, 1987.

    Args:
        difference: difference of the recalls, in points.
        changed: queries that only one of the runs finds, in percent; at least `difference`.
        level: probability of a false alarm, two-sided.
        power: probability that the difference is found.

    Raises:
        ValueError: `difference` is not positive, or `changed` is less than it or more than 100.
    """
    if not 0 < difference <= changed <= 100:
        raise ValueError(f"expected 0 < difference <= changed <= 100, got difference {difference}, changed {changed}")
    d, c = difference / 100, changed / 100
    alarm, found = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(power)
    return ceil(((alarm * sqrt(c) + found * sqrt(c - d * d)) / d) ** 2)


def too_few_queries(queries: int) -> str | None:
    """Returns a sentence if no conclusion can be drawn from so few queries; None from `FEWEST` on."""
    if queries >= FEWEST:
        return None
    return (
        f"{queries} queries are too few for a conclusion (fewer than {FEWEST}); to see a difference of "
        f"{_DIFFERENCE:g} points between two runs, about {queries_wanted(_DIFFERENCE, _CHANGED):,} are needed"
    )


def too_few_entry(queries: int) -> dict[str, str]:
    """Returns the entry `too_few_queries` of a metrics file, if it applies; empty otherwise."""
    sentence = too_few_queries(queries)
    return {} if sentence is None else {"too_few_queries": sentence}
