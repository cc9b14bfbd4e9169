"""Landmarks of Africa, Asia and Australia: Cairo, Tokyo, Agra and Sydney.

Knows nothing of weather, time or where the landmark stands in the picture.
"""

import math

from training.scenes.canvas import Pen, Point, mix, shade
from training.scenes.masonry import (
    BULB,
    FLOODLIGHT,
    LIT,
    SNOW,
    arch,
    bushes,
    dome,
    ledge,
    peak,
    turned,
    wall,
)
from training.scenes.world import RGB

SAND: RGB = (248, 206, 118)


def cairo(pen: Pen, *, variation: int, snow: bool) -> None:
    """The three pyramids of Giza and the Sphinx."""
    pen.polygon(
        [(-1.0, 0), (-0.75, 0.035), (-0.2, 0.02), (0.4, 0.04), (0.8, 0.03), (1.0, 0)], shade(SAND, 0.9)
    )
    _pyramid(pen, 0.62, 0.36, 0.44, 7, snow, False)
    _pyramid(pen, -0.2, 0.6, 0.84, 11, snow, True)
    _pyramid(pen, 0.33, 0.4, 0.55, 8, snow, False)
    pen.polygon([(-1.0, 0), (-0.8, 0.03), (-0.4, 0.012), (0.1, 0.03), (0.5, 0.014), (0.85, 0.035), (1.0, 0)],
                SNOW if snow else shade(SAND, 1.25))  # fmt: skip
    _sphinx(pen.at(-0.4, 0.0, 1.0), snow)


def _pyramid(pen: Pen, x: float, half: float, top: float, courses: int, snow: bool, casing: bool) -> None:
    edge = x + half * 0.3
    dark: RGB = (190, 134, 76)
    pen.polygon([(x - half, 0), (x, top), (edge, 0)], SAND, glow=(110, 78, 30))
    pen.polygon([(edge, 0), (x, top), (x + half, 0)], dark, glow=(44, 28, 10))
    for k in range(1, courses):
        f = k / courses
        y = top * f
        left, middle, right = x - half * (1 - f), x + half * 0.3 * (1 - f), x + half * (1 - f)
        width = 0.007
        pen.polygon(
            [(left, y), (middle, y), (middle, y + width), (left + width, y + width)], shade(SAND, 0.88)
        )
        pen.polygon(
            [(middle, y), (right, y), (right - width, y + width), (middle, y + width)], shade(dark, 0.88)
        )
    if casing or snow:
        f, cap = 0.74, SNOW if snow else (255, 238, 196)
        y, w = top * f, 1 - f
        notch = top * 0.03
        pen.polygon([(x - half * w, y), (x, top), (x + half * 0.3 * w, y), (x - half * 0.1 * w, y + notch),
                     (x - half * 0.5 * w, y - notch)], cap)  # fmt: skip
        pen.polygon([(x + half * 0.3 * w, y), (x, top), (x + half * w, y), (x + half * 0.65 * w, y + notch)],
                    shade(cap, 0.84))  # fmt: skip


