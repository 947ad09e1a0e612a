"""The section of docs/benchmarks.md that `make real` writes, and `make bench` does not change."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import cpuinfo

START, END = "<!-- written by make real -->", "<!-- end -->"
_TEXT = """\
## The pipeline on real annotations

`make real` writes this section. It runs `dvc repro` on the annotation files of FashionIQ (all three categories) and of
CIRR (train captions made of val's, in the same form), with a drawn image of {size} pixels for every name. The networks
are tiny and train one epoch, so the table shows the costs of reading, decoding, hashing and ranking at real sizes, and
not those of the published networks. Captions are made of all train images. Seconds are those of the stage and of DVC's
hashing of inputs and outputs. The peak is the resident memory of the stage's processes together; pages that they share,
such as those of libraries, count in each.
Machine: {cpu}, {cores} cores, load average {load:.1f} (over 15 minutes, others' work included); Python
{python}; {date}.

| stage | {heads} |
|---|{rule}|
{rows}
In all {minutes:.1f} minutes; DVC itself took up to {dvc:,.0f} MB.
"""


@dataclass(frozen=True)
class StageCost:
    """The cost of a stage.

    Attributes:
        name: DVC's name of the stage, such as `dedup@real_fiq`.
        seconds: time from its start to that of the next stage.
        megabytes: the peak of its processes' resident memory together.
    """

    name: str
    seconds: float
    megabytes: float


def render(costs: Sequence[StageCost], datasets: Mapping[str, str], size: str, minutes: float, dvc: float) -> str:
    """Returns the section in Markdown, with its markers.

    Args:
        costs: costs of the stages, in the order of the run.
        datasets: titles of the columns by the names of data sets in DVC's stages.
        size: size of the images, such as `96x128`.
        minutes: duration of the whole run.
        dvc: peak memory of DVC's own process, in MB.
    """
    found = {_place(cost.name, datasets): cost for cost in costs}
    stages = dict.fromkeys(stage for stage, dataset in found if dataset)
    rows = [
        " | ".join([f"| {stage}", *(_cells(found.get((stage, dataset))) for dataset in datasets)]) + " |\n"
        for stage in stages
    ]
    text = _TEXT.format(
        size=size.replace("x", " x "),
        cpu=cpuinfo.get_cpu_info().get("brand_raw", platform.machine()),
        cores=os.cpu_count(),
        load=os.getloadavg()[2],
        python=platform.python_version(),
        date=datetime.now(tz=UTC).date().isoformat(),
        heads=" | ".join(f"{title}: seconds | peak MB" for title in datasets.values()),
        rule="|".join(["---"] * 2 * len(datasets)),
        rows="".join(rows),
        minutes=minutes,
        dvc=dvc,
    )
    return f"{START}\n{text}{END}\n"


def _place(name: str, datasets: Mapping[str, str]) -> tuple[str, str]:
    """Returns the row and the column of a stage."""
    stage, _, key = name.rpartition(":")[2].partition("@")
    return stage, next((dataset for dataset in datasets if key == dataset or key.startswith(f"{dataset}-")), "")


def _cells(cost: StageCost | None) -> str:
    return " | " if cost is None else f"{cost.seconds:,.1f} | {cost.megabytes:,.0f}"


def section_of(page: str) -> str:
    """Returns the section of a page, with its markers; empty if there is none."""
    start = page.find(START)
    return "" if start < 0 else page[start : page.index(END, start) + len(END)] + "\n"


def with_section(page: str, section: str) -> str:
    """Returns the page with its section replaced, or appended if it has none; an empty section removes it."""
    own = section_of(page)
    return page.replace(own, section) if own else f"{page.rstrip()}\n\n{section}".rstrip() + "\n"
