"""Commands that search a folder of pictures: `index` and `search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spn4cir.cli.application import app, example
from spn4cir.cli.context import check_place, find_machine
from spn4cir.cli.options import Device, Family, TextHeadWidth, TokenizerName, VisionHeadWidth, Weights, Workers

if TYPE_CHECKING:
    from spn4cir.search.retriever import Retriever

GalleryFolder = Annotated[Path, typer.Option("--gallery", metavar="FOLDER", help="Images to search, sub-folders too.")]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out images that cannot be decoded, rather than stop and list them.")
]


@app.command(epilog=example("spn4cir index --checkpoint best.pt --gallery ~/dresses --out dresses.index"))
def index(
    checkpoint: Weights,
    gallery: GalleryFolder,
    out: Annotated[Path, typer.Option("--out", metavar="INDEX", help="The folder to write, or to bring up to date.")],
    weights: Annotated[bool, typer.Option(help="Copy the checkpoint into INDEX, or look for it where it lies.")] = True,
    skip_broken: SkipBroken = False,
    family: Family = None,
    tokenizer: TokenizerName = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Encode the images of a folder, for searches that read none of them.

    Reads the images. Writes INDEX, a folder: vectors (FAISS), names and digests (parquet), the weights. Where INDEX is
    there, what is new or changed is encoded and what is gone leaves it. From 200,000 vectors on it is approximate: the
    recall is measured and printed.
    """
    from spn4cir.search.index_folder import check_index_place, holds_index

    check_place(out, folder=True)
    check_index_place(out)
    options = (family, tokenizer, vision_head_width, text_head_width)
    retriever = open_network(checkpoint, *options, device, workers, gallery)
    if holds_index(out):
        retriever.resume(out)
    changes = retriever.index(gallery, skip=skip_broken).changes
    retriever.save(out, weights=weights)
    for name in changes.skipped:
        print(f"{name}: skipped, cannot be decoded")
    print(
        f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed, "
        f"{changes.unchanged} unchanged, {len(changes.skipped)} skipped"
    )
    kind = "exact" if retriever.recall is None else f"approximate, recall {retriever.recall:.3f}"
    print(f"{out}: written, {len(retriever)} images, {kind}")


@app.command(epilog=example('spn4cir search --index dresses.index --image a.jpg --text "is longer" --out sheet.png'))
def search(
    image: Annotated[
        str, typer.Option("--image", metavar="FILE", help="The query image, or the name of one of the gallery.")
    ],
    text: Annotated[str, typer.Option("--text", help="What is to be different, as in 'is red with long sleeves'.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Weights, .pt; with --index: where they lie."),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="FOLDER", help="Images to search, sub-folders too.")
    ] = None,
    skip_broken: SkipBroken = False,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="INDEX", help="What `spn4cir index` wrote; it knows gallery and network."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many to list.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Draw them into this PNG.")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write them into this file.")] = None,
    family: Family = None,
    tokenizer: TokenizerName = None,
    vision_head_width: VisionHeadWidth = None,
    text_head_width: TextHeadWidth = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Find the images of a folder that an image and a text ask for.

    Reads the images (.png, .jpg, .webp, .tif and what else Pillow reads), or the index of them. Prints rank, name and
    score, best first; with --out draws them, with --json writes them. The query image itself is left out, also under
    another name.
    """
    options = (family, tokenizer, vision_head_width, text_head_width)
    if (index is None) == (gallery is None) or (index is None and checkpoint is None):
        raise typer.BadParameter("give --index INDEX, or --checkpoint FILE and --gallery FOLDER")
    if index is not None and (skip_broken or any(option is not None for option in options)):
        raise typer.BadParameter("with --index, leave out what INDEX knows: the network's options and --skip-broken")
    from spn4cir.files import write_json
    from spn4cir.search.find import draw_found, find

    for place in (out, json):
        if place is not None:
            check_place(place)
    if gallery is not None:
        assert checkpoint is not None
        retriever = open_network(checkpoint, *options, device, workers, gallery)
    else:
        assert index is not None
        retriever = _open_index(index, checkpoint, device, workers)
    found, query = find(retriever, image, text, k, gallery, skip_broken)
    width = max(len(each.name) for each in found)
    for rank, each in enumerate(found, start=1):
        print(f"{rank:>4}  {each.name:<{width}}  {each.score:7.4f}")
    if json is not None:
        hits = [{"name": each.name, "score": each.score, "path": each.path} for each in found]
        write_json(json, {"image": str(query), "text": text, "hits": hits}, indent=2)
        print(f"{json}: written")
    if out is not None:
        draw_found(found, query, text, out)
        print(f"{out}: written")


def open_network(
    checkpoint: Path,
    family: str | None,
    tokenizer: str | None,
    vision_head_width: int | None,
    text_head_width: int | None,
    device: str | None,
    workers: int | None,
    gallery: Path,
) -> "Retriever":
    """Without a gallery yet; one that holds no image is refused before the weights are read."""
    from spn4cir.images.folders import require_images
    from spn4cir.search.retriever import Retriever

    require_images(gallery)
    _, place, processes = find_machine(device, workers)
    return Retriever.from_checkpoint(
        checkpoint,
        family,
        tokenizer,
        vision_head_width=vision_head_width,
        text_head_width=text_head_width,
        device=str(place),
        workers=processes,
    )


def _open_index(index: Path, checkpoint: Path | None, device: str | None, workers: int | None) -> "Retriever":
    from spn4cir.search.retriever import Retriever

    _, place, processes = find_machine(device, workers)
    return Retriever.load(index, checkpoint=checkpoint, device=str(place), workers=processes)
