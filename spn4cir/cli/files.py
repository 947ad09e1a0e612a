"""Commands over checkpoint files: `inspect` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from spn4cir.cli.application import app, example
from spn4cir.cli.context import check_place, network_options
from spn4cir.cli.options import Family, TextHeadWidth, VisionHeadWidth, Weights

_LABEL_WIDTH = 14


@app.command(epilog=example("spn4cir inspect best.pt"))
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Weights, .pt: a published file, or your own.")],
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the same into this file.")] = None,
    family: Family = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
) -> None:
    """Say what a checkpoint holds.

    Reads FILE; no tokenizer is needed. Prints family, stage, sizes of both towers, number of parameters, and the
    pipelines of the params.yaml in reach (else of the published one) whose network has these sizes.
    """
    from spn4cir.describing import describe
    from spn4cir.files import write_json
    from spn4cir.params import find_params

    if json is not None:
        check_place(json)
    options = network_options(None, vision_head_width, text_head_width)
    found = describe(file, find_params(Path.cwd()), family, options)
    for label, value in found.lines():
        print(f"{label:<{_LABEL_WIDTH}}{value}")
    if json is not None:
        write_json(json, found.as_dict(), indent=2)
        print(f"{json}: written")


@app.command(epilog=example("spn4cir export --checkpoint best.pt --out published.pt"))
def export(
    checkpoint: Weights,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write, .pt.")],
    family: Family = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
) -> None:
    """Write a checkpoint as a file that the original code loads.

    Reads the weights; no tokenizer is needed. Writes the published container and names of the checkpoint's stage, in
    float32, without the vocabulary that your own files carry. Names that the original's module has and this network
    does not are filled with fixed values and listed.
    """
    from spn4cir.exporting import export_checkpoint

    check_place(out)
    options = network_options(None, vision_head_width, text_head_width)
    written = export_checkpoint(checkpoint, out, family, options)
    if written.filled:
        print(f"filled with fixed values, which no query or target depends on: {', '.join(written.filled)}")
    if written.widened:
        print("tensors of half precision became float32")
    print(f"{out}: written, family {written.family}, stage {written.stage}: {written.tensors} in '{written.key}'")
