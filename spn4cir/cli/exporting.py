"""The command `export`."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spn4cir.cli.groups import NetworkOptions, command
from spn4cir.cli.options import PRETRAINED
from spn4cir.cli.outputs import check_output_folder, check_outputs

if TYPE_CHECKING:
    from spn4cir.checkpoints.model_card import Facts

# The options that only some forms accept, by form.
_NETWORK = {"checkpoint", "family", "vision-head-width", "text-head-width"}
_CARD = {"name", "licence", "data", "metrics", "scored-on"}
_TAKEN = {"published": _NETWORK, "hub-folder": {*_NETWORK, *_CARD, "tokenizer"}, "vectors": {"index"}}


@command("spn4cir export --to hub-folder --checkpoint best.pt --licence mit --out my-model")
def export(
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file or, for the hub, the folder to write.")],
    to: Annotated[
        Literal["published", "hub-folder", "vectors"],
        typer.Option("--to", help="A file for the original code, a folder for the hub, or an index's vectors."),
    ] = "published",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE|NAME",
            help=f"published, hub-folder: the weights, .pt, or a pretrained network: {PRETRAINED}.",
        ),
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", metavar="INDEX", help="vectors: an index that `spn4cir index` wrote.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="hub-folder: the name of the model. Default: the folder's name.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", metavar="ID", help="hub-folder: the licence of the weights, by the hub's id. Default: unknown."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME", help="hub-folder: a data set that it was trained on; may be repeated."),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option("--metrics", metavar="FILE", help="hub-folder: the scores, a file that `validate` wrote."),
    ] = None,
    scored_on: Annotated[
        str | None, typer.Option("--scored-on", metavar="NAME", help="hub-folder: the data set of the scores.")
    ] = None,
    *,
    network: NetworkOptions,
) -> None:
    """Write a checkpoint or an index in a form that other programs read.

    Reads the weights. --to published writes a file that the original code loads, in float32 and without a vocabulary;
    no tokenizer is needed. Tensors that the original's network has and this one does not are filled with fixed values
    and listed.

    --to hub-folder writes model.safetensors, config.json, the vocabulary if the family needs one, and a model card. The
    option --checkpoint takes the folder instead of a file. A pretrained network must be a CLIP with quick GELU.

    --to vectors writes the names and vectors of an index into a parquet file, for a vector database.
    """
    card = {"name": name, "licence": licence, "data": data, "metrics": metrics, "scored-on": scored_on}
    given = {"checkpoint": checkpoint, "index": index, **card, **asdict(network)}
    _refuse_others(to, {key.replace("_", "-") for key, value in given.items() if value})
    reads = (checkpoint, index, network.tokenizer, metrics)
    if to == "hub-folder":
        check_output_folder(out, reads)
    else:
        check_outputs(out, reads=reads)
    if to == "vectors":
        _to_vectors(_needed("index", index, to), out)
    elif to == "published":
        _to_published(_needed("checkpoint", checkpoint, to), out, network)
    else:
        from spn4cir.checkpoints.model_card import Facts

        facts = Facts(name or out.absolute().name, licence, tuple(data or ()), metrics, scored_on)
        _to_folder(_needed("checkpoint", checkpoint, to), out, facts, network)


def _refuse_others(to: str, given: Collection[str]) -> None:
    """Raises BadParameter for an option that was given and that the form does not take."""
    for key in sorted(given):
        if key not in _TAKEN[to]:
            raise typer.BadParameter(f"--{key} is not for --to {to}; leave it out")


def _needed(key: str, value: Path | None, to: str) -> Path:
    if value is None:
        raise typer.BadParameter(f"--to {to} needs --{key}; add it")
    return value


def _to_vectors(index: Path, out: Path) -> None:
    from spn4cir.search.export import export_vectors

    about = export_vectors(index, out)
    each = f"{about.dim} figures" if about.tokens == 1 else f"{about.tokens} x {about.dim} figures"
    print(f"{out}: written, {about.images} images, {each} each, unit norm, for the inner product")


def _to_published(checkpoint: Path, out: Path, network: NetworkOptions) -> None:
    from spn4cir.checkpoints.export_published import export_checkpoint

    written = export_checkpoint(checkpoint, out, network.family, network.options)
    if written.filled:
        print(f"filled with fixed values, which no query or target depends on: {', '.join(written.filled)}")
    if written.widened:
        print("tensors of half precision were converted to float32")
    print(f"{out}: written, family {written.family}, stage {written.stage}: {written.tensors} in '{written.key}'")


def _to_folder(checkpoint: Path, out: Path, facts: "Facts", network: NetworkOptions) -> None:
    from spn4cir.checkpoints.export_hub_folder import export_folder

    written = export_folder(checkpoint, out, facts, network.family, network.options)
    if facts.licence is None:
        print("the model card states an unknown licence; set it with --licence ID")
    stage = "pretrained" if written.pretrained else f"stage {written.stage}"
    print(f"{out}: written, family {written.name}, {stage}")
