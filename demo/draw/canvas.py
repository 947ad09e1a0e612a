"""Functions that the drawing of garments and of scenes share: canvas, shades, noise."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]
Point = tuple[float, float]

# An image is drawn at this multiple of its final size and then reduced, which smooths the edges.
OVERSAMPLING = 2

COLOURS: dict[str, Colour] = {
    "red": (208, 34, 44),
    "orange": (243, 134, 28),
    "yellow": (246, 219, 55),
    "green": (42, 150, 62),
    "blue": (40, 92, 212),
    "purple": (124, 50, 164),
    "pink": (246, 112, 178),
    "black": (38, 38, 42),
    "white": (247, 247, 245),
    "grey": (158, 160, 163),
    "tan": (214, 186, 142),
    "mint": (166, 226, 196),
    "lilac": (203, 186, 240),
}


def shade(colour: Colour, rng: random.Random, spread: float = 0.1) -> Colour:
    """Returns the colour, a little lighter or darker, with a small random offset in each channel."""
    light = rng.uniform(1 - spread, 1 + spread)
    red, green, blue = (max(0, min(255, round(value * light + rng.uniform(-6, 6)))) for value in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes two colours; `share` is the weight of the second one, from 0 to 1."""
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def central_square(width: int, height: int) -> tuple[float, float, float]:
    """Returns left, top and side of the square that every preprocessing keeps, also a centre crop."""
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, side


def blank(width: int, height: int, colour: Colour) -> Image.Image:
    """Returns an oversampled canvas of one colour."""
    return Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), colour)


def finish(canvas: Image.Image, rng: random.Random) -> Image.Image:
    """Reduces the canvas to its final size; adds uneven light and a little noise."""
    image = canvas.reduce(OVERSAMPLING)
    pixels = np.asarray(image, dtype=np.float32)
    generator = np.random.default_rng(rng.getrandbits(64))
    height, width = pixels.shape[:2]
    tilt_x, tilt_y = (rng.uniform(-8, 8) for _ in range(2))
    light = np.linspace(-tilt_x, tilt_x, width)[None, :] + np.linspace(-tilt_y, tilt_y, height)[:, None]
    noise = generator.normal(0.0, 3.0, size=(height, width, 1))
    return Image.fromarray(np.clip(pixels + light[..., None] + noise, 0, 255).astype(np.uint8), "RGB")
