"""Commands that search a folder of images: `index` and `search`."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spn4cir.cli.context import find_image_workers, find_machine
from spn4cir.cli.groups import MachineOptions, QueryNetworkOptions, command
from spn4cir.cli.options import PRETRAINED, Weights
from spn4cir.cli.outputs import check_output_folder, check_outputs
from spn4cir.readable import real_path

if TYPE_CHECKING:
    from spn4cir.search.hits import Hit
    from spn4cir.search.retriever import Retriever

GalleryFolder = Annotated[Path, typer.Option("--gallery", metavar="FOLDER", help="Images to search, sub-folders too.")]
SkipBroken = Annotated[
    bool,
    typer.Option("--skip-broken", help="Leave out images that cannot be decoded, instead of stopping."),
]


@command("spn4cir index --checkpoint best.pt --gallery ~/dresses --out dresses.index")
def index(
    checkpoint: Weights,
    gallery: GalleryFolder,
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="The folder to write or to update.")],
    weights: Annotated[
        bool,
        typer.Option(help="Copy the checkpoint into INDEX, or store only its path; of a pretrained network, the name."),
    ] = True,
    skip_broken: SkipBroken = False,
    kind: Annotated[
        Literal["auto", "exact", "ivf", "ivf-pq"] | None,
        typer.Option(
            "--kind",
            help="Compare every vector, those of the nearest lists, or compressed ones of these. Default: as INDEX, "
            "else by size.",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            metavar="R",
            help="Least share of the 10 best images that ivf and ivf-pq find. Default: as INDEX, else 0.95.",
        ),
    ] = None,
    *,
    network: QueryNetworkOptions,
    machine: MachineOptions,
) -> None:
    """Encode the images of a folder, so that searches need not read them.

    Reads the images. Writes INDEX, a folder: vectors (FAISS), names and digests (parquet), the weights. If INDEX
    exists, new and changed images are encoded and absent ones are removed. From 200,000 vectors on, the index is
    approximate (ivf, from 2,000,000 images on ivf-pq); its recall is measured and printed. A run that was killed is
    continued by the same command: until INDEX is written, INDEX.unfinished contains what is encoded.
    """
    from spn4cir.search.index_folder import check_index_place, holds_index
    from spn4cir.search.unfinished import unfinished_folder
    from spn4cir.search.unfinished_file import check_unfinished

    check_index_place(out)
    check_output_folder(out, [gallery, *_weights_elsewhere(checkpoint, out)])
    check_unfinished(work := unfinished_folder(out))
    check_output_folder(work, [gallery, checkpoint])
    retriever = open_network(checkpoint, network, machine, gallery)
    if holds_index(out):
        retriever.resume(out)
    changes = retriever.index(gallery, skip=skip_broken, kind=kind, recall=recall, work=work).changes
    retriever.save(out, weights=weights)
    for name in changes.skipped:
        print(f"{name}: skipped, {'its path is not UTF-8' if name in changes.misnamed else 'cannot be decoded'}")
    print(
        f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed, "
        f"{changes.unchanged} unchanged, {len(changes.skipped)} skipped"
    )
    found = "" if retriever.recall is None else f", recall {retriever.recall:.3f}"
    print(f"{out}: written, {len(retriever)} images, {retriever.kind}{found}")


@command('spn4cir search --index dresses.index --image a.jpg --text "is longer" --out sheet.png')
def search(
    image: Annotated[
        str | None, typer.Option("--image", metavar="FILE", help="The query image: a file, or a name in the gallery.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="The wanted change, as in 'is red with long sleeves'.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE|NAME",
            help=f"Weights, .pt, or a pretrained network: {PRETRAINED}. With --index: if they have moved, or to search "
            "with another stage 2 of the same stage-1 weights.",
        ),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="FOLDER", help="Images to search, sub-folders too.")
    ] = None,
    skip_broken: SkipBroken = False,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="INDEX", help="What `spn4cir index` wrote: gallery and network."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="The number of images to find.")] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Draw the results into this PNG file.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the results into this file.")
    ] = None,
    *,
    network: QueryNetworkOptions,
    machine: MachineOptions,
) -> None:
    """Find the images of a folder that match an image and a text, or one of them.

    Reads the images (.png, .jpg, .webp, .tif and other formats that Pillow reads), or an index of them. Prints rank,
    name and score, best first. The query image and copies of it are left out. Without --text, the image is composed
    with the empty text; without --image, only the text is used.
    """
    if image is None and text is None:
        raise typer.BadParameter("give --image FILE, --text TEXT, or both")
    if (index is None) == (gallery is None) or (index is None and checkpoint is None):
        raise typer.BadParameter("give --index INDEX, or --checkpoint FILE and --gallery FOLDER")
    if index is not None and (skip_broken or network != QueryNetworkOptions()):
        raise typer.BadParameter("with --index, leave out what INDEX contains: the network's options and --skip-broken")
    if out is not None and out.suffix.lower() != ".png":
        raise typer.BadParameter(f"--out {out}: a PNG is written; give a name that ends in .png")
    from spn4cir.search.find import draw_found, find

    check_outputs(json, sheet=out, reads=[image, checkpoint, network.tokenizer, index], images=gallery)
    if gallery is not None:
        assert checkpoint is not None
        retriever = open_network(checkpoint, network, machine, gallery)
    else:
        assert index is not None
        retriever = _open_index(index, checkpoint, machine)
        followed = retriever.image_index.root if retriever.image_index.whole_folder else None
        check_outputs(json, sheet=out, reads=_indexed(retriever, (json, out)), images=followed)
    found, query = find(retriever, image, text, k, gallery, skip_broken)
    width = max(len(each.name) for each in found)
    for rank, each in enumerate(found, start=1):
        print(f"{rank:>4}  {each.name:<{width}}  {each.score:7.4f}")
    if json is not None:
        _write_hits(found, query, text, json)
    if out is not None:
        draw_found(found, query, text, out)
        print(f"{out}: written")


def _write_hits(found: "Sequence[Hit]", query: Path | None, text: str | None, path: Path) -> None:
    from spn4cir.json_files import write_json

    hits = [{"name": each.name, "score": each.score, "path": each.path} for each in found]
    write_json(path, {"image": None if query is None else str(query), "text": text, "hits": hits}, indent=2)
    print(f"{path}: written")


def open_network(checkpoint: Path, network: QueryNetworkOptions, machine: MachineOptions, gallery: Path) -> "Retriever":
    """The network of a checkpoint, without a gallery yet.

    Raises InputError when the folder `gallery` contains no image, before the weights are read.
    """
    from spn4cir.images.folders import require_images
    from spn4cir.search.retriever import Retriever

    require_images(gallery)
    params, place, _ = find_machine(machine)
    workers = find_image_workers(params, machine.workers)
    return Retriever.from_checkpoint(checkpoint, **asdict(network), device=str(place), workers=workers)


def _open_index(index: Path, checkpoint: Path | None, machine: MachineOptions) -> "Retriever":
    from spn4cir.search.retriever import Retriever

    _, place, processes = find_machine(machine)
    return Retriever.load(index, checkpoint=checkpoint, device=str(place), workers=processes)


def _weights_elsewhere(checkpoint: Path, index: Path) -> list[Path]:
    """The checkpoint, unless it is the copy in the index that is updated, which is kept."""
    from spn4cir.checkpoints.hub_folder import WEIGHTS
    from spn4cir.search.index_weights import FILE, FOLDER

    copies = (index / FILE, index / FOLDER, index / FOLDER / WEIGHTS)
    return [] if real_path(checkpoint) in map(real_path, copies) else [checkpoint]


def _indexed(retriever: "Retriever", places: "Sequence[Path | None]") -> list[Path | None]:
    """The weights of an index, and the images of it that are at one of the places."""
    found = [retriever.weights.path]
    if (root := retriever.image_index.root) is not None:
        for place in filter(None, places):
            for path in (real_path(place), real_path(place.parent) / place.name):
                name = Path(os.path.relpath(path, real_path(root))).as_posix()
                found += [path] if name in retriever else []
    return found
