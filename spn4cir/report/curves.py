"""Charts of the training curves of both stages."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.report.charts import Chart, line_chart

Points = list[tuple[float, float]]


def curve_charts(curves: Mapping[str, Path]) -> list[Chart]:
    """Returns charts of the loss per step, and the loss and score per epoch, of each stage.

    Weights that were not trained here have no charts.

    Args:
        curves: folders of values that the stages `checkpoint` and `train` wrote, by the name of the training.
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
    """Reads the rows of a file of values; an absent file has no rows."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))[1:]
    try:
        return [(float(step), float(value)) for step, value in rows]
    except ValueError as error:
        raise InputError(f"{path}: is not a table of steps and values ({error}); run its stage again") from None
