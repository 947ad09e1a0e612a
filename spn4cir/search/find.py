"""The command `search`: the hits of a query in a folder or an index, and a contact sheet of them."""

from collections.abc import Sequence
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.images.contact_sheet import SheetRow, draw_sheet
from spn4cir.images.spelling import Spellings, spelled
from spn4cir.search.hits import Hit
from spn4cir.search.retriever import Retriever

_SHEET_COLUMNS = 10


def find(
    retriever: Retriever,
    image: str | None,
    text: str | None,
    k: int,
    gallery: Path | None = None,
    skip: bool = False,
) -> tuple[list[Hit], Path | None]:
    """Searches with a text and an image that is given as a file or by its name in the gallery, or with one of them.

    Args:
        retriever: the network, with its gallery unless `gallery` is given.
        image: a file; if there is none, the name of an image of the gallery. Accents may be encoded in another way
            (`spn4cir.images.spelling`). None: the text alone.
        text: the change to search for; None: the image alone.
        k: number of hits, at least 1.
        gallery: a folder to index after the query is checked; None: the retriever has a gallery.
        skip: leave out images of that folder that cannot be decoded.

    Returns:
        The hits, best first, and the path of the query image; None for a text alone.

    Raises:
        InputError: as `Retriever.search` and `index` do, and if the gallery contains only the query image.
    """
    path = None if image is None else _path(retriever, image, gallery)
    retriever.prepare(path, text)
    if gallery is not None:
        retriever.index(gallery, skip=skip)
    hits = retriever.search(path, text, k)
    if not hits:
        raise InputError(f"{image}: the gallery contains no other image; give a folder with more")
    return hits, path


def _path(retriever: Retriever, image: str, gallery: Path | None) -> Path:
    path = spelled(Path(), image)
    if path.exists():
        return path
    name = image if image in retriever else Spellings(retriever.names, Path("the gallery")).find(image) or image
    named = retriever.path(name) if name in retriever else spelled(Path(gallery or ""), name)
    return named if named.is_file() else path


def draw_found(found: Sequence[Hit], image: Path | None, text: str | None, path: Path) -> None:
    """Draws a PNG: the query and its hits, best first, `_SHEET_COLUMNS` in a row."""
    rows = []
    for start in range(0, len(found), _SHEET_COLUMNS):
        part = found[start : start + _SHEET_COLUMNS]
        labels = [f"{rank}   {each.score:.3f}" for rank, each in enumerate(part, start=start + 1)]
        note = f"ranks {start + 1} to {start + len(part)}"
        rows.append(SheetRow(image, text or "", note, [Path(each.path) for each in part], labels, ()))
    draw_sheet(rows, "search", path)
