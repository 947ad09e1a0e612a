"""The cost of each step at each size, how it grows, and what it would be at other sizes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# The steps that compare every image with every other one: their seconds grow with the square of the images.
PRODUCTS = ("match: similarity product", "train: one epoch against the whole bank")
# Limits of the other steps, and of the memory of all, in bytes for each further image and beside its features.
MOST_EXPONENT, MOST_BYTES = 1.1, 1000
# Bytes of the features of an image, by step: a float32 vector of 32 numbers, and two of them in the bank.
FEATURES = {PRODUCTS[0]: 128, "match: encoding": 128, "bank": 256, PRODUCTS[1]: 256, "index": 128}


@dataclass(frozen=True)
class StepCost:
    """The cost of a step at one size.

    Attributes:
        step: name of the step.
        images: number of images.
        seconds: duration.
        megabytes: peak memory of the step's processes.
        disk: megabytes that the step added on disk.
    """

    step: str
    images: int
    seconds: float
    megabytes: float
    disk: float


def exponent(costs: Sequence[StepCost]) -> float | None:
    """Returns the growth exponent of the seconds: the slope of log seconds over log images, by least squares.

    None for fewer than two sizes.
    """
    points = [(math.log(cost.images), math.log(cost.seconds)) for cost in costs]
    if len({x for x, _ in points}) < 2:
        return None
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def last_exponent(costs: Sequence[StepCost]) -> float | None:
    """Returns the exponent between the two largest sizes, which the time of the start affects least; None for one."""
    return exponent(sorted(costs, key=lambda cost: cost.images)[-2:])


def bytes_an_image(costs: Sequence[StepCost]) -> float | None:
    """Returns the growth of the peak memory between the smallest and the largest size, in bytes for each image."""
    least, most = min(costs, key=lambda cost: cost.images), max(costs, key=lambda cost: cost.images)
    if least.images == most.images:
        return None
    return 1e6 * (most.megabytes - least.megabytes) / (most.images - least.images)


def projected(costs: Sequence[StepCost], images: int) -> StepCost:
    """Returns the cost of a step at a larger size.

    Each further image takes the seconds of the images between the two largest sizes. The seconds of a step of
    `PRODUCTS` grow with the square of the images, and those of a step above `MOST_EXPONENT` with its exponent. Memory
    and disk grow as between the smallest and the largest size. A step that does not grow is projected as constant.
    """
    largest = max(costs, key=lambda cost: cost.images)
    power = 2.0 if largest.step in PRODUCTS else last_exponent(costs) or 1.0
    if power > MOST_EXPONENT:
        seconds = largest.seconds * (images / largest.images) ** power
    else:
        seconds = _extended(sorted(costs, key=lambda cost: cost.images)[-2:], images, lambda cost: cost.seconds)
    megabytes, disk = (_extended(costs, images, of) for of in (lambda cost: cost.megabytes, lambda cost: cost.disk))
    return StepCost(largest.step, images, seconds, megabytes, disk)


def _extended(costs: Sequence[StepCost], images: int, of: Callable[[StepCost], float]) -> float:
    """Returns a figure at a larger size, on the line through those of the smallest and the largest size.

    One size is the line through the origin.
    """
    least, most = min(costs, key=lambda cost: cost.images), max(costs, key=lambda cost: cost.images)
    if least.images == most.images:
        return of(most) * images / most.images
    slope = (of(most) - of(least)) / (most.images - least.images)
    return of(most) + max(0.0, slope) * (images - most.images)


def over_limit(costs: Sequence[StepCost]) -> list[str]:
    """Returns a sentence for each limit that a step exceeds; the seconds of `PRODUCTS` have none.

    The memory may grow by `MOST_BYTES` and the `FEATURES` of the step for each image.
    """
    step, found = costs[0].step, []
    features = FEATURES.get(step, 0)
    grown, grows = last_exponent(costs), bytes_an_image(costs)
    if grown is not None and grown > MOST_EXPONENT and step not in PRODUCTS:
        found.append(f"{step}: the exponent of its seconds is {grown:.2f}, more than {MOST_EXPONENT}.")
    if grows is not None and grows > MOST_BYTES + features:
        limit = f"{MOST_BYTES:,} bytes" + (f" and {features} of features" if features else "")
        found.append(f"{step}: its memory grows by {grows:,.0f} bytes for each image, more than {limit}.")
    return found
