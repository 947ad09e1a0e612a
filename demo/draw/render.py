"""Drawing of one thing, a garment or a scene."""

from __future__ import annotations

import random

from PIL import Image

from demo.draw.attributes import Garment, Thing
from demo.draw.garments import draw_garment
from demo.draw.scenes import draw_scene


def render(thing: Thing, seed: str) -> Image.Image:
    """Draws an RGB image of the thing. Equal things and seeds give equal images."""
    rng = random.Random(seed)
    return draw_garment(thing, rng) if isinstance(thing, Garment) else draw_scene(thing, rng)
