"""Contact sheets: what texts and names say is drawn letter by letter."""

from pathlib import Path

from PIL import Image, ImageOps

from spn4cir.images.contact_sheet import SheetRow, draw_sheet
from tests.helpers.layouts import draw


def test_markup_in_a_name_is_drawn_as_it_is_written(tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png", 0)

    def label_width(label: str) -> int:
        path = tmp_path / "sheet.png"
        draw_sheet([SheetRow(None, label, label, [image], [label], [])], label, path)
        with Image.open(path) as sheet:
            assert (sheet.format, sheet.text) == ("PNG", {})
            below = sheet.crop((sheet.width - 138, sheet.height - 37, sheet.width, sheet.height))
            left, _, right, _ = ImageOps.invert(below.convert("L")).getbbox()
            return right - left

    assert label_width("<b>bold</b>") > 1.5 * label_width("bold")
    assert label_width("<b></b>") > 0
