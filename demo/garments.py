"""Draws one garment."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from demo.attributes import Garment
from demo.canvas import COLOURS, OVERSAMPLING, Colour, Point, blank, central_square, finish, mix, shade

SIZES = ((64, 64), (72, 72), (64, 76), (64, 80), (64, 88), (72, 92), (66, 96), (88, 68))
GROUNDS: tuple[Colour, ...] = ((226, 226, 224), (214, 222, 230), (230, 220, 210), (205, 208, 205))
SHOULDER = 0.07
# Half widths and heights in units of the garment's box: shoulder, waist (half width, height), hem.
BODIES: dict[str, tuple[float, tuple[float, float], float]] = {
    "dress": (0.23, (0.17, 0.38), 0.42),
    "shirt": (0.29, (0.27, 0.40), 0.29),
    "toptee": (0.25, (0.24, 0.35), 0.31),
}
HEMS = {
    "dress": {"short": 0.64, "long": 0.97},
    "shirt": {"short": 0.56, "long": 0.88},
    "toptee": {"short": 0.50, "long": 0.82},
}
SLEEVES: dict[str, tuple[Point, Point]] = {
    "short-sleeved": ((0.45, 0.27), (0.32, 0.34)),
    "long-sleeved": ((0.50, 0.74), (0.36, 0.77)),
}


def draw_garment(garment: Garment, rng: random.Random) -> Image.Image:
    """A picture of the garment; equal garments drawn with other random states differ in pixels."""
    width, height = rng.choice(SIZES)
    place = _placement(width, height, rng)
    ground = shade(rng.choice(GROUNDS), rng, 0.05)
    colour = shade(COLOURS[garment.colour], rng)
    canvas = blank(width, height, ground)
    cloth = Image.new("RGB", canvas.size, colour)
    _print_pattern(ImageDraw.Draw(cloth), garment, colour, rng)
    mask = Image.new("L", canvas.size, 0)
    outline = Image.new("L", canvas.size, 0)
    for polygon in _silhouette(garment):
        points = [place(point) for point in polygon]
        ImageDraw.Draw(mask).polygon(points, fill=255)
        ImageDraw.Draw(outline).line([*points, points[0], points[1]], fill=255, width=3, joint="curve")
    dark = mix(colour, (20, 20, 20), 0.55)
    canvas.paste(cloth, mask=mask)
    canvas.paste(dark, mask=outline)
    _trim(ImageDraw.Draw(canvas), garment, place, dark, ground)
    return finish(canvas, rng)


def _placement(width: int, height: int, rng: random.Random) -> Callable[[Point], Point]:
    """Maps the garment's box (x from -0.5 to 0.5, y from 0 to 1) to canvas pixels."""
    left, top, side = central_square(width, height)
    scale = side * rng.uniform(0.9, 1.0)
    stretch = rng.uniform(0.93, 1.05)
    centre = left + side * (0.5 + rng.uniform(-0.04, 0.04))
    start = top + (side - scale) * rng.random()

    def place(point: Point) -> Point:
        return (centre + point[0] * stretch * scale) * OVERSAMPLING, (start + point[1] * scale) * OVERSAMPLING

    return place


def _silhouette(garment: Garment) -> list[list[Point]]:
    """The polygons of the sleeves and the body."""
    shoulder, (waist, waist_height), hem = BODIES[garment.category]
    bottom = HEMS[garment.category][garment.length]
    side = [(shoulder, SHOULDER), (waist, waist_height), (hem, bottom)]
    body = [*side, *((-x, y) for x, y in reversed(side))]
    if garment.sleeve == "sleeveless":
        return [body]
    outer, inner = SLEEVES[garment.sleeve]
    sleeve = [(shoulder - 0.03, SHOULDER), outer, inner, (shoulder - 0.04, 0.27)]
    return [sleeve, [(-x, y) for x, y in sleeve], body]


def _print_pattern(pen: ImageDraw.ImageDraw, garment: Garment, colour: Colour, rng: random.Random) -> None:
    """Draws the pattern over the whole cloth."""
    light = garment.colour in ("white", "yellow", "pink")
    second = mix(colour, (70, 70, 80) if light else (255, 255, 255), 0.62)
    width, height = pen.im.size
    step, shift = 20, rng.randrange(20)
    if garment.pattern in ("striped", "checked"):
        for y in range(-shift, height, step):
            pen.rectangle((0, y, width, y + 7), fill=second)
    if garment.pattern == "checked":
        for x in range(-rng.randrange(step), width, step):
            pen.rectangle((x, 0, x + 7, height), fill=second)
    if garment.pattern == "dotted":
        for row, y in enumerate(range(-shift, height + step, 16)):
            for x in range(-shift - 9 * (row % 2), width + step, 18):
                pen.ellipse((x, y, x + 9, y + 9), fill=second)


def _trim(
    pen: ImageDraw.ImageDraw, garment: Garment, place: Callable[[Point], Point], dark: Colour, ground: Colour
) -> None:
    """Cuts the neck, and adds what tells the categories apart: a belt, or buttons."""
    if garment.neck == "v-neck":
        neck: Sequence[Point] = [(-0.12, SHOULDER - 0.02), (0.0, 0.30), (0.12, SHOULDER - 0.02)]
    else:
        neck = [(-0.12, SHOULDER - 0.02), (-0.10, 0.13), (0.0, 0.155), (0.10, 0.13), (0.12, SHOULDER - 0.02)]
    points = [place(point) for point in neck]
    pen.polygon(points, fill=ground)
    pen.line(points, fill=dark, width=4)
    bottom = HEMS[garment.category][garment.length]
    if garment.category == "shirt":
        pen.line([place((0.0, 0.3 if garment.neck == "v-neck" else 0.155)), place((0.0, bottom))], fill=dark, width=5)
    if garment.category == "dress":
        waist, height = BODIES["dress"][1]
        pen.line([place((-waist, height)), place((waist, height))], fill=dark, width=7)
