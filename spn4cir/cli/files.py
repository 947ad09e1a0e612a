"""The command `inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.groups import FamilyOptions, command
from spn4cir.cli.options import PRETRAINED
from spn4cir.cli.outputs import check_outputs

_LABEL_WIDTH = 14


@command("spn4cir inspect best.pt")
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|NAME",
            help=f"Weights, .pt, published or your own; a hub folder; or a pretrained network: {PRETRAINED}.",
        ),
    ],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the description into this file.")
    ] = None,
    *,
    network: FamilyOptions,
) -> None:
    """Describe a checkpoint.

    Reads FILE; no tokenizer is needed. Prints family, stage, sizes of both towers, number of parameters, and the
    pipelines of the params.yaml in reach (else of the published one) whose network has these sizes.
    """
    from spn4cir.checkpoints.describe import describe
    from spn4cir.config.load import find_params
    from spn4cir.json_files import write_json

    check_outputs(json, reads=[file])
    found = describe(file, find_params(Path.cwd()), network.family, network.options)
    for label, value in found.lines():
        print(f"{label:<{_LABEL_WIDTH}}{value}")
    if json is not None:
        write_json(json, found.as_dict(), indent=2)
        print(f"{json}: written")
