"""The curves of both training stages as charts."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.report.charts import Chart, line_chart

Points = list[tuple[float, float]]


def curve_charts(curves: Mapping[str, Path]) -> list[Chart]:
    """Loss a step, loss and score an epoch, of each stage; none for weights that were not trained here.

    Args:
        curves: the folders of figures that `checkpoint` and `train` wrote, by what was trained.
    """
    return [chart for name, folder in curves.items() for chart in _charts(name, folder)]


def _charts(name: str, folder: Path) -> Iterator[Chart]:
    if steps := _read(folder / "steps" / "loss.tsv"):
        yield line_chart(f"{name}: loss a step", "step", "loss", {"loss": steps}, table=False)
    if loss := _read(folder / "epochs" / "loss.tsv"):
        yield line_chart(f"{name}: mean loss an epoch", "epoch", "loss", {"loss": loss})
    if score := _read(folder / "epochs" / "score.tsv"):
        yield line_chart(f"{name}: score an epoch", "epoch", "percent", {"score": score})


def _read(path: Path) -> Points:
    """The rows of a file of figures; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))[1:]
    try:
        return [(float(step), float(value)) for step, value in rows]
    except ValueError as error:
        raise InputError(f"{path}: is not a table of steps and values ({error}); run its stage again") from None