def _sphinx(pen: Pen, snow: bool) -> None:
    """The Sphinx in profile, looking right."""
    light, base, dark = (234, 168, 92), (204, 136, 72), (142, 88, 50)
    pen.polygon(
        [*pen.curve([(-0.36, 0), (-0.38, 0.17), (-0.26, 0.19), (-0.1, 0.15), (0.04, 0.17)]), (0.1, 0)], base
    )
    pen.pie(-0.27, 0, 0.1, 0.14, 0, 180, shade(base, 0.9))
    pen.polygon([(0.0, 0), (0.0, 0.075), (0.3, 0.06), (0.33, 0.04), (0.33, 0)], light)
    pen.polygon([(0.0, 0), (0.0, 0.02), (0.33, 0.02), (0.33, 0)], dark)
    pen.polygon([(-0.04, 0.0), (-0.06, 0.2), (0.1, 0.22), (0.14, 0.05)], base)
    pen.polygon([(-0.11, 0.12), (-0.07, 0.33), (-0.02, 0.385), (0.06, 0.395), (0.11, 0.37), (0.12, 0.33),
                 (0.05, 0.32), (0.03, 0.13)], light)  # fmt: skip
    for k in range(4):
        y = 0.17 + k * 0.05
        pen.polygon(
            [(-0.1 + k * 0.01, y), (0.03, y + 0.01), (0.035, y + 0.032), (-0.094 + k * 0.01, y + 0.022)], base
        )
    pen.polygon([(0.04, 0.2), (0.035, 0.35), (0.125, 0.35), (0.13, 0.3), (0.145, 0.285), (0.13, 0.27),
                 (0.128, 0.22), (0.09, 0.2)], shade(base, 1.08))  # fmt: skip
    pen.polygon([(0.04, 0.2), (0.038, 0.27), (0.07, 0.235), (0.128, 0.225), (0.09, 0.2)], dark)
    pen.rectangle(0.09, 0.3, 0.118, 0.316, (74, 46, 34))
    pen.rectangle(0.098, 0.244, 0.13, 0.255, dark)
    if snow:
        pen.polygon([(-0.07, 0.35), (-0.02, 0.4), (0.06, 0.41), (0.115, 0.38), (0.05, 0.365)], SNOW)
        pen.polygon(pen.curve([(-0.34, 0.1), (-0.33, 0.21), (-0.2, 0.18), (-0.08, 0.17), (-0.2, 0.13)]), SNOW)
        pen.polygon([(0.13, 0.068), (0.3, 0.055), (0.33, 0.04), (0.3, 0.076), (0.13, 0.085)], SNOW)


VERMILION: RGB = (222, 58, 44)
ROOF_RED: RGB = (196, 44, 44)
FUJI: RGB = (112, 140, 196)


def tokyo(pen: Pen, *, variation: int, snow: bool) -> None:
    """A five-storey red pagoda with Mount Fuji behind it."""
    peak(pen, 0.36, 0.72, 0.66, FUJI, crater=0.06, cap=0.38 if snow else 0.62, cap_color=(250, 250, 255))
    pen.polygon([(-1.0, 0), *pen.curve([(-0.9, 0.1), (-0.6, 0.2), (-0.2, 0.06)]), (0.0, 0)], (122, 158, 142))
    blossom: RGB = (250, 176, 196)
    bushes(pen, [(-0.72, 0.12), (-0.56, 0.17), (-0.36, 0.12), (0.42, 0.13), (0.6, 0.17), (0.76, 0.12)],
           blossom, snow=snow)  # fmt: skip
    x0 = -0.06
    wall(pen, x0 - 0.24, 0, x0 + 0.24, 0.045, (206, 198, 188))
    for tier in range(5):
        y = 0.045 + tier * 0.157
        body, eave = 0.165 - tier * 0.016, 0.305 - tier * 0.028
        wall(pen, x0 - body, y, x0 + body, y + 0.09, (252, 236, 208), share=0.3, dark=0.84)
        for k in range(5):
            x = x0 - body + k * body / 2
            pen.rectangle(x - 0.012, y, x + 0.012, y + 0.09, VERMILION if k < 3 else shade(VERMILION, 0.76))
        pen.rectangle(x0 - body * 0.4, y + 0.012, x0 - body * 0.1, y + 0.062, (96, 38, 40), glow=LIT)
        pen.rectangle(x0 + body * 0.1, y + 0.012, x0 + body * 0.4, y + 0.062, (96, 38, 40), glow=LIT)
        pen.rectangle(x0 - body * 1.15, y - 0.004, x0 + body * 1.15, y + 0.014, shade(VERMILION, 0.8))
        _pagoda_roof(pen.at(x0, y + 0.082), eave, body - 0.02, snow)
    pen.line([(x0, 0.84), (x0, 1.0)], 0.016, (240, 190, 70), glow=(160, 110, 30))
    for k in range(4):
        pen.rectangle(
            x0 - 0.03 + k * 0.004, 0.865 + k * 0.026, x0 + 0.03 - k * 0.004, 0.877 + k * 0.026, (240, 190, 70)
        )


