"""A picture of a thing, and how pictures are drawn in parallel."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from PIL import Image

from demo.attributes import Garment, Thing
from demo.garments import draw_garment
from demo.scenes import draw_scene

PROCESSES = 2
# Pictures that a process is handed at once.
CHUNK = 64


def render(thing: Thing, seed: str) -> Image.Image:
    """A picture of the thing in RGB; equal for equal seeds."""
    rng = random.Random(seed)
    return draw_garment(thing, rng) if isinstance(thing, Garment) else draw_scene(thing, rng)


def process_pool(processes: int = PROCESSES) -> ProcessPoolExecutor:
    """Processes to draw in; spawned, so that none inherits threads that another library started."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
