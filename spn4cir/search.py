"""Search: the images of a folder that answer a query image with a text."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from spn4cir.composers.protocol import Composer
from spn4cir.dedup import pixel_digest
from spn4cir.encoding import encode_gallery
from spn4cir.errors import InputError
from spn4cir.files import walk_once
from spn4cir.sheets import SheetRow, draw_sheet
from spn4cir.types import Gallery

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_BATCH_SIZE = 64
_SHEET_COLUMNS = 10


@dataclass(frozen=True)
class Found:
    """An image of the gallery with its similarity to the query (a cosine)."""

    name: str
    path: Path
    score: float


def folder_gallery(folder: Path) -> Gallery:
    """Every image in a folder and the folders below it, named by its path from there and sorted by name.

    An image is a file with one of `SUFFIXES`; names that begin with a dot are passed over, links are followed.
    Raises InputError for a folder that is not there or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images as the gallery")
    names: list[str] = []
    for place, folders, files in walk_once(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        names.extend(Path(place, name).relative_to(folder).as_posix() for name in images)
    if not names:
        raise InputError(f"{folder}: the gallery is empty: no file ends in {', '.join(SUFFIXES)}; name another folder")
    names.sort()
    return Gallery(tuple(names), tuple(folder / name for name in names))


def search(
    composer: Composer, gallery: Gallery, image: Path, text: str, k: int, workers: int, device: torch.device
) -> list[Found]:
    """The best candidates, best first; equal scores in the order of the names.

    Images whose decoded pixels equal those of the query image are left out. Without them, a gallery of fewer than
    `k` images gives all of them.

    Args:
        composer: the network, on the device.
        gallery: the candidates.
        image: the query image, in the gallery or not.
        text: what is to be different.
        k: how many to return, at least 1.
        workers: processes that decode images.
        device: where the network runs.

    Raises:
        InputError: the text is empty, an image cannot be decoded, the weights give figures that are not finite, or no
            other image is in the gallery.
    """
    _check_text(composer, text)
    own = pixel_digest(image)
    everything = Gallery((*gallery.names, str(image)), (*gallery.paths, image))
    encoded = encode_gallery(composer, everything, [len(gallery)], _BATCH_SIZE, workers, device, "encode gallery")
    with torch.inference_mode():
        query = composer.compose(encoded.reference.to(device), [text])
        scores = composer.score(query, encoded.target[:-1].to(device))[0].cpu()
    if not torch.isfinite(scores).all():
        raise InputError("the network gives figures that are not finite: its weights are broken or training diverged")
    found = _best_others(gallery, scores, own, k)
    if not found:
        raise InputError(f"{image}: the gallery holds no other image; name a folder with more")
    return found


def _check_text(composer: Composer, text: str) -> None:
    """Refuses an empty text, warns of one that will be cut."""
    if not text.strip():
        raise InputError(f"the text is empty ({text!r}); say what is to be different, as in 'is red with long sleeves'")
    tokens = composer.count_tokens(text)
    if tokens > composer.max_tokens:
        print(
            f"warning: the text has {tokens} tokens, {composer.family} reads {composer.max_tokens}: the rest is cut; "
            "shorten the text",
            file=sys.stderr,
        )


def _best_others(gallery: Gallery, scores: torch.Tensor, own: bytes, k: int) -> list[Found]:
    """The k best whose pixels are not `own`; only those in reach of the top are compared."""
    found: list[Found] = []
    for position in scores.argsort(descending=True, stable=True).tolist():
        if len(found) == k:
            break
        if pixel_digest(gallery.paths[position]) != own:
            found.append(Found(gallery.names[position], gallery.paths[position], float(scores[position])))
    return found


def draw_found(found: list[Found], image: Path, text: str, path: Path) -> None:
    """Writes a PNG: the query and what was found, best first, `_SHEET_COLUMNS` a row."""
    rows = []
    for start in range(0, len(found), _SHEET_COLUMNS):
        part = found[start : start + _SHEET_COLUMNS]
        labels = [f"{rank}   {each.score:.3f}" for rank, each in enumerate(part, start=start + 1)]
        note = f"ranks {start + 1} to {start + len(part)}"
        rows.append(SheetRow(image, text, note, [each.path for each in part], labels, None))
    draw_sheet(rows, "search", path)