def _pagoda_roof(pen: Pen, eave: float, top: float, snow: bool) -> None:
    """A roof with upswept corners: its shadow, its tiles and, on the right, their shaded side."""

    def surface(side: int) -> list[Point]:
        return pen.curve([(side * eave, 0.026), (side * eave * 0.72, 0.03), (side * top, 0.092)], steps=8)

    brim = pen.curve(
        [(eave, 0.026), (eave * 0.6, -0.012), (0, -0.006), (-eave * 0.6, -0.012), (-eave, 0.026)], steps=12
    )
    under = [(x * 0.94, y - 0.016) for x, y in brim]
    pen.polygon([*brim, *reversed(under)], (110, 26, 34))
    pen.polygon([*surface(-1), *reversed(surface(1)), *brim], ROOF_RED)
    pen.polygon(
        [(eave * 0.3, -0.004), (top * 0.3, 0.092), *reversed(surface(1)), *brim[:4]], shade(ROOF_RED, 0.8)
    )
    pen.line(brim, 0.01, (240, 110, 76))
    if snow:
        left, right = surface(-1), surface(1)
        hem = [(eave * 0.5, 0.03), (eave * 0.2, 0.044), (-eave * 0.15, 0.028), (-eave * 0.5, 0.038)]
        pen.polygon([*left, *reversed(right), *hem], SNOW)


IVORY: RGB = (255, 246, 236)
ROSE_SHADE: RGB = (210, 180, 192)


