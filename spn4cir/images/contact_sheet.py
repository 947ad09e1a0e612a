"""Contact sheets: queries with their retrieved images, targets framed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

from spn4cir.files import atomic_file
from spn4cir.images.decoding import open_rgb

_CELL = 128
_GAP = 10
_LABEL = 18
_TEXT_WIDTH = 230
_INK, _PALE, _TARGET, _PAPER = "#1b1b1b", "#5b5b5b", "#0a7d33", "#ffffff"


@dataclass(frozen=True)
class SheetRow:
    """A query and its best candidates.

    Attributes:
        reference: the query image; None leaves its place empty.
        text: the modification text.
        note: a short line under the text, such as `target at 3 of 180`.
        results: candidates, best first.
        labels: a short line under each candidate.
        targets: positions of the candidates that are targets; empty if none is, or the targets are unknown.
    """

    reference: Path | None
    text: str
    note: str
    results: Sequence[Path]
    labels: Sequence[str]
    targets: Sequence[int]


def draw_sheet(rows: Sequence[SheetRow], title: str, path: Path) -> None:
    """Writes a PNG with one row per query and a green frame around targets. Raises InputError for a broken image."""
    columns = max(len(row.results) for row in rows)
    width = _GAP + (_CELL + _GAP) + (_TEXT_WIDTH + _GAP) + columns * (_CELL + _GAP)
    height = 44 + len(rows) * (_CELL + _LABEL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 12), title, _INK, font=ImageFont.load_default(18))
    for number, row in enumerate(rows):
        _draw_row(sheet, pen, row, top=44 + number * (_CELL + _LABEL + _GAP))
    with atomic_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: SheetRow, top: int) -> None:
    small = ImageFont.load_default(12)
    if row.reference is not None:
        sheet.paste(_thumbnail(row.reference), (_GAP, top))
        pen.text((_GAP, top + _CELL + 2), "reference", _PALE, font=small)
    left = _GAP + _CELL + _GAP
    lines = wrap(row.text, 32)[:6]
    pen.multiline_text((left, top + 4), "\n".join(lines), _INK, font=ImageFont.load_default(14), spacing=4)
    pen.text((left, top + _CELL - 14), row.note, _PALE, font=small)
    left += _TEXT_WIDTH + _GAP
    for position, (path, label) in enumerate(zip(row.results, row.labels, strict=True)):
        sheet.paste(_thumbnail(path), (left, top))
        if position in row.targets:
            pen.rectangle((left - 3, top - 3, left + _CELL + 2, top + _CELL + 2), outline=_TARGET, width=4)
        pen.text((left, top + _CELL + 2), label, _TARGET if position in row.targets else _PALE, font=small)
        left += _CELL + _GAP


def _thumbnail(path: Path) -> Image.Image:
    return ImageOps.pad(open_rgb(path), (_CELL, _CELL), color="#e8e8e8")
