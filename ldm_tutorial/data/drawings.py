"""Twelve drawings to teach a model with: blueprints, white lines on blue paper, in a style that no emoji has.

Each is a few paths in a square of 100 x 100 units, x to the right and y down, drawn by a hand that is not quite steady. A
drawing is always the same, at every size. They are this project's own.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..checkpoints.atomic import atomic_path, write_atomically
from .dataset import canonical_caption

_Point = tuple[float, float]

STYLE = "blueprint"
PAPER, SHADE, GRID, CHALK = (33, 84, 158), (22, 62, 128), (66, 116, 184), (240, 246, 255)
BOLD, FINE = 2.6, 1.3  # the two widths of lines, in units
CANVAS = 1024  # pixels along a side, before it is made smaller


class Sheet:
    """A sheet of blue paper, and the pen. `name` is what the unsteadiness of the hand depends on."""

    def __init__(self, name: str):
        self.hand = random.Random(name)
        self.unit = CANVAS / 100
        self.image = Image.new("RGB", (CANVAS, CANVAS), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        for i in range(5, 100, 10):
            for ends in (((i, 0), (i, 100)), ((0, i), (100, i))):
                self.pen.line([self._pixel(p) for p in ends], GRID, width=round(0.4 * self.unit))
        self._frame()

    def _pixel(self, point: _Point) -> _Point:
        return point[0] * self.unit, point[1] * self.unit

    def _frame(self) -> None:
        """Darker at the edges, as old paper is."""
        for i in range(12):
            inset = i * 0.25 * self.unit
            shade = tuple(round(s + (p - s) * i / 12) for s, p in zip(SHADE, PAPER))
            self.pen.rectangle([inset, inset, CANVAS - inset, CANVAS - inset], outline=shade, width=math.ceil(0.26 * self.unit))

    def line(self, *points: _Point, width: float = BOLD) -> None:
        """Straight from point to point."""
        for start, end in zip(points, points[1:]):
            steps = max(2, math.ceil(math.dist(start, end)))
            self._stroke([_between(start, end, i / steps) for i in range(steps + 1)], width)

    def closed(self, *points: _Point, width: float = BOLD) -> None:
        """Straight from point to point, and back to the first."""
        self.line(*points, points[0], width=width)

    def curve(self, *points: _Point, width: float = BOLD) -> None:
        """Smoothly through all points."""
        self._stroke(_smooth(points), width)

    def arc(self, center: _Point, radius: float | _Point, start: float = 0, end: float = 360, width: float = BOLD) -> None:
        """A part of an ellipse, by angles in degrees: 0 is to the right, 90 below. One radius, or that along x and along y."""
        rx, ry = (radius, radius) if isinstance(radius, int | float) else radius
        steps = max(8, math.ceil(abs(end - start) / 6))
        angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
        self._stroke([(center[0] + rx * math.cos(a), center[1] + ry * math.sin(a)) for a in angles], width)

    def dashes(self, start: _Point, end: _Point) -> None:
        """The thin broken line of an axis."""
        length = math.dist(start, end)
        at = 0.0
        while at < length:
            ends = (_between(start, end, at / length), _between(start, end, min(1, (at + 4) / length)))
            self.line(*ends, width=0.7)
            at += 7

    def measure(self, left: float, right: float, y: float = 93) -> None:
        """The line with a mark at each end that says how wide a thing is."""
        self.line((left, y), (right, y), width=0.9)
        for x in (left, right):
            self.line((x, y - 2.5), (x, y + 2.5), width=0.9)

    def _stroke(self, points: Sequence[_Point], width: float) -> None:
        """One line of the pen: it trembles slowly, by half a unit or so."""
        waves = [(self.hand.uniform(0.05, 0.16), self.hand.uniform(0, 6.3), self.hand.uniform(0.12, 0.3)) for _ in range(4)]
        path, travelled = [], 0.0
        for i, point in enumerate(points):
            travelled += math.dist(points[i - 1], point) if i else 0
            dx, dy = (sum(a * math.sin(f * travelled + p) for f, p, a in half) for half in (waves[:2], waves[2:]))
            path.append(self._pixel((point[0] + dx, point[1] + dy)))
        thickness = width * self.unit
        self.pen.line(path, CHALK, width=round(thickness), joint="curve")
        for x, y in (path[0], path[-1]):
            r = thickness / 2
            self.pen.ellipse([x - r, y - r, x + r, y + r], CHALK)


def _between(a: _Point, b: _Point, share: float) -> _Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _smooth(points: Sequence[_Point], steps: int = 10) -> list[_Point]:
    """A Catmull-Rom spline: cubic between neighbors, with the direction of their neighbors at each."""
    first, last = points[0], points[-1]
    ends = (points[-2], points[1]) if first == last else (first, last)
    p = [ends[0], *points, ends[1]]
    path = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:]):
        for i in range(steps):
            t = i / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
            x, y = (sum(w * q[axis] for w, q in zip(weights, (a, b, c, d))) / 2 for axis in (0, 1))
            path.append((x, y))
    return [*path, last]


# ---- the twelve


def house(s: Sheet) -> None:
    """With a door, two windows and a chimney."""
    s.closed((20, 48), (80, 48), (80, 86), (20, 86))
    s.line((12, 50), (50, 18), (88, 50))
    s.line((66, 31), (66, 18), (75, 18), (75, 38))
    s.closed((43, 60), (57, 60), (57, 86), (43, 86))
    s.arc((53.5, 74), 0.8, width=FINE)
    for x in (25, 63):
        s.closed((x, 57), (x + 12, 57), (x + 12, 69), (x, 69), width=FINE)
        s.line((x + 6, 57), (x + 6, 69), width=FINE)
        s.line((x, 63), (x + 12, 63), width=FINE)
    s.measure(20, 80)


def sailboat(s: Sheet) -> None:
    """Two sails above waves."""
    s.curve((12, 66), (24, 78), (40, 81), (62, 81), (78, 77), (88, 66))
    s.line((12, 66), (88, 66))
    s.line((48, 66), (48, 10))
    s.curve((52, 14), (66, 32), (78, 60))
    s.line((78, 60), (52, 60), (52, 14))
    s.curve((44, 20), (34, 40), (20, 60))
    s.line((20, 60), (44, 60), (44, 20))
    s.line((52, 36), (66, 36), width=FINE)
    s.curve((8, 90), (18, 86), (28, 90), (38, 86), (48, 90), (58, 86), (68, 90), (78, 86), (92, 90), width=FINE)


def rocket(s: Sheet) -> None:
    """Upright, with a round window, fins and a flame."""
    s.dashes((50, 4), (50, 97))
    s.curve((50, 8), (38, 24), (34, 46), (38, 70))
    s.curve((50, 8), (62, 24), (66, 46), (62, 70))
    s.line((38, 70), (62, 70))
    s.arc((50, 38), 7)
    s.arc((50, 38), 4.2, width=FINE)
    s.curve((35, 50), (24, 60), (20, 78))
    s.line((20, 78), (37, 67))
    s.curve((65, 50), (76, 60), (80, 78))
    s.line((80, 78), (63, 67))
    s.curve((41, 74), (43, 84), (50, 94), (57, 84), (59, 74))
    s.line((39, 24), (61, 24), width=FINE)


def umbrella(s: Sheet) -> None:
    """Open, with a bent handle."""
    s.arc((50, 48), (39, 34), 180, 360)
    for left in (11, 30.5, 50, 69.5):
        s.arc((left + 9.75, 48), (9.75, 6), 180, 360)
    s.curve((50, 14), (36, 26), (30.5, 48), width=FINE)
    s.curve((50, 14), (64, 26), (69.5, 48), width=FINE)
    s.line((50, 8), (50, 80))
    s.arc((42, 80), 8, 0, 180)
    s.measure(11, 89, y=95)


def key(s: Sheet) -> None:
    """Lying, its bit to the right and below."""
    s.dashes((4, 46), (97, 46))
    s.arc((26, 46), 17)
    s.arc((26, 46), 9)
    s.line((43, 42), (90, 42), (90, 50), (84, 50), (84, 64), (76, 64), (76, 56), (70, 56), (70, 66), (62, 66), (62, 50), (43, 50))
    s.measure(9, 90, y=84)


def light_bulb(s: Sheet) -> None:
    """With its wire, its thread and some rays."""
    s.curve((41, 68), (39, 58), (28, 46), (26, 34), (34, 18), (50, 12), (66, 18), (74, 34), (72, 46), (61, 58), (59, 68))
    s.closed((41, 68), (59, 68), (59, 84), (41, 84))
    s.line((41, 73.5), (59, 73.5), width=FINE)
    s.line((41, 79), (59, 79), width=FINE)
    s.curve((44, 84), (50, 91), (56, 84))
    s.line((45, 67), (42, 42), (47, 48), (50, 40), (53, 48), (58, 42), (55, 67), width=FINE)
    for start, end in (((12, 34), (19, 34)), ((81, 34), (88, 34)), ((20, 10), (25, 15)), ((80, 10), (75, 15))):
        s.line(start, end)


def mushroom(s: Sheet) -> None:
    """A cap with dots on a thick stalk."""
    s.arc((50, 50), (38, 36), 180, 360)
    s.curve((12, 50), (30, 57), (50, 59), (70, 57), (88, 50))
    s.curve((38, 58), (40, 72), (36, 86))
    s.curve((62, 58), (60, 72), (64, 86))
    s.curve((36, 86), (50, 90), (64, 86))
    for center, radius in (((50, 27), 6), ((31, 39), 4.6), ((69, 39), 4.6), ((50, 46), 3.6)):
        s.arc(center, radius, width=FINE)
    s.measure(12, 88, y=95)


def fish(s: Sheet) -> None:
    """Swimming to the left."""
    s.curve((10, 50), (26, 33), (48, 28), (66, 38), (78, 50), (66, 62), (48, 72), (26, 67), (10, 50))
    s.line((76, 49), (92, 32))
    s.curve((92, 32), (87, 50), (92, 68))
    s.line((92, 68), (76, 51))
    s.arc((25, 46), 2.6)
    s.arc((26, 50), (12, 14), -62, 62, width=FINE)
    s.curve((40, 30), (50, 16), (62, 34))
    s.curve((44, 70), (50, 80), (58, 66))
    for x, y in ((48, 44), (48, 56), (58, 50), (66, 44), (66, 56)):
        s.arc((x, y), (4, 5), -80, 80, width=FINE)
    s.measure(10, 92)


def snail(s: Sheet) -> None:
    """A spiral shell on a long foot."""
    spiral = [(2 + a / 45, math.radians(a)) for a in range(0, 1141, 20)]
    s.curve(*[(55 + r * math.cos(a), 46 + r * math.sin(a)) for r, a in spiral])
    s.curve(
        (76, 62), (88, 76), (94, 84), (70, 85), (40, 85), (22, 84), (14, 74), (13, 60), (18, 52), (24, 58), (27, 68), (36, 70)
    )
    s.line((15, 54), (9, 36))
    s.line((21, 53), (24, 34))
    s.arc((9, 33.5), 2.2, width=FINE)
    s.arc((24.5, 31.5), 2.2, width=FINE)
    s.measure(12, 94, y=94)


def bicycle(s: Sheet) -> None:
    """From the side, with two large wheels."""
    for x in (25, 75):
        s.arc((x, 64), 19)
        s.arc((x, 64), 2.2, width=FINE)
        for angle in (30, 90, 150):
            dx, dy = 18 * math.cos(math.radians(angle)), 18 * math.sin(math.radians(angle))
            s.line((x - dx, 64 - dy), (x + dx, 64 + dy), width=0.7)
    s.line((25, 64), (40, 38), (66, 38), (48, 64), (25, 64))
    s.line((48, 64), (37, 31))
    s.line((75, 64), (64, 28))
    s.line((31, 31), (43, 31))
    s.curve((64, 28), (70, 24), (75, 27))
    s.arc((48, 64), 4.5, width=FINE)
    s.measure(25, 75)


def teapot(s: Sheet) -> None:
    """With a lid, a spout and a handle."""
    s.curve((34, 40), (25, 56), (28, 74), (40, 84), (58, 84), (70, 74), (73, 56), (64, 40))
    s.line((32, 40), (66, 40))
    s.curve((35, 40), (40, 31), (49, 28), (58, 31), (63, 40))
    s.arc((49, 23.5), 4)
    s.curve((26, 66), (16, 58), (14, 44), (8, 38))
    s.curve((25.5, 53), (23, 48), (21, 40), (17, 34))
    s.line((8, 38), (17, 34))
    s.curve((71, 48), (86, 44), (91, 56), (84, 68), (71, 72))
    s.curve((28, 62), (50, 66), (72, 62), width=FINE)
    s.measure(28, 71, y=93)


def castle(s: Sheet) -> None:
    """Two towers with battlements, a gate between them."""
    for left in (12, 64):
        right = left + 24
        s.line((left, 88), (left, 34), (left - 2, 34), (left - 2, 22), (left + 5, 22), (left + 5, 28), (left + 9, 28))
        s.line((left + 9, 28), (left + 9, 22), (left + 15, 22), (left + 15, 28), (left + 19, 28), (left + 19, 22))
        s.line((left + 19, 22), (right + 2, 22), (right + 2, 34), (right, 34), (right, 88))
        s.line((left, 34), (right, 34), width=FINE)
        s.line((left + 10, 62), (left + 10, 50), width=FINE)
        s.line((left + 14, 50), (left + 14, 62), (left + 10, 62), width=FINE)
        s.arc((left + 12, 50), 2, 180, 360, width=FINE)
    s.line((36, 52), (41, 52), (41, 46), (47, 46), (47, 52), (53, 52), (53, 46), (59, 46), (59, 52), (64, 52))
    s.line((43, 88), (43, 74))
    s.arc((50, 74), 7, 180, 360)
    s.line((57, 74), (57, 88))
    s.line((50, 68), (50, 88), width=0.9)
    s.line((8, 88), (92, 88))


DRAWINGS: dict[str, Callable[[Sheet], None]] = {
    drawing.__name__.replace("_", " "): drawing
    for drawing in (house, sailboat, rocket, umbrella, key, light_bulb, mushroom, fish, snail, bicycle, teapot, castle)
}


def draw_blueprint(subject: str, size: int = 512) -> Image.Image:
    """One of `DRAWINGS` by its name, as an RGB picture of `size` x `size` pixels. Raises ValueError for another name."""
    if subject not in DRAWINGS:
        raise ValueError(f"subject={subject!r} must be one of {', '.join(map(repr, DRAWINGS))}")
    sheet = Sheet(subject)
    DRAWINGS[subject](sheet)
    return sheet.image.resize((size, size), Image.Resampling.LANCZOS)


def write_drawings(folder: str | Path, size: int = 512) -> Path:
    """The twelve and their captions, as `read_own_pictures` reads them: PNG files and metadata.csv. Returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "text"])
    for subject in DRAWINGS:
        name = f"{subject.replace(' ', '_')}.png"
        with atomic_path(folder / name) as path:
            draw_blueprint(subject, size).save(path, "PNG")
        rows.writerow([name, canonical_caption(subject, STYLE)])
    write_atomically(folder / "metadata.csv", table.getvalue().encode())
    return folder
