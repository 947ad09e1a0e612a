"""A query's hits in a folder of pictures, and a sheet that shows them."""

from collections.abc import Sequence
from pathlib import Path

from spn4cir.errors import InputError
from spn4cir.images.contact_sheet import SheetRow, draw_sheet
from spn4cir.images.spelling import Spellings, spelled
from spn4cir.search.hits import Hit
from spn4cir.search.retriever import Retriever

_SHEET_COLUMNS = 10


def find(
    retriever: Retriever, image: str, text: str, k: int, gallery: Path | None = None, skip: bool = False
) -> tuple[list[Hit], Path]:
    """What `Retriever.search` finds, and where the query image lies.

    Args:
        retriever: with its gallery.
        image: a file; where there is none, the name of a picture of the gallery. Accents may be written in another way
            (`spn4cir.images.spelling`).
        text: what is to be different.
        k: how many, at least 1.
        gallery: a folder to index first, once the query is known to be good; None: the gallery is there.
        skip: leave out pictures of that folder that cannot be decoded.

    Raises:
        InputError: as `Retriever.search` and `index`, and when the gallery holds nothing but the query image.
    """
    path = spelled(Path(), image)
    if not path.exists():
        name = image if image in retriever else Spellings(retriever.names, Path("the gallery")).find(image) or image
        named = retriever.path(name) if name in retriever else spelled(Path(gallery or ""), name)
        path = named if named.is_file() else path
    retriever.prepare(path, text)
    if gallery is not None:
        retriever.index(gallery, skip=skip)
    hits = retriever.search(path, text, k)
    if not hits:
        raise InputError(f"{image}: the gallery holds no other image; name a folder with more")
    return hits, path


def draw_found(found: Sequence[Hit], image: Path, text: str, path: Path) -> None:
    """Writes a PNG: the query and what was found, best first, `_SHEET_COLUMNS` a row."""
    rows = []
    for start in range(0, len(found), _SHEET_COLUMNS):
        part = found[start : start + _SHEET_COLUMNS]
        labels = [f"{rank}   {each.score:.3f}" for rank, each in enumerate(part, start=start + 1)]
        note = f"ranks {start + 1} to {start + len(part)}"
        rows.append(SheetRow(image, text, note, [Path(each.path) for each in part], labels, ()))
    draw_sheet(rows, "search", path)
