"""The page of `make scale`."""

import math
from collections.abc import Callable, Sequence

from tests.scale.draw import DUPLICATE, IMAGES_PER_TAR, SIDE
from tests.scale.growth import (
    FEATURES,
    MOST_BYTES,
    MOST_EXPONENT,
    PRODUCTS,
    StepCost,
    bytes_an_image,
    exponent,
    last_exponent,
    over_limit,
    projected,
)
from tests.scale.names import BATCH
from tests.scale.pool import IMAGE_BYTES, dependents
from tests.scale.steps import BLOCK_MB
from tests.scale.store import Costs

_MILLION = 1_000_000
PROJECTED = {"CC3M, 3 M images": 3_000_000, "100 M images": 100_000_000}

_INTRODUCTION = f"""\
# Growth with the number of images

`make scale` writes this page. It draws data sets of growing size, runs the stages of the pipeline on each, and measures
time, memory and disk. `make scale SIZES="3000 10000"` measures other sizes. The costs are stored in
`metrics/scale` when a step ends, so the command continues after an interruption; remove the folder to measure
everything again. `make scale AGAIN="dedup index"` measures these two steps again, alone.

The images are JPEG files of {SIDE} x {SIDE} pixels in tars of {IMAGES_PER_TAR:,}, {100 / DUPLICATE:.0f} % of them
duplicates. They are both the training images of a data set in CIRR's layout and its pool. Captions are drawn words, and
the networks are tiny (one layer, features of 32 numbers). So the figures are the costs of names, paths, reading,
decoding, hashing and bookkeeping, and not those of the published networks. Each step is the command of its stage in
`dvc.yaml`, in a process of its own, with `machine.workers: 2`; `index` calls `Retriever.index` on the pool's images.
"""

_SECONDS = """\
## Seconds

The exponent is the slope of log seconds over log images, by least squares over all sizes; it is too small where a step
takes a few seconds, most of which are its start. `last` is the exponent between the two largest sizes. The seconds of
`triplets` include the listing with a hash of every image.
"""

_MEMORY = f"""\
## Memory and disk

The memory is the largest sum over the processes of a step, in MB, sampled five times a second. A page that processes
share is divided between them. Pages of files are not counted, such as libraries (about 400 MB with torch) and mapped
arrays, which the system can drop. The programs run with `MALLOC_MMAP_THRESHOLD_={BLOCK_MB << 20}`: by default glibc
also keeps freed blocks of up to 32 MB, by chance several hundred MB in an epoch of `train`. The variable is worth
setting where memory is short. `bytes an image` is the growth between the smallest and the largest size. The
features of the tiny networks are {FEATURES["index"]} bytes an image in `match` and `index`, and {FEATURES["bank"]} in
`bank` and `train`. The disk is the space that the step adds at the largest size, with its work folder.
"""

_LIMITS = f"""\
## Limits

The exponent between the two largest sizes should be at most {MOST_EXPONENT}, except for the two steps that compare
every image with every other one: `{PRODUCTS[0]}` and `{PRODUCTS[1]}`. The memory should
grow by at most {MOST_BYTES:,} bytes for each image, and by its features. A step of `train` also compares {BATCH}
queries with all images; it holds the products of some queries at a time: 64 MB of them, or those of 32 queries, which
take 128 bytes an image. The steps that exceed a limit:
"""

_PROJECTION = """\
## Projection

For other sizes, each further image takes the seconds of an image between the two largest sizes. The seconds of the two
steps that compare every image with every other one grow with the square of the images, which is an upper bound: a part
of their time grows linearly. Those of another step above the limit grow with its exponent. Memory and disk grow as
between the smallest and the largest size.

The figures are for the drawn images, the tiny networks, two decoding processes, and the machine below. For real images,
add the time to decode an image, for each image, to `dedup`, `match: encoding`, `bank` and `index`, the time of your
network to encode it to the last three, and the time to read its bytes to `triplets`. For real networks, multiply the
features by their size ([Memory and disk](gpu.md#memory-and-disk)). The products need an accelerator at these sizes: a
product of n images is n x n x dim multiplications and n x n comparisons.
"""

_DVC = f"""\
## DVC with many files

DVC hashes every file below a folder that a stage depends on, and looks at every file again in each `dvc status` and
`dvc repro`. A pool of image files therefore costs time with each command; tars are few files. This table is of a
project whose {{stages}} stages depend on one pool, as many as in `dvc.yaml` ({{names}}). The pool contains random
bytes, as DVC does not decode images: {IMAGE_BYTES} bytes an image file, or tars of {IMAGES_PER_TAR:,} images.
`first repro` hashes the pool; nothing has changed at the other two. The lines below the table are for a million images.
Each further image takes the seconds of an image between the two largest sizes; where `last` is above {MOST_EXPONENT},
the seconds grow with it instead. The exponent in a line is that of this growth from the largest size on, and not
`last`.
"""

