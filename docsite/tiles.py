"""Images in rows with words under them, as small PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

from spn4cir.files import atomic_file
from spn4cir.images.decoding import open_image

_CELL, _GAP, _LINE = 150, 14, 17
_CHARACTERS = 22
_COLOURS = 255
_INK, _PAPER, _FRAME, _FILL = "#1b1b1b", "#ffffff", "#0a7d33", "#eceff8"


@dataclass(frozen=True)
class Tile:
    """An image with lines of text below it; without an image, the lines in a box."""

    path: Path | None
    lines: tuple[str, ...]
    frame: bool = False

    def wrapped(self) -> list[str]:
        """Returns the lines, wrapped to the width of the tile."""
        return [part for line in self.lines for part in wrap(line, _CHARACTERS)]


@dataclass(frozen=True)
class TileRow:
    """Tiles side by side, with an optional title above."""

    title: str
    tiles: Sequence[Tile]

    @property
    def height(self) -> int:
        """Height in pixels, including the gap below."""
        under = max(len(tile.wrapped()) if tile.path else 0 for tile in self.tiles)
        return (_LINE + 6 if self.title else 0) + _CELL + 6 + under * _LINE + _GAP


def draw_rows(rows: Sequence[TileRow], path: Path) -> None:
    """Writes the rows. Raises InputError for an image that cannot be decoded."""
    width = max(len(row.tiles) for row in rows) * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, sum(row.height for row in rows) + _GAP), _PAPER)
    top = _GAP
    for row in rows:
        _draw_row(sheet, row, top)
        top += row.height
    save_small(sheet, path)


def _draw_row(sheet: Image.Image, row: TileRow, top: int) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    if row.title:
        pen.text((_GAP, top), row.title, _INK, font=font)
        top += _LINE + 6
    for column, tile in enumerate(row.tiles):
        left = _GAP + column * (_CELL + _GAP)
        box = (left, top, left + _CELL - 1, top + _CELL - 1)
        place = (left, top + _CELL + 6)
        if tile.path:
            sheet.paste(ImageOps.pad(open_image(tile.path).convert("RGB"), (_CELL, _CELL), color="#e8e8e8"), box[:2])
        else:
            pen.rectangle(box, fill=_FILL)
            place = (left + 6, top + 8)
        if tile.frame:
            pen.rectangle(box, outline=_FRAME, width=4)
        pen.multiline_text(place, "\n".join(tile.wrapped()), _INK, font=font, spacing=4)


def save_small(image: Image.Image, path: Path) -> None:
    """Writes a PNG with a small palette, which is enough for flat drawings."""
    with atomic_file(path) as temporary:
        image.convert("RGB").quantize(_COLOURS).save(temporary, format="PNG", optimize=True)
