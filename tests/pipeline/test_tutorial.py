"""The tutorial's images are drawn from what the pipeline left."""

from pathlib import Path

from PIL import Image

from docsite.tutorial_images import main
from tests.pipeline.conftest import ROOT, Project


def test_the_pictures_come_from_a_finished_demo(finished: Project, tmp_path: Path) -> None:
    """Each that the page shows, and no other."""
    main(finished.root, tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert all(Image.open(tmp_path / name).width > 400 for name in drawn)
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert all(f"](images/{name})" in page for name in drawn)


def test_the_committed_pictures_are_small() -> None:
    assert all(path.stat().st_size < 100_000 for path in (ROOT / "docs" / "images").iterdir())