_NO_SIZES = "No size is measured yet.\n"


def render(costs: Costs, pools: Costs) -> str:
    """Returns the page in Markdown.

    Args:
        costs: costs of the stages.
        pools: costs of DVC's commands with pools.
    """
    return "\n".join([_INTRODUCTION, *_stages(costs), *_dvc(pools)])


def _stages(costs: Costs) -> list[str]:
    if not costs.sizes:
        return [_NO_SIZES]
    steps = costs.by_step()
    faults = [sentence for each in steps.values() for sentence in over_limit(each)]
    return [
        _SECONDS,
        _table(costs, steps, lambda cost: f"{cost.seconds:,.1f}", "s", {"exponent": exponent, "last": last_exponent}),
        _MEMORY,
        _memory_table(costs, steps),
        _LIMITS,
        "".join(f"- {sentence}\n" for sentence in faults) if faults else _none(costs),
        _PROJECTION,
        _projection(list(steps.values())),
        _machines(costs),
    ]


def _none(costs: Costs) -> str:
    return "- none.\n" if len(costs.sizes) > 1 else "- unknown: growth needs two sizes.\n"


def _dvc(pools: Costs) -> list[str]:
    if not pools.sizes:
        return []
    steps, names = pools.by_step(), dependents()
    return [
        _DVC.format(stages=len(names), names=", ".join(f"`{name}`" for name in names)),
        _table(pools, steps, lambda cost: f"{cost.seconds:,.1f}", "s", {"last": last_exponent}),
        "".join(map(_million, steps.values())),
        _machines(pools),
    ]


def _million(costs: Sequence[StepCost]) -> str:
    """Returns the arithmetic for a million images; empty if they were measured."""
    largest = max(costs, key=lambda cost: cost.images)
    if largest.images >= _MILLION:
        return ""
    found, times = projected(costs, _MILLION), _MILLION / largest.images
    power = math.log(found.seconds / largest.seconds) / math.log(times)
    return (
        f"- {largest.step}: {largest.seconds:,.1f} s for {largest.images:,} images x {times:,.0f}^{power:.2f} = "
        f"{_duration(found.seconds)} for {_MILLION:,}.\n"
    )


Figure = Callable[[Sequence[StepCost]], float | None]


def _table(
    costs: Costs,
    steps: dict[str, list[StepCost]],
    cell: Callable[[StepCost], str],
    unit: str,
    figures: dict[str, Figure],
) -> str:
    """Returns a row for each step: a cell for each size, and figures over all sizes."""
    heads = ["step", *(f"{images:,} images: {unit}" for images in sorted(costs.sizes)), *figures]
    rows = []
    for step, each in steps.items():
        at = {cost.images: cell(cost) for cost in each}
        cells = [step, *(at.get(images, "") for images in sorted(costs.sizes))]
        rows.append([*cells, *(_figure(figure(each)) for figure in figures.values())])
    return _markdown(heads, rows)


def _memory_table(costs: Costs, steps: dict[str, list[StepCost]]) -> str:
    largest = max(costs.sizes)

    def disk(each: Sequence[StepCost]) -> float | None:
        return next((cost.disk for cost in each if cost.images == largest), None)

    figures: dict[str, Figure] = {"bytes an image": bytes_an_image, "disk, MB": disk}
    return _table(costs, steps, lambda cost: f"{cost.megabytes:,.0f}", "MB", figures)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _projection(steps: Sequence[Sequence[StepCost]]) -> str:
    heads = ["step", *(f"{name}: {what}" for name in PROJECTED for what in ("time", "memory", "disk"))]
    rows = []
    for each in steps:
        if len(each) < 2:
            continue
        cells = [each[0].step]
        for images in PROJECTED.values():
            cost = projected(each, images)
            cells += [_duration(cost.seconds), _size(cost.megabytes), _size(cost.disk)]
        rows.append(cells)
    return _markdown(heads, rows)


def _duration(seconds: float) -> str:
    for limit, factor, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h"), (730 * 86400, 86400, "days")):
        if seconds < limit:
            return f"{seconds / factor:,.0f} {unit}"
    return f"{seconds / (365 * 86400):,.0f} years"


def _size(megabytes: float) -> str:
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:,.1f} GB"


def _machines(costs: Costs) -> str:
    sizes: dict[str, list[str]] = {}
    for images in sorted(costs.sizes):
        sizes.setdefault(costs.machines[images], []).append(f"{images:,}")
    lines = [f"Machine ({', '.join(own)} images): {machine}." for machine, own in sizes.items()]
    for images, steps in sorted(costs.again.items()):
        lines += [
            f"Machine of `{step}`, measured again alone ({images:,} images): {machine}."
            for step, machine in steps.items()
        ]
    return "\n".join(lines) + "\n"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
