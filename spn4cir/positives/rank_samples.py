"""Samples of images at similarity ranks, which show whether a window is sensible."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.json_files import read_json, write_json
from spn4cir.positives.partners import Window, ranks_of

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image at a rank of another image's similarities."""

    rank: int
    name: str
    similarity: float


@dataclass(frozen=True)
class RankSample:
    """An image with its neighbours at the sampled ranks, by rank."""

    reference: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class RankSamples:
    """The content of a file of samples: the number of all images, and the sampled ones."""

    images: int
    samples: tuple[RankSample, ...]


def strips(window: Window | None, images: int) -> dict[str, range]:
    """Returns ranks to show, by label: the nearest, the window's start, middle and end, and ranks beyond the window.

    Args:
        window: [lo, hi) of ranks or of shares of the images; None for any other image.
        images: number of images; ranks beyond it are left out.
    """
    lo, hi = ranks_of(window, images) or (1, images)
    hi = min(hi, images)
    places = {"nearest": 1}
    if window:
        places["start of the window"] = lo
    places["middle of the window" if window else "middle"] = (lo + hi - SHOWN) // 2
    if window:
        places["end of the window"] = hi - SHOWN
        places["just beyond"] = hi
    places["farthest"] = images - SHOWN
    cut = {label: range(max(start, 1), min(start + SHOWN, images)) for label, start in places.items()}
    return {label: ranks for label, ranks in cut.items() if ranks}


def sampled_ranks(windows: Sequence[Window | None], images: int) -> list[int]:
    """Returns all ranks in the strips of the windows, ascending."""
    return sorted({rank for window in windows for ranks in strips(window, images).values() for rank in ranks})


def write_samples(samples: RankSamples, path: Path) -> None:
    """Writes the samples as JSON, atomically."""
    plain = [
        {"reference": each.reference, "neighbours": [[n.rank, n.name, n.similarity] for n in each.neighbours]}
        for each in samples.samples
    ]
    write_json(path, {"images": samples.images, "samples": plain})


def read_samples(path: Path) -> RankSamples:
    """Reads a file of `write_samples`. Raises InputError if it is absent or has another form."""
    content = read_json(path)
    try:
        samples = tuple(
            RankSample(each["reference"], tuple(Neighbour(*neighbour) for neighbour in each["neighbours"]))
            for each in content["samples"]
        )
        return RankSamples(content["images"], samples)
    except (LookupError, TypeError):
        raise InputError(f"{path}: is not a file of sampled ranks; run the match stage again") from None
