"""The settings that the repository contains."""

from pathlib import Path

from spn4cir.config.load import load_params
from spn4cir.config.params import Params


def published_params() -> Params:
    """The published settings: the `params.yaml` that the package ships."""
    return load_params(Path(__file__).parents[2] / "params.yaml")
