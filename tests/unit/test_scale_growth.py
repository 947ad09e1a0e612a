"""Growth exponents, limits and projections of `make scale`, by closed forms."""

import pytest

from tests.scale.growth import (
    FEATURES,
    MOST_BYTES,
    PRODUCTS,
    StepCost,
    bytes_an_image,
    exponent,
    last_exponent,
    over_limit,
    projected,
)
from tests.scale.steps import STEPS

SIZES = (1_000, 10_000, 100_000)


def power(degree: float, step: str = "dedup", an_image: float = 500.0) -> list[StepCost]:
    """Costs whose seconds are a power of the images, and whose memory grows by some bytes for each image."""
    return [StepCost(step, n, 2.0 * n**degree, 100 + an_image * n / 1e6, n / 1000) for n in SIZES]


@pytest.mark.parametrize("degree", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_its_degree(degree: float) -> None:
    assert exponent(power(degree)) == pytest.approx(degree)
    assert last_exponent(power(degree)) == pytest.approx(degree)


def test_a_constant_start_lowers_the_exponent_of_all_sizes_more_than_the_last() -> None:
    costs = [StepCost("dedup", n, 10 + n / 1000, 0, 0) for n in SIZES]
    assert exponent(costs) < last_exponent(costs) < 1


def test_one_size_has_no_growth() -> None:
    assert exponent(power(1)[:1]) is last_exponent(power(1)[:1]) is bytes_an_image(power(1)[:1]) is None


def test_memory_grows_by_the_bytes_of_an_image_in_any_order_of_sizes() -> None:
    assert bytes_an_image(power(1)[::-1]) == pytest.approx(500)


def test_a_linear_step_is_projected_in_proportion() -> None:
    found = projected(power(1), 1_000_000)
    assert (found.seconds, found.megabytes, found.disk) == pytest.approx((2_000_000, 600, 1000))


def test_the_start_of_a_step_is_projected_once() -> None:
    costs = [StepCost("dedup", n, 10 + n / 1000, 300, 5) for n in SIZES]
    found = projected(costs, 1_000_000)
    assert (found.seconds, found.megabytes, found.disk) == pytest.approx((1010, 300, 5))


def test_a_step_that_gets_faster_is_projected_as_constant() -> None:
    assert projected([StepCost("dedup", n, 1e6 / n, 1e6 / n, 0) for n in SIZES], 1_000_000).seconds == 10


def test_a_product_is_projected_as_quadratic_and_a_steep_step_by_its_exponent() -> None:
    assert projected(power(1, PRODUCTS[0]), 1_000_000).seconds == pytest.approx(100 * power(1)[-1].seconds)
    assert projected(power(1.5), 1_000_000).seconds == pytest.approx(10**1.5 * power(1.5)[-1].seconds)


def test_a_step_over_a_limit_is_named_and_a_product_may_be_quadratic() -> None:
    assert over_limit(power(1.0)) == over_limit(power(2.0, PRODUCTS[0])) == []
    (line,) = over_limit(power(1.3, "bank"))
    assert line.startswith("bank: the exponent of its seconds is 1.30")
    (line,) = over_limit(power(1.0, PRODUCTS[1], an_image=2000.0))
    assert line.endswith("grows by 2,000 bytes for each image, more than 1,000 bytes and 256 of features.")


def test_the_features_of_an_image_are_beside_the_limit_of_the_memory() -> None:
    assert FEATURES.keys() <= {name for step in STEPS for name in step.names}
    for step in ("dedup", *FEATURES):
        most = MOST_BYTES + FEATURES.get(step, 0)
        assert over_limit(power(1.0, step, an_image=most - 1)) == []
        assert len(over_limit(power(1.0, step, an_image=most + 1))) == 1
