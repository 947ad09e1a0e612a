"""Check of which images can be decoded, which every stage uses under `missing: skip`.

Each image is decoded once to its last pixel, in several processes. An image that can be decoded is remembered while its
path, size, time of change and the version of Pillow stay the same: in this process and, if the current folder is a
pipeline, for images in its `data/raw` and `data/pool`, in `data/work/usable.txt`. Images that cannot be decoded are
checked each time. Under `skip`, the first stage decodes its images once, and later stages check each file's size and
time.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import PIL

from spn4cir.images.crops import split_view
from spn4cir.images.decoding import EMPTY, image_fault
from spn4cir.images.processes import default_workers, map_in_processes
from spn4cir.images.workers import Workers
from spn4cir.progress import progress

_STORE = Path("data", "work", "usable.txt")
# Folders of a pipeline's data sets, and the file that marks the folder of a pipeline.
_KEPT = (("data", "raw"), ("data", "pool"))
_PIPELINE = Path("dvc.yaml")
# So few images are decoded faster than processes start.
_FEW = 128
# The keys of images that this process decoded.
SEEN: set[str] = set()
# Images between two additions to the file; at most so many are decoded again after a killed run.
_BLOCK = 1024


def unusable(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns the fault of each image that cannot be decoded, by the path of its file.

    Images that an earlier process of the pipeline decoded are not decoded again.
    """
    known = _known(_STORE.absolute())
    files = dict.fromkeys(split_view(path)[0] for path in paths)
    return image_faults([path for path in files if _stamp(path)[1] not in known], default_workers(), "look at images")


def image_faults(paths: Iterable[Path], workers: Workers, label: str) -> dict[Path, str]:
    """Returns the fault of each image that cannot be decoded, by the path of its file.

    For parts of images (`spn4cir.images.crops`), the whole file is checked. An empty file is not opened, and an image
    that this process decoded before is not decoded again.

    Args:
        paths: existing files, members of tars or cells of tables.
        workers: processes that decode images, where 0 decodes in this one; or a cluster.
        label: name of the work, for the progress.
    """
    stamps = {path: _stamp(path) for path in dict.fromkeys(split_view(path)[0] for path in paths)}
    faults = {path: EMPTY for path, (size, _) in stamps.items() if not size}
    filled = [path for path, (size, key) in stamps.items() if size and key not in SEEN]
    found = map_in_processes(image_fault, filled, workers if len(filled) > _FEW else 0, label)
    reasons = zip(filled, progress(found, len(filled), label, "images"), strict=True)
    faults |= _remember(reasons, stamps)
    return {path: faults[path] for path in stamps if path in faults}


def _stamp(path: Path) -> tuple[int, str]:
    """Returns the size of a file, or of its tar, and a key that changes if the file or Pillow's version changes."""
    place = os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    try:
        status = path.stat()
    except NotADirectoryError:
        status = next(parent for parent in path.parents if parent.is_file()).stat()
    except FileNotFoundError:  # a link to a file that is gone; decoding states the fault
        return 1, place
    content = f"{place}\0{status.st_size}\0{status.st_mtime_ns}\0{PIL.__version__}"
    return status.st_size, hashlib.blake2b(content.encode(errors="surrogateescape"), digest_size=16).hexdigest()


@cache
def _known(store: Path) -> set[str]:
    """Returns the keys of usable images in the file; a line that a killed run left incomplete matches none."""
    with suppress(OSError):
        return set(store.read_text(encoding="ascii", errors="replace").split())
    return set()


def _remember(found: Iterable[tuple[Path, str]], stamps: Mapping[Path, tuple[int, str]]) -> dict[Path, str]:
    """Returns the faults, and remembers the images without a fault as they are decoded."""
    faults: dict[Path, str] = {}
    fresh: list[str] = []
    in_pipeline = _PIPELINE.is_file()
    for path, fault in found:
        if fault:
            faults[path] = fault
            continue
        key = stamps[path][1]
        SEEN.add(key)
        if in_pipeline and path.parts[:2] in _KEPT:
            fresh.append(key)
        if len(fresh) >= _BLOCK:
            _store(fresh)
            fresh = []
    _store(fresh)
    return faults


def _store(keys: Sequence[str]) -> None:
    """Appends the keys to the file in one write, so that concurrent runs do not mix their lines."""
    if not keys:
        return
    with suppress(OSError):  # read-only or full: images are decoded again, and nothing else depends on the file
        _STORE.parent.mkdir(parents=True, exist_ok=True)
        with _STORE.open("ab", buffering=0) as stream:
            stream.write(("\n" + "\n".join(keys) + "\n").encode())
