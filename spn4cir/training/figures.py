"""Figures of a training run as files that DVC plots, written by DVCLive during training.

Each figure is one tab-separated file with the columns `step` (the training step, or the epoch) and the value. DVCLive
is installed by the extra `dvc`; nothing else in the package needs it.
"""

import shutil
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.extras import install_command
from spn4cir.files import atomic_folder
from spn4cir.json_files import write_json
from spn4cir.training.trainer import History

# Folders of figures that a repeated run writes identically, and the folder of figures that differ in every run.
GROUPS = ("steps", "epochs", "scores")
SPEED = "speed"
# The scores of averaged weights, in the folder of the scores.
AVERAGING = "averaging.json"
# Figures of an epoch that are not scores.
_EPOCH_FIGURES = ("loss", "score", "learning_rate", "temperature")


class Figures:
    """Writes new rows of a history to `<folder>/plots/metrics/<group>/<figure>.tsv`.

    The files are started again: the first update of a resumed run writes all rows so far, so that none is missing or
    repeated.

    Args:
        folder: where DVCLive writes.

    Raises:
        InputError: DVCLive is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from dvclive.live import Live
        except ImportError:
            raise InputError(f"the package dvclive is not installed; run {install_command('dvc')}") from None
        self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None)
        self._steps = self._epochs = self._speed = 0

    def update(self, history: History) -> None:
        """Writes the rows added since the last update."""
        for row in history.steps[self._steps :]:
            self._log("steps", row["step"], {"loss": row["loss"]})
        for row in history.epochs[self._epochs :]:
            figures = {name: row[name] for name in _EPOCH_FIGURES}
            self._log("epochs", row["epoch"], figures)
            self._log("scores", row["epoch"], {n: v for n, v in row.items() if n not in figures and n != "epoch"})
        for epoch, speed in enumerate(history.speed[self._speed :], start=self._speed + 1):
            self._log(SPEED, epoch, speed)
        self._steps, self._epochs, self._speed = len(history.steps), len(history.epochs), len(history.speed)

    def _log(self, group: str, step: float, figures: dict[str, float]) -> None:
        self._live.step = int(step)
        for name, value in figures.items():
            self._live.log_metric(f"{group}/{name}", value)


def write_figures(history: History, out: Path, speed: Path) -> None:
    """Writes one file for each figure; the folders are empty for weights that were not trained here.

    Scores of averages of weights (`History.averaging`) are a JSON file in the folder of the scores.

    Args:
        history: history of the run.
        out: folder of the groups, `<out>/<group>/<figure>.tsv`.
        speed: folder of `<figure>.tsv` for images per second and memory. It is separate from `out`, which is an out of
            the stage, so that a repeated run leaves the stage's outs unchanged.
    """
    with atomic_folder(out) as folder, atomic_folder(speed) as beside:
        live = folder / "live"
        Figures(live).update(history)
        written = live / "plots" / "metrics"
        for group, place in [*((group, folder / group) for group in GROUPS), (SPEED, beside)]:
            (written / group).mkdir(parents=True, exist_ok=True)
            (written / group).rename(place)
        if history.averaging:
            write_json(folder / "scores" / AVERAGING, history.averaging, indent=2)
        shutil.rmtree(live)
