"""The command line: only arguments. Commands import heavy modules when they run, so that help is printed quickly."""

import os

from spn4cir.cli import (  # noqa: F401
    checking,
    comparing,
    data,
    doctor,
    exporting,
    files,
    recipes,
    scoring,
    searching,
    serving,
    settings,
    training,
)
from spn4cir.cli.application import app
from spn4cir.streams import open_streams

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    open_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded: spinning threads starve others
    app(prog_name="spn4cir")
