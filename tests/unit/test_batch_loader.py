"""Loaders of batches: their numbers of processes, and torch's warning of more than cores, which is not printed."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spn4cir.images.decoding import image_fault
from spn4cir.images.preprocess import Preprocess, image_batches
from spn4cir.images.processes import map_in_processes
from spn4cir.search.image_files import read_images
from spn4cir.training.reference_rows import ImageFiles, image_loader
from tests.conftest import CPU
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


def test_no_more_processes_start_than_there_is_work_for(tmp_path: Path) -> None:
    """Two batches, or less than a chunk of files, for 20 workers."""
    paths, preprocess = [draw(tmp_path / f"{number}.png", number) for number in range(2)], Preprocess(16)
    rows = [torch.tensor([0]), torch.tensor([1])]
    for start, most in (
        (lambda: image_batches(paths, preprocess, 1, 20), 2),
        (lambda: read_images(paths, preprocess, [[0], [1]], 20, 0), 2),
        (lambda: iter(image_loader(ImageFiles(paths, preprocess), rows, 20, CPU)), 2),
        (lambda: map_in_processes(image_fault, paths, 20, "image"), 1),
    ):
        results = start()
        next(results)
        assert 1 <= len(multiprocessing.active_children()) <= most
        list(results)
        del results
