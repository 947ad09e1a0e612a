from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spn4cir.positives.dedup import deduplicate, read_optimized_images, write_optimized_images
from spn4cir.types import Gallery

FORMATS = ("png", "bmp", "tiff")
# Each item: which of five contents an image shows, and the format of its file.
contents = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(FORMATS)), min_size=1, max_size=12)


def draw(folder: Path, images: list[tuple[int, str]]) -> Gallery:
    paths = []
    for position, (content, extension) in enumerate(images):
        pixels = np.full((2 + content % 2, 3, 3), content * 40, dtype=np.uint8)
        paths.append(folder / f"{position}.{extension}")
        Image.fromarray(pixels).save(paths[-1])
    return Gallery(tuple(path.stem for path in paths), tuple(paths))


@settings(max_examples=30, deadline=None)
@given(contents)
def test_rows_follow_the_content(images: list[tuple[int, str]]) -> None:
    """Two names share a row exactly when their contents are equal, and the kept one is the first."""
    with TemporaryDirectory() as folder:
        unique = deduplicate(draw(Path(folder), images), 0)
    firsts = list(dict.fromkeys(content for content, _ in images))
    assert [unique.row[str(position)] for position in range(len(images))] == [firsts.index(c) for c, _ in images]
    assert unique.gallery.names == tuple(str([c for c, _ in images].index(content)) for content in firsts)


@settings(max_examples=20, deadline=None)
@given(contents)
def test_idempotent(images: list[tuple[int, str]]) -> None:
    """What was deduplicated once keeps every image the second time."""
    with TemporaryDirectory() as folder:
        once = deduplicate(draw(Path(folder), images), 0)
        twice = deduplicate(once.gallery, 0)
    assert twice.gallery == once.gallery
    assert twice.row == {name: position for position, name in enumerate(once.gallery.names)}


@settings(max_examples=20, deadline=None)
@given(contents)
def test_written_and_read_is_unchanged(images: list[tuple[int, str]]) -> None:
    with TemporaryDirectory() as folder:
        given_images = draw(Path(folder), images)
        unique = deduplicate(given_images, 0)
        file = Path(folder) / "optimized_images.json"
        write_optimized_images(unique, file)
        again = read_optimized_images(file, lambda name: given_images.paths[given_images.index[name]])
    assert again == unique