def agra(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Taj Mahal with its four minarets."""
    for x in (-0.84, -0.72, 0.72, 0.84):
        _cypress(pen, x, snow)
    for x, top in ((-0.43, 0.56), (0.43, 0.56)):
        _minaret(pen, x, 0.022, top, snow)
    pen.rectangle(-0.66, 0, 0.66, 0.075, (240, 222, 212))
    pen.rectangle(0.3, 0, 0.66, 0.075, ROSE_SHADE)
    ledge(pen, -0.68, 0.68, 0.066, 0.018, IVORY, snow=snow)
    for x in (-0.205, 0.205):
        wall(pen, x - 0.06, 0.4, x + 0.06, 0.475, IVORY, dark=0.84)
        for dx in (-0.032, 0.006, 0.036):
            arch(pen, x + dx, 0.405, 0.022, 0.055, (170, 138, 140))
        turned(pen, x, 0.475, 0.068, 0.12, BULB, IVORY, dark=0.86, snow=snow)
        pen.line([(x, 0.585), (x, 0.63)], 0.011, (232, 180, 74))
    wall(pen, -0.13, 0.42, 0.13, 0.5, IVORY, dark=0.86, glow=FLOODLIGHT)
    ledge(pen, -0.14, 0.14, 0.49, 0.022, (232, 196, 170))
    turned(pen, 0, 0.51, 0.178, 0.38, BULB, IVORY, dark=0.8, snow=snow, glow=FLOODLIGHT)
    pen.line([(0, 0.87), (0, 0.985)], 0.014, (232, 180, 74), glow=(150, 100, 30))
    pen.ellipse(0, 0.925, 0.018, 0.018, (232, 180, 74))
    pen.polygon(
        [(-0.345, 0.084), (-0.345, 0.4), (-0.29, 0.42), (0.29, 0.42), (0.345, 0.4), (0.345, 0.084)],
        IVORY,
        glow=FLOODLIGHT,
    )
    pen.polygon([(0.27, 0.084), (0.27, 0.42), (0.345, 0.4), (0.345, 0.084)], ROSE_SHADE)
    pen.polygon([(-0.345, 0.084), (-0.345, 0.4), (-0.27, 0.42), (-0.27, 0.084)], mix(IVORY, ROSE_SHADE, 0.5))
    ledge(pen, -0.35, 0.35, 0.405, 0.018, IVORY, snow=snow)
    for x, width in ((-0.308, 0.036), (-0.205, 0.072), (0.205, 0.072), (0.308, 0.036)):
        for y in (0.105, 0.255):
            arch(pen, x, y, width, 0.125, (176, 138, 142), pointed=True)
    wall(pen, -0.145, 0.084, 0.145, 0.455, IVORY, share=0.12, dark=0.86, glow=FLOODLIGHT)
    pen.polygon([(-0.118, 0.084), (-0.118, 0.425), (0.118, 0.425), (0.118, 0.084)], (232, 202, 188))
    arch(pen, 0, 0.084, 0.19, 0.325, (150, 104, 116), pointed=True, glow=(255, 190, 100))
    arch(pen, 0, 0.084, 0.1, 0.17, (96, 60, 80), pointed=True, glow=(255, 226, 150))
    ledge(pen, -0.155, 0.155, 0.448, 0.018, IVORY, snow=snow)
    for x in (-0.145, 0.145):
        pen.line([(x, 0.455), (x, 0.52)], 0.016, IVORY)
    for x in (-0.585, 0.585):
        _minaret(pen, x, 0.028, 0.68, snow)


def _minaret(pen: Pen, x: float, half: float, top: float, snow: bool) -> None:
    pen.polygon(
        [(x - half, 0.07), (x - half * 0.7, top - 0.1), (x + half * 0.7, top - 0.1), (x + half, 0.07)], IVORY
    )
    pen.polygon([(x + half * 0.2, 0.07), (x + half * 0.15, top - 0.1), (x + half * 0.7, top - 0.1),
                 (x + half, 0.07)], ROSE_SHADE)  # fmt: skip
    for share in (0.36, 0.68):
        y = 0.07 + (top - 0.17) * share
        pen.rectangle(x - half * 1.25, y, x + half * 1.25, y + 0.016, (222, 184, 164))
    pen.rectangle(x - half * 1.4, top - 0.104, x + half * 1.4, top - 0.084, (222, 184, 164))
    pen.rectangle(x - half * 0.75, top - 0.084, x + half * 0.75, top - 0.035, (176, 138, 142), glow=LIT)
    dome(pen, x, top - 0.04, half * 1.2, 0.044, IVORY, dark=0.86, snow=snow)
    pen.line([(x, top - 0.01), (x, top + 0.025)], 0.01, (232, 180, 74))


def _cypress(pen: Pen, x: float, snow: bool) -> None:
    green: RGB = (62, 116, 78)
    pen.polygon([(x - 0.045, 0.0), (x - 0.04, 0.09), (x, 0.25), (x + 0.04, 0.09), (x + 0.045, 0.0)], green)
    pen.polygon(
        [(x + 0.01, 0.0), (x + 0.012, 0.1), (x, 0.25), (x + 0.04, 0.09), (x + 0.045, 0.0)], shade(green, 0.74)
    )
    if snow:
        pen.polygon([(x - 0.022, 0.16), (x, 0.25), (x + 0.02, 0.17)], SNOW)


SAIL: RGB = (255, 252, 244)
SAIL_SHADE: RGB = (182, 196, 218)
STEEL: RGB = (84, 104, 128)


def sydney(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Opera House before the Harbour Bridge."""
    for k in range(12):
        h = 0.07 + ((variation + k * 5) % 4) * 0.022
        pen.rectangle(
            -1.15 + k * 0.055, 0, -1.1 + k * 0.055, h, (150, 172, 190) if k % 2 else (170, 188, 202)
        )
    _harbour_bridge(pen, snow)
    pen.polygon([(-0.72, 0), (-0.68, 0.085), (0.16, 0.085), (0.34, 0.0)], (222, 178, 140))
    pen.polygon([(-0.72, 0), (-0.71, 0.03), (0.28, 0.03), (0.34, 0.0)], (178, 130, 102))
    for x in range(11):
        pen.rectangle(-0.64 + x * 0.075, 0.045, -0.6 + x * 0.075, 0.066, (128, 86, 74), glow=LIT)
    for tip, front, back, crown in (
        ((0.3, 0.33), 0.2, -0.06, 0.2), ((-0.2, 0.66), -0.08, 0.14, 0.5), ((-0.42, 0.52), -0.3, -0.02, 0.4),
        ((-0.62, 0.36), -0.5, -0.24, 0.26),
    ):  # fmt: skip
        _sail(pen, tip, front, back, crown, snow)


def _sail(pen: Pen, tip: Point, front: float, back: float, crown: float, snow: bool) -> None:
    """One shell from its tip to its back foot; its open side shows glass down to the front foot."""
    ground = 0.083
    way = 1 if back > front else -1
    glass = front + way * abs(back - front) * 0.3
    ridge = pen.curve(
        [tip, (tip[0] + (back - tip[0]) * 0.62, tip[1] * 0.98), (back, crown * 0.55), (back, ground)]
    )
    lip = pen.curve([(front, ground), (front - way * 0.012, tip[1] * 0.55), tip], steps=8)
    pen.polygon([*lip, *ridge[1:]], glow=(64, 66, 76), fill=SAIL if way > 0 else mix(SAIL, SAIL_SHADE, 0.7))
    inner = pen.curve([(glass, ground), (front + way * 0.036, tip[1] * 0.55), tip], steps=8)
    pen.polygon([*lip, *reversed(inner)], (150, 112, 96), glow=(255, 190, 96))
    fold = pen.curve(
        [
            (back - way * abs(back - front) * 0.3, ground),
            (tip[0] + (back - tip[0]) * 0.72, tip[1] * 0.66),
            tip,
        ]
    )
    pen.polygon([*ridge, *fold], SAIL_SHADE, glow=(40, 42, 52))
    if snow:
        pen.line(ridge[:9], 0.022, SNOW)


def _harbour_bridge(pen: Pen, snow: bool) -> None:
    x0, x1 = 0.06, 0.84
    middle, half = (x0 + x1) / 2, (x1 - x0) / 2

    def chord(low: float, top: float) -> list[Point]:
        return [(middle - half * math.cos(math.radians(a)), low + top * math.sin(math.radians(a)) ** 1.15)
                for a in range(0, 181, 15)]  # fmt: skip

    upper, lower = chord(0.21, 0.32), chord(0.1, 0.35)
    for x, y in lower[2:-2]:
        pen.line([(x, 0.16), (x, y)], 0.01, STEEL)
    for a, b in zip(upper, lower[1:], strict=False):
        pen.line([a, b], 0.01, STEEL)
    for a, b in zip(upper, lower, strict=True):
        pen.line([a, b], 0.01, STEEL)
    pen.line(lower, 0.02, STEEL)
    pen.line(upper, 0.022, SNOW if snow else shade(STEEL, 1.15))
    pen.rectangle(-0.3, 0.15, 1.15, 0.178, shade(STEEL, 0.8))
    ledge(pen, -0.3, 1.15, 0.172, 0.014, shade(STEEL, 1.3), snow=snow)
    for x in (x0, x1):
        wall(pen, x - 0.045, 0, x + 0.045, 0.28, (226, 196, 156), dark=0.78)
        ledge(pen, x - 0.055, x + 0.055, 0.275, 0.02, (240, 216, 180), snow=snow)
    for k in range(7):
        pen.ellipse(0.12 + k * 0.12, 0.192, 0.009, 0.009, shade(STEEL, 1.3), glow=(255, 230, 160))
