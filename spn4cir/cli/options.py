"""Options that commands share. The families are those of the registry."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from spn4cir.composers import COMPOSERS
from spn4cir.datasets import LAYOUTS

# The forms of the names of pretrained networks.
PRETRAINED = "open_clip:ARCHITECTURE/TAG, hf-hub:OWNER/NAME or local-dir:FOLDER"

LayoutName = Annotated[str, typer.Option("--layout", metavar="|".join(LAYOUTS), help="How the folder is laid out.")]
Root = Annotated[Path, typer.Option("--root", metavar="FOLDER", help="Root folder of the data set; it is only read.")]
Annotations = Annotated[
    Path | None,
    typer.Option(
        "--annotations",
        metavar="FILE",
        help="Layout folder: a CSV or parquet file with the columns reference, target, text[, split, group].",
    ),
]
TableSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="KEY=VALUE",
        help="Layout table, may be repeated: a pattern of paths, as in images=corpus/*; the name of a column, as in "
        "reference=reference_image; or the split of all rows, as in split=test.",
    ),
]
Categories = Annotated[
    str | None,
    typer.Option("--categories", metavar="A,B", help="Layout fashioniq: the categories to read. Default: all three."),
]
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="A,B", help="Layout genecis: the tasks to score. Default: all four."),
]
QueryText = Annotated[
    str | None,
    typer.Option(
        "--query-text",
        metavar="TEMPLATE",
        help="Layouts circo and genecis: the text of a query. Fields of circo: {relative_caption}, {shared_concept}; "
        "of genecis: {condition}. Default: the first field.",
    ),
]
Weights = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        metavar="FILE|NAME",
        help="Weights, .pt: a published file of either stage, or your own; or a folder of `export --to hub-folder`; or "
        f"a pretrained network: {PRETRAINED}.",
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="|".join(COMPOSERS),
        help="Model family, or a recipe of one. Default: the family of the checkpoint.",
    ),
]
TokenizerName = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="FOLDER|ID",
        help="BERT vocabulary of blip and blip2: a folder with vocab.txt or tokenizer.json, or a hub id. Default: the "
        "one in the checkpoint, else bert-base-uncased.",
    ),
]
VisionHeadWidth = Annotated[
    int | None,
    typer.Option(
        "--vision-head-width",
        metavar="N",
        min=1,
        help="Width of an attention head of the image tower, in no checkpoint. Default: the published width.",
    ),
]
TextHeadWidth = Annotated[
    int | None,
    typer.Option(
        "--text-head-width",
        metavar="N",
        min=1,
        help="Width of an attention head of the text tower. Default: the published width.",
    ),
]
Composition = Annotated[
    Literal["sum", "text", "image", "slerp"] | None,
    typer.Option(
        "--composition",
        help="For a CLIP network: compose queries by this rule of the image and the text feature. Default: as the "
        "family composes; sum for a pretrained network.",
    ),
]
Missing = Annotated[
    Literal["error", "skip"] | None,
    typer.Option(
        "--missing",
        help="Images that are missing or broken: stop at the first, or leave out and count their triplets.",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Take this data set's settings from the params.yaml in reach. Default: the layout's published settings.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda", help="Default: machine.device of params.yaml.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=0, help="Processes that decode images. Default: machine.workers of params.yaml."
    ),
]
