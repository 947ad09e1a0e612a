"""An image of a thing."""

from __future__ import annotations

import random

from PIL import Image

from demo.draw.attributes import Garment, Thing
from demo.draw.garments import draw_garment
from demo.draw.scenes import draw_scene


def render(thing: Thing, seed: str) -> Image.Image:
    """An image of the thing in RGB; equal for equal seeds."""
    rng = random.Random(seed)
    return draw_garment(thing, rng) if isinstance(thing, Garment) else draw_scene(thing, rng)
