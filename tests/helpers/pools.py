"""Tiny CC3M folders with the same drawn images in each of the three forms."""

import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.layouts import draw

PARTS = (0, 64)
IMAGES = 3


def names(part: int, images: int = IMAGES) -> list[str]:
    """Returns the image ids of a part in img2dataset's form: five digits of the shard, four of the image."""
    return [f"{part:05d}{number:04d}" for number in range(images)]


def caption(name: str) -> str:
    """Returns the alt text of an image."""
    return f"image no. {int(name)} on our site"


def foreign(name: str) -> str:
    """Returns the path of the image on the machine that wrote the part files."""
    return f"/some/machine/cc3m/images/{name}.jpg"


def write_part_files(
    root: Path,
    parts: Sequence[int] = PARTS,
    images: int = IMAGES,
    folder: str = "images",
    image: Callable[[str], str] = foreign,
) -> Path:
    """Writes the authors' form: `part_{n}.data` beside the images, which are in `folder`."""
    root.mkdir(parents=True, exist_ok=True)
    for part in parts:
        lines = []
        for name in names(part, images):
            draw(root / folder / f"{name}.jpg", int(name))
            url = f"https://images.example/{name}"
            lines.append(json.dumps({"url": url, "image": image(name), "caption": {"en": caption(name)}}))
        (root / f"part_{part}.data").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def write_folders(root: Path, parts: Sequence[int] = PARTS, images: int = IMAGES) -> Path:
    """Writes img2dataset's folders, with the further files that it writes."""
    for part in parts:
        folder = root / f"{part:05d}"
        for name in names(part, images):
            draw(folder / f"{name}.jpg", int(name))
            (folder / f"{name}.txt").write_text(caption(name), encoding="utf-8")
            (folder / f"{name}.json").write_text(json.dumps({"key": name, "status": "success"}), encoding="utf-8")
        (root / f"{part:05d}_stats.json").write_text("{}", encoding="utf-8")
        (root / f"{part:05d}.parquet").touch()
    return root


def write_tars(root: Path, parts: Sequence[int] = PARTS, images: int = IMAGES) -> Path:
    """Writes webdataset's tars, with the files of the folders as members."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as drawn:
        folders = write_folders(Path(drawn), parts, images)
        for part in parts:
            write_tar(root / f"{part:05d}.tar", sorted((folders / f"{part:05d}").iterdir()))
        for path in folders.glob("*.*"):
            shutil.copy(path, root)
    return root


def write_tar(path: Path, files: Sequence[Path]) -> Path:
    """Writes a tar with the files at its top level."""
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    return path


WRITERS = {"part files": write_part_files, "folders": write_folders, "tars": write_tars}
