"""Landmarks around the Mediterranean: the Colosseum, Venice, the leaning tower of Pisa and the Parthenon.

Knows nothing of weather, time or where the landmark stands in the picture.
"""

import math

from training.scenes.canvas import Pen, Point, shade
from training.scenes.masonry import (
    FLOODLIGHT,
    LIT,
    SNOW,
    arch,
    bushes,
    column,
    dome,
    ledge,
    roof,
    spire,
    wall,
    windows,
)
from training.scenes.world import RGB

TRAVERTINE: RGB = (232, 188, 132)
ARENA_LEVELS = (0.05, 0.2, 0.345, 0.485, 0.62)
"""Heights of the Colosseum's storeys at its left and right ends."""


def rome(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Colosseum with its broken rim."""
    pen = pen.at(0, 0, 1.06)
    bushes(pen, [(-0.78, 0.13), (-0.66, 0.1), (0.68, 0.12), (0.82, 0.1)], (96, 130, 70), snow=snow)
    back = [_ring(t, 0.53, -0.05) for t in range(-90, 91, 15)]
    pen.polygon([*back, (0.6, 0.2), (-0.6, 0.2)], shade(TRAVERTINE, 0.66))
    for t in range(-10, 80, 15):
        x, y = _ring(t, 0.44, -0.05)
        arch(pen, x, y - 0.04, 0.075 * math.cos(math.radians(t)), 0.085, shade(TRAVERTINE, 0.42))
    if snow:
        pen.line(back, 0.02, SNOW)
    for t0, t1, tone in ((-90, -63, 0.94), (-63, 2, 1.12), (2, 40, 0.92), (40, 90, 0.76)):
        steps = [t0 + (t1 - t0) * i / 6 for i in range(7)]
        crest: list[Point] = []
        for t in steps:
            crest.append(_ring(t, _broken_top(t)))
        pen.polygon([*(_ring(t, 0.03) for t in steps), *reversed(crest)], shade(TRAVERTINE, tone))
    broken = [_ring(2, 0.62), _ring(9, 0.6), _ring(11, 0.53), _ring(18, 0.5), _ring(20, 0.43), _ring(28, 0.4),
              _ring(30, 0.345), _ring(2, 0.345)]  # fmt: skip
    pen.polygon(broken, shade(TRAVERTINE, 0.92))
    for level in range(3):
        y0, y1 = ARENA_LEVELS[level], ARENA_LEVELS[level + 1]
        for k in range(13):
            t = -78 + k * 13
            if _broken_top(t + 5) < y1 - 0.01:
                continue
            x, y = _ring(t, y0 + 0.012)
            width = 0.082 * math.cos(math.radians(t)) + 0.006
            arch(pen, x, y, width, (y1 - y0) * 0.72, (112, 66, 46), glow=(255, 168, 70))
        end = 90 if level < 2 else 18
        pen.line([_ring(t, y1) for t in _span(-87, end - 3)], 0.02, shade(TRAVERTINE, 1.45))
    for k in range(6):
        t = -72 + k * 14.5
        x, y = _ring(t, 0.53)
        pen.rectangle(x - 0.018, y, x + 0.018, y + 0.042, (112, 66, 46), glow=(255, 168, 70))
    pen.line([_ring(t, 0.62) for t in _span(-87, 1)], 0.024, SNOW if snow else shade(TRAVERTINE, 1.5))
    if snow:
        pen.line([_ring(t, 0.352) for t in _span(32, 87)], 0.022, SNOW)
        pen.line([_ring(t, 0.505) for t in _span(12, 18)], 0.02, SNOW)


def _ring(degrees: float, height: float, depth: float = 0.05) -> Point:
    """A point of the arena's oval wall, seen slightly from above; 0 degrees is the middle of the front."""
    t = math.radians(degrees)
    return (0.6 * math.sin(t), height - depth * math.cos(t))


def _span(start: float, end: float) -> list[float]:
    return [start + (end - start) * i / 10 for i in range(11)]


def _broken_top(degrees: float) -> float:
    return 0.62 if degrees <= 2 else 0.485 if degrees <= 19 else 0.345


BRICK_TOWER: RGB = (186, 92, 64)
PALACES: tuple[RGB, ...] = (
    (236, 150, 96),
    (246, 208, 128),
    (214, 98, 84),
    (250, 226, 196),
    (232, 176, 150),
    (206, 120, 76),
)
LEAD: RGB = (124, 158, 168)


def venice(pen: Pen, *, variation: int, snow: bool) -> None:
    """Palaces on the Grand Canal, the campanile and the dome of the Salute, with striped mooring poles."""
    _salute(pen.at(0.37, 0), snow)
    x = -0.22
    wall(pen, x - 0.07, 0, x + 0.07, 0.66, BRICK_TOWER, dark=0.78, glow=(70, 36, 16))
    for dx in (-0.045, -0.01, 0.03):
        pen.rectangle(x + dx, 0.3, x + dx + 0.014, 0.63, shade(BRICK_TOWER, 0.66))
    ledge(pen, x - 0.085, x + 0.085, 0.65, 0.022, (250, 240, 224), snow=snow)
    wall(pen, x - 0.066, 0.672, x + 0.066, 0.76, (250, 238, 218), dark=0.8)
    for dx in (-0.04, 0.0, 0.04):
        arch(pen, x + dx, 0.68, 0.026, 0.065, (104, 66, 60))
    ledge(pen, x - 0.08, x + 0.08, 0.757, 0.016, (250, 240, 224), snow=snow)
    wall(pen, x - 0.062, 0.772, x + 0.062, 0.825, BRICK_TOWER, dark=0.78)
    spire(pen, x, 0.825, 0.13, 0.975, (92, 158, 132))
    if snow:
        pen.polygon([(x - 0.045, 0.87), (x, 0.975), (x + 0.02, 0.93), (x + 0.005, 0.885)], SNOW)
    pen.line([(x, 0.965), (x, 1.0)], 0.014, (246, 204, 84), glow=LIT)
    lefts = (-1.15, -0.97, -0.79, -0.6, -0.13, 0.03, 0.66, 0.83, 1.0)
    rights = (-0.97, -0.79, -0.6, -0.4, 0.03, 0.2, 0.83, 1.0, 1.15)
    heights = (0.28, 0.36, 0.3, 0.4, 0.34, 0.26, 0.32, 0.38, 0.3)
    for k, (x0, x1, top) in enumerate(zip(lefts, rights, heights, strict=True)):
        _palace(pen, x0, x1, top, PALACES[(k + variation) % 6], k + variation, snow)
    _doge_palace(pen, snow)
    for x, top, tone in ((0.2, 0.2, (54, 98, 176)), (0.56, 0.24, (200, 54, 52)), (-0.5, 0.17, (54, 98, 176))):
        _mooring_pole(pen, x, top, tone, snow)


def _palace(pen: Pen, x0: float, x1: float, top: float, color: RGB, variation: int, snow: bool) -> None:
    wall(pen, x0, 0, x1, top, color, share=0.22, dark=0.84)
    step = (x1 - x0 - 0.02) / 3
    for floor, y in enumerate((top * 0.42, top * 0.72)):
        for k in range(3):
            x = x0 + 0.01 + (k + 0.5) * step
            lit = (k + floor + variation) % 3 != 0
            arch(pen, x, y, step * 0.5, top * 0.2, (92, 72, 78), pointed=True, glow=LIT if lit else None)
    arch(pen, (x0 + x1) / 2, 0, 0.05, top * 0.28, (82, 56, 56))
    ledge(pen, x0, x1, top * 0.36, 0.014, (252, 240, 220))
    roof(pen, x0 - 0.012, x1 + 0.012, top - 0.004, top + 0.045, (176, 82, 58), inset=0.035, snow=snow)


def _doge_palace(pen: Pen, snow: bool) -> None:
    """The pink palace on its white arcade, at the campanile's foot."""
    pink: RGB = (248, 200, 184)
    wall(pen, -0.42, 0.12, -0.1, 0.31, pink, share=0.2, dark=0.9)
    pen.rectangle(-0.42, 0, -0.1, 0.13, (255, 246, 234))
    for k in range(6):
        arch(pen, -0.393 + k * 0.0535, 0.0, 0.036, 0.1, (116, 84, 88), pointed=True)
    for k in range(4):
        arch(pen, -0.38 + k * 0.08, 0.175, 0.036, 0.09, (128, 82, 84), pointed=True)
    ledge(pen, -0.43, -0.09, 0.12, 0.016, (255, 250, 240))
    for k in range(8):
        x = -0.418 + k * 0.0445
        pen.polygon([(x - 0.016, 0.31), (x, 0.345), (x + 0.016, 0.31)], SNOW if snow else (255, 246, 234))


def _salute(pen: Pen, snow: bool) -> None:
    white: RGB = (248, 240, 228)
    wall(pen, -0.2, 0, 0.24, 0.26, white, dark=0.84)
    arch(pen, 0, 0.0, 0.11, 0.2, (130, 110, 106))
    for x in (-0.13, 0.14):
        arch(pen, x, 0.04, 0.05, 0.13, (130, 110, 106))
    pen.polygon([(-0.09, 0.25), (0, 0.31), (0.09, 0.25)], white)
    wall(pen, 0.17, 0.26, 0.27, 0.36, white)
    dome(pen, 0.22, 0.36, 0.06, 0.09, LEAD, snow=snow)
    wall(pen, -0.155, 0.26, 0.155, 0.37, white, dark=0.82)
    for x in (-0.1, -0.033, 0.034, 0.1):
        arch(pen, x, 0.285, 0.034, 0.066, (130, 110, 106))
    for x in (-0.16, 0.16):
        pen.ellipse(x, 0.29, 0.04, 0.04, white if x < 0 else shade(white, 0.84))
    ledge(pen, -0.17, 0.17, 0.36, 0.018, white, snow=snow)
    dome(pen, 0, 0.375, 0.15, 0.19, LEAD, snow=snow)
    wall(pen, -0.032, 0.555, 0.032, 0.61, white, dark=0.8)
    dome(pen, 0, 0.61, 0.036, 0.04, LEAD, snow=snow)
    pen.line([(0, 0.64), (0, 0.69)], 0.012, (246, 204, 84))


def _mooring_pole(pen: Pen, x: float, top: float, color: RGB, snow: bool) -> None:
    pen.rectangle(x - 0.013, -0.06, x + 0.013, top, (250, 246, 238))
    for k in range(5):
        y = -0.05 + k * (top + 0.05) / 5
        pen.polygon(
            [(x - 0.013, y), (x + 0.013, y + 0.022), (x + 0.013, y + 0.045), (x - 0.013, y + 0.023)], color
        )
    pen.ellipse(x, top + 0.012, 0.018, 0.02, SNOW if snow else (246, 204, 84))


MARBLE: RGB = (252, 246, 230)
LEAN = math.radians(7.5)


def pisa(pen: Pen, *, variation: int, snow: bool) -> None:
    """The leaning tower beside the cathedral's dome."""
    _cathedral(pen, snow)
    foot = 0.09

    def at(x: float, y: float) -> Point:
        return (foot + x * math.cos(LEAN) + y * math.sin(LEAN), y * math.cos(LEAN) - x * math.sin(LEAN))

    def box(x0: float, y0: float, x1: float, y1: float, color: RGB, glow: RGB | None = None) -> None:
        pen.polygon([at(x0, y0), at(x1, y0), at(x1, y1), at(x0, y1)], color, glow=glow)

    def drum(radius: float, y0: float, y1: float, openings: int, recess: RGB) -> None:
        box(-radius, y0, radius, y1, MARBLE)
        box(radius * 0.35, y0, radius, y1, shade(MARBLE, 0.8))
        for k in range(openings):
            t = math.radians(-90 + 180 * (k + 0.5) / openings)
            x, half = radius * math.sin(t), radius * math.cos(t) * 1.1 / openings
            top = y0 + (y1 - y0) * 0.86
            outline = [at(x - half, y0), at(x - half, top - half), at(x - half * 0.6, top - half * 0.2),
                       at(x, top), at(x + half * 0.6, top - half * 0.2), at(x + half, top - half),
                       at(x + half, y0)]  # fmt: skip
            pen.polygon(outline, recess, glow=(206, 146, 70))
        box(-radius * 1.05, y1 - 0.012, radius * 1.05, y1 + 0.012, shade(MARBLE, 1.6))
        box(radius * 0.4, y1 - 0.012, radius * 1.05, y1 + 0.012, shade(MARBLE, 0.88))
        if snow:
            box(-radius * 1.05, y1, radius * 1.05, y1 + 0.016, SNOW)

    pen.ellipse(foot, 0.0, 0.19, 0.03, (206, 196, 170))
    drum(0.15, 0.0, 0.19, 6, (170, 152, 140))
    for k in range(6):
        drum(0.142, 0.2 + k * 0.095, 0.285 + k * 0.095, 8, (142, 116, 108))
    drum(0.105, 0.775, 0.885, 4, (120, 92, 90))
    pen.polygon(
        [at(-0.105, 0.9), at(-0.06, 0.925), at(0.06, 0.925), at(0.105, 0.9)], SNOW if snow else MARBLE
    )
    pen.line([at(0, 0.92), at(0, 0.99)], 0.012, (150, 130, 110))
    pen.polygon([at(0, 0.985), at(0.075, 0.965), at(0, 0.945)], (208, 52, 48))
    bushes(pen, [(0.48, 0.09), (0.6, 0.12), (0.75, 0.1), (-0.92, 0.11)], (84, 134, 72), snow=snow)


def _cathedral(pen: Pen, snow: bool) -> None:
    tile: RGB = (196, 108, 76)
    wall(pen, -0.86, 0, -0.16, 0.2, MARBLE, share=0.0)
    pen.rectangle(-0.86, 0.07, -0.16, 0.088, (168, 170, 184))
    for k in range(9):
        arch(pen, -0.82 + k * 0.0775, 0.0, 0.042, 0.15, (178, 170, 172))
    roof(pen, -0.88, -0.14, 0.195, 0.25, tile, inset=0.06, snow=snow)
    wall(pen, -0.76, 0.24, -0.24, 0.33, MARBLE, share=0.0)
    windows(pen, -0.74, 0.25, -0.26, 0.33, 9, 1, (150, 140, 146), fullness=0.4)
    roof(pen, -0.78, -0.22, 0.325, 0.38, tile, inset=0.05, snow=snow)
    wall(pen, -0.6, 0.36, -0.36, 0.43, MARBLE, dark=0.82)
    windows(pen, -0.59, 0.365, -0.37, 0.43, 5, 1, (150, 140, 146), fullness=0.42)
    dome(pen, -0.48, 0.43, 0.125, 0.17, (142, 160, 174), snow=snow)
    pen.line([(-0.48, 0.59), (-0.48, 0.65)], 0.014, (240, 196, 80))


PENTELIC: RGB = (252, 238, 210)
CRAG: RGB = (196, 164, 124)


def athens(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Parthenon on the rock of the Acropolis."""
    rock: list[Point] = [(-1.0, 0.0), (-0.9, 0.1), (-0.8, 0.14), (-0.74, 0.3), (-0.62, 0.36), (0.62, 0.37),
               (0.72, 0.3), (0.8, 0.16), (0.92, 0.08), (1.0, 0.0)]  # fmt: skip
    pen.polygon(rock, CRAG)
    for points, tone in (
        ([(-0.62, 0.36), (-0.5, 0.36), (-0.58, 0.2), (-0.66, 0.14), (-0.74, 0.3)], 1.3),
        ([(-0.4, 0.36), (-0.2, 0.36), (-0.26, 0.2), (-0.36, 0.12), (-0.44, 0.24)], 1.25),
        ([(-0.06, 0.36), (0.16, 0.36), (0.12, 0.22), (0.02, 0.1), (-0.1, 0.2)], 1.15),
        ([(0.16, 0.37), (0.34, 0.37), (0.3, 0.14), (0.18, 0.06), (0.12, 0.22)], 0.84),
        ([(-0.5, 0.36), (-0.4, 0.36), (-0.44, 0.24), (-0.5, 0.1), (-0.58, 0.2)], 0.84),
        (
            [
                (0.44, 0.37),
                (0.62, 0.37),
                (0.72, 0.3),
                (0.8, 0.16),
                (0.92, 0.08),
                (1.0, 0),
                (0.6, 0),
                (0.5, 0.2),
            ],
            0.76,
        ),
        ([(-0.2, 0.36), (-0.06, 0.36), (-0.1, 0.2), (-0.16, 0.08), (-0.26, 0.2)], 0.86),
    ):
        pen.polygon(points, shade(CRAG, tone))
    bushes(pen, [(-0.85, 0.12), (-0.66, 0.1), (-0.42, 0.12), (-0.12, 0.09), (0.16, 0.12), (0.42, 0.1),
           (0.66, 0.13), (0.86, 0.1)], (128, 148, 88), snow=snow)  # fmt: skip
    if snow:
        pen.polygon(
            [(-0.74, 0.3), (-0.62, 0.38), (0.62, 0.39), (0.72, 0.3), (0.6, 0.345), (-0.6, 0.335)], SNOW
        )
    _parthenon(pen.at(0, 0.355), snow)


def _parthenon(pen: Pen, snow: bool) -> None:
    for k, half in enumerate((0.54, 0.52, 0.5)):
        pen.rectangle(-half, k * 0.018, half, k * 0.018 + 0.018, shade(PENTELIC, 0.86 + k * 0.06))
    pen.rectangle(-0.43, 0.05, 0.43, 0.33, shade(PENTELIC, 0.56), glow=(200, 124, 44))
    for k in range(5):
        column(pen, -0.34 + k * 0.17, 0.05, 0.33, 0.044, shade(PENTELIC, 0.76))
    for k in range(8):
        column(pen, -0.45 + k * 0.1286, 0.05, 0.34, 0.07, PENTELIC, dark=0.78, glow=FLOODLIGHT)
    wall(pen, -0.5, 0.335, 0.5, 0.405, PENTELIC, share=0.16, dark=0.86, glow=FLOODLIGHT)
    for k in range(15):
        x = -0.475 + k * 0.066
        pen.rectangle(x, 0.366, x + 0.026, 0.398, shade(PENTELIC, 0.72))
    ledge(pen, -0.53, 0.53, 0.4, 0.024, shade(PENTELIC, 1.5), snow=snow)
    pen.polygon([(-0.5, 0.424), (0, 0.575), (0.24, 0.502), (0.28, 0.47), (0.34, 0.473), (0.5, 0.424)],
                shade(PENTELIC, 0.74))  # fmt: skip
    for x, top in ((-0.22, 0.475), (-0.12, 0.5), (0.0, 0.528), (0.11, 0.5), (0.19, 0.47)):
        pen.polygon([(x - 0.03, 0.424), (x - 0.022, top), (x + 0.016, top), (x + 0.032, 0.424)], PENTELIC)
    pen.polygon([(-0.54, 0.424), (0, 0.59), (0.25, 0.513), (0.235, 0.486), (0, 0.556), (-0.44, 0.424)],
                SNOW if snow else shade(PENTELIC, 1.4))  # fmt: skip
    pen.polygon([(0.54, 0.424), (0.36, 0.478), (0.34, 0.455), (0.44, 0.424)], SNOW if snow else PENTELIC)
