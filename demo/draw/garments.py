"""Drawing of one garment."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from demo.draw.attributes import Garment
from demo.draw.canvas import COLOURS, OVERSAMPLING, Colour, Point, blank, central_square, finish, mix, shade

SIZES = ((64, 64), (72, 72), (64, 76), (64, 80), (64, 88), (72, 92), (66, 96), (88, 68))
GROUNDS: tuple[Colour, ...] = ((226, 226, 224), (214, 222, 230), (230, 220, 210), (205, 208, 205))
SHOULDER = 0.07
# Sizes of patterns in canvas pixels. They are coarse, so that a small network can distinguish them.
PERIOD, STRIPE, CHECK, DOT = 24, 12, 8, 12
# Half widths and heights, in units of the garment's box: shoulder, waist (half width, height), hem.
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
    """Draws an image of the garment. Images of equal garments from other random states differ in pixels."""
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
    inside = mix(colour, (255, 255, 255), 0.6) if garment.colour == "black" else mix(colour, (0, 0, 0), 0.7)
    _trim(ImageDraw.Draw(canvas), garment, place, dark, inside)
    return finish(canvas, rng)


def _placement(width: int, height: int, rng: random.Random) -> Callable[[Point], Point]:
    """Returns a map from the garment's box (x from -0.5 to 0.5, y from 0 to 1) to canvas pixels."""
    left, top, side = central_square(width, height)
    scale = side * rng.uniform(0.9, 1.0)
    stretch = rng.uniform(0.93, 1.05)
    centre = left + side * (0.5 + rng.uniform(-0.04, 0.04))
    start = top + (side - scale) * rng.random()

    def place(point: Point) -> Point:
        return (centre + point[0] * stretch * scale) * OVERSAMPLING, (start + point[1] * scale) * OVERSAMPLING

    return place


def _silhouette(garment: Garment) -> list[list[Point]]:
    """Returns the polygons of the sleeves and the body."""
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
    """Draws the pattern over the whole cloth.

    Stripes and dots are lighter than the cloth, except on white; checks are darker, except on black.
    """
    light = mix(colour, (90, 90, 100) if garment.colour == "white" else (255, 255, 255), 0.7)
    dark = mix(colour, (255, 255, 255) if garment.colour == "black" else (25, 25, 35), 0.5)
    width, height = pen.im.size
    left, top = rng.randrange(PERIOD // 3), rng.randrange(PERIOD // 3)
    if garment.pattern == "striped":
        for y in range(-top, height, PERIOD):
            pen.rectangle((0, y, width, y + STRIPE), fill=light)
    if garment.pattern == "checked":
        for y in range(-top, height, PERIOD):
            pen.rectangle((0, y, width, y + CHECK), fill=dark)
        for x in range(-left, width, PERIOD):
            pen.rectangle((x, 0, x + CHECK, height), fill=dark)
    if garment.pattern == "dotted":
        for row, y in enumerate(range(-top, height, PERIOD * 2 // 3)):
            for x in range(-left - (row % 2) * PERIOD // 2, width, PERIOD):
                pen.ellipse((x, y, x + DOT, y + DOT), fill=light)


def _trim(
    pen: ImageDraw.ImageDraw, garment: Garment, place: Callable[[Point], Point], dark: Colour, inside: Colour
) -> None:
    """Cuts the neck, in which the inside is visible, and adds the mark of the category: a belt, or buttons."""
    if garment.neck == "v-neck":
        neck: Sequence[Point] = [(-0.16, SHOULDER - 0.02), (0.0, 0.36), (0.16, SHOULDER - 0.02)]
    else:
        neck = [(-0.11, SHOULDER - 0.02), (-0.08, 0.11), (0.0, 0.13), (0.08, 0.11), (0.11, SHOULDER - 0.02)]
    points = [place(point) for point in neck]
    pen.polygon(points, fill=inside)
    pen.line(points, fill=dark, width=4)
    bottom = HEMS[garment.category][garment.length]
    if garment.category == "shirt":
        pen.line([place((0.0, 0.36 if garment.neck == "v-neck" else 0.13)), place((0.0, bottom))], fill=dark, width=5)
    if garment.category == "dress":
        waist, height = BODIES["dress"][1]
        pen.line([place((-waist, height)), place((waist, height))], fill=dark, width=7)
