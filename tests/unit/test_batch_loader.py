"""Loaders of batches: torch's warning of more workers than cores is not printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.layouts import draw

_HAS_ONE_CORE = """
import os, sys
from pathlib import Path
import torch
from spn4cir.images.preprocess import Preprocess, image_batches
from spn4cir.search.image_files import read_images
from spn4cir.training.reference_rows import ImageFiles, image_loader

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
paths, preprocess = [*map(Path, sys.argv[1:])], Preprocess(16)
loader = image_loader(ImageFiles(paths, preprocess), [torch.arange(2)], 2, torch.device("cpu"))
print(*(len(list(each)) for each in (
    image_batches(paths, preprocess, 1, 2), read_images(paths, preprocess, [[0], [1]], 2, 0), loader)))
torch.utils.data.DataLoader(paths, num_workers=2)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the cores of a process cannot be set")
def test_more_workers_than_cores_are_no_warning(tmp_path: Path) -> None:
    """torch warns when a loader is made and when it starts; a loader of its own still does."""
    paths = [draw(tmp_path / f"{number}.png", number) for number in range(2)]
    done = subprocess.run(
        [sys.executable, "-c", _HAS_ONE_CORE, *paths], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "2 2 1\n"
    assert done.stderr.count("UserWarning: This DataLoader will create 2 worker processes in total.") == 1, done.stderr
