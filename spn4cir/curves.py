"""Training curves as CSV files, which DVC plots."""

import csv
from collections.abc import Sequence
from pathlib import Path

from spn4cir.files import atomic_file
from spn4cir.training import History


def write_curves(history: History, folder: Path) -> None:
    """Writes `steps.csv` (step, epoch, loss) and `epochs.csv` (epoch, loss, scores in percent).

    Weights that were not trained here have no rows.
    """
    _write(folder / "steps.csv", history.steps, ["step", "epoch", "loss"])
    _write(folder / "epochs.csv", history.epochs, ["epoch", "loss", "score"])


def _write(path: Path, rows: Sequence[dict[str, float]], columns: list[str]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else columns)
        writer.writeheader()
        writer.writerows(rows)
