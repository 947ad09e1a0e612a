"""Whether the check of the captions that were stored at a kill can fail."""

import os
from pathlib import Path

import pytest
from PIL import Image

from spn4cir.positives.caption_store import CaptionStore
from spn4cir.positives.captions import CaptionedImage, make_captions
from tests.faults.stored_lines import StoredLines

_IMAGES, _BATCH = 40, 8


class _Captioner:
    def prepare(self, images: list[Image.Image], prompts: list[str]) -> list[str]:
        return prompts

    def generate(self, inputs: list[str], max_new_tokens: int) -> list[str]:
        return ["is red" for _ in inputs]


def _caption(root: Path) -> Path:
    """Captions all images, as the stage does. Returns the file of the captions."""
    store = root / "data" / "work" / "caption" / "d" / "key"
    images = []
    for number in range(_IMAGES):
        path = root / f"{number}.png"
        if not path.exists():
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        images.append(CaptionedImage(path.stem, path, "image"))
    make_captions(images, 5, "{noun} {words}", _Captioner, CaptionStore(store), _BATCH, 16, 0)
    return store / "5.jsonl"


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, StoredLines]:
    """The file of a stage that was killed while it wrote its third batch, and what was stored in it."""
    path = _caption(tmp_path)
    os.truncate(path, sum(map(len, path.read_bytes().splitlines(keepends=True)[:20])) + 7)
    return path, StoredLines.marked(tmp_path)


def test_a_run_that_resumes_keeps_the_records_and_repeats_less_than_a_batch(
    tmp_path: Path, killed: tuple[Path, StoredLines]
) -> None:
    path, stored = killed
    _caption(tmp_path)
    assert len(path.read_bytes().splitlines()) == _IMAGES + 4
    assert stored.faults(_BATCH) == []
    assert stored.faults(3) == ["d/5.jsonl: repeats 4 records, expected at most 3"]


def test_records_that_are_made_again_after_a_loss_are_found(tmp_path: Path, killed: tuple[Path, StoredLines]) -> None:
    path, stored = killed
    path.unlink()
    assert stored.faults(_BATCH) == ["d/5.jsonl: lost 20 of 20 stored records"]
    _caption(tmp_path)
    assert stored.faults(_BATCH) == [
        "d/5.jsonl: lost 20 of 20 stored records",
        "d/5.jsonl: repeats 20 records, expected at most 8",
    ]


def test_a_run_that_ignores_what_is_stored_is_found(
    tmp_path: Path, killed: tuple[Path, StoredLines], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spn4cir.positives.caption_store.read_finished", lambda path, fields: [])
    os.truncate(killed[0], killed[0].read_bytes().rfind(b"\n") + 1)
    _caption(tmp_path)
    assert killed[1].faults(_BATCH) == ["d/5.jsonl: repeats 20 records, expected at most 8"]
