"""Drawing of one scene."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

from demo.draw.attributes import Scene
from demo.draw.canvas import COLOURS, OVERSAMPLING, Colour, Point, blank, central_square, finish, mix, shade

SIZES = ((64, 64), (72, 72), (80, 72), (96, 72), (88, 64), (64, 84), (80, 64))
RADII = {"small": 0.16, "large": 0.235}
CELLS: tuple[Point, ...] = ((0.255, 0.255), (0.745, 0.255), (0.255, 0.745), (0.745, 0.745))


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """Draws an image of the scene. Images of equal scenes from other random states differ in pixels."""
    width, height = rng.choice(SIZES)
    left, top, side = central_square(width, height)
    canvas = blank(width, height, shade(COLOURS[scene.background], rng, 0.04))
    pen = ImageDraw.Draw(canvas)
    colour = shade(COLOURS[scene.colour], rng)
    count = Scene.VALUES["count"].index(scene.count) + 1
    for cell_x, cell_y in rng.sample(CELLS, count):
        radius = RADII[scene.size] * rng.uniform(0.96, 1.03)
        slack = max(0.0, 0.25 - radius) * 0.4
        x = left + (cell_x + rng.uniform(-slack, slack)) * side
        y = top + (cell_y + rng.uniform(-slack, slack)) * side
        points = shape_points(scene.shape, rng.uniform(-0.08, 0.08))
        placed = [((x + a * radius * side) * OVERSAMPLING, (y + b * radius * side) * OVERSAMPLING) for a, b in points]
        _draw_shape(pen, placed, colour, hollow=scene.fill == "hollow", large=scene.size == "large")
    return finish(canvas, rng)


def _draw_shape(pen: ImageDraw.ImageDraw, points: list[Point], colour: Colour, *, hollow: bool, large: bool) -> None:
    """Draws one closed outline, filled or as a thick line."""
    closed = [*points, points[0], points[1]]
    if hollow:
        pen.line(closed, fill=colour, width=8 if large else 6, joint="curve")
        return
    pen.polygon(points, fill=colour)
    pen.line(closed, fill=mix(colour, (20, 20, 20), 0.35), width=2, joint="curve")


def shape_points(shape: str, turn: float) -> list[Point]:
    """Returns the corners of a shape of radius one around the origin, rotated by `turn` radians."""
    outline = _outline(shape)
    cosine, sine = math.cos(turn), math.sin(turn)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in outline]


def _outline(shape: str) -> list[Point]:
    if shape == "bar":
        return [(-0.88, -0.4), (0.88, -0.4), (0.88, 0.4), (-0.88, 0.4)]
    if shape == "cross":
        quarter = [(0.34, -1.0), (0.34, -0.34), (1.0, -0.34)]
        return [_turned(point, turns) for turns in range(4) for point in quarter]
    corners = {"triangle": 3, "star": 10, "circle": 32}[shape]
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    radii = [0.42 if shape == "star" and i % 2 else 1.0 for i in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in zip(radii, angles, strict=True)]


def _turned(point: Point, quarters: int) -> Point:
    x, y = point
    for _ in range(quarters):
        x, y = -y, x
    return x, y
