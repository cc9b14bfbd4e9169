"""Landmarks of the Americas: New York, San Francisco, Rio and Seattle.

Knows nothing of weather, time or where the landmark stands in the picture.
"""

import math

from training.scenes.canvas import Pen, Point, mix, shade
from training.scenes.masonry import LIT, SNOW, SNOW_SHADE, bushes, ledge, peak, spire, wall, windows
from training.scenes.world import RGB

BLUES: tuple[RGB, ...] = ((120, 142, 176), (146, 164, 190), (104, 124, 160), (168, 178, 196))
LIMESTONE: RGB = (214, 196, 172)
PATINA: RGB = (96, 186, 156)


def new_york(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Statue of Liberty before the Empire State and Chrysler Buildings."""
    for k in range(14):
        x = -1.16 + k * 0.168
        top = 0.24 + ((k * 7 + variation) % 5) * 0.045 + (0.1 if 5 < k < 11 else 0.0)
        wall(pen, x, 0, x + 0.165, top, mix(BLUES[(k + variation) % 4], (206, 222, 240), 0.35), dark=0.9)
        if snow:
            pen.rectangle(x, top - 0.012, x + 0.165, top + 0.012, SNOW)
    _empire_state(pen.at(0.14, 0), snow)
    _chrysler(pen.at(0.46, 0), snow)
    for k, (x0, x1, top) in enumerate(
        ((-0.94, -0.78, 0.3), (-0.75, -0.62, 0.24), (-0.2, -0.06, 0.46), (0.27, 0.4, 0.36), (0.56, 0.7, 0.44),
         (0.72, 0.9, 0.28))
    ):  # fmt: skip
        color = BLUES[(k + variation // 5) % 4]
        wall(pen, x0, 0, x1, top, color, dark=0.8)
        windows(
            pen, x0 + 0.008, 0.03, x1 - 0.008, top - 0.01, 3, 5, shade(color, 0.58), variation=variation + k
        )
        if snow:
            pen.rectangle(x0, top - 0.012, x1, top + 0.014, SNOW)
    _liberty(pen.at(-0.42, 0, 0.74), snow)


def _empire_state(pen: Pen, snow: bool) -> None:
    for half, y0, y1 in (
        (0.15, 0.0, 0.2),
        (0.125, 0.2, 0.32),
        (0.1, 0.32, 0.68),
        (0.078, 0.68, 0.74),
        (0.052, 0.74, 0.8),
    ):
        wall(pen, -half, y0, half, y1, LIMESTONE, dark=0.76)
        if snow:
            pen.rectangle(-half, y1 - 0.008, half, y1 + 0.012, SNOW)
    for k in range(5):
        x = -0.078 + k * 0.0345
        pen.rectangle(x, 0.22, x + 0.016, 0.66, (128, 110, 104), glow=(220, 166, 84))
    pen.rectangle(-0.035, 0.66, 0.035, 0.72, (128, 110, 104), glow=LIT)
    pen.polygon(
        [(-0.036, 0.8), (-0.024, 0.86), (0.024, 0.86), (0.036, 0.8)], (232, 224, 210), glow=(120, 170, 255)
    )
    pen.polygon(
        [(-0.024, 0.86), (0, 0.9), (0.024, 0.86)], SNOW if snow else (190, 176, 160), glow=(120, 170, 255)
    )
    pen.line([(0, 0.88), (0, 1.0)], 0.013, (150, 140, 136))
    pen.ellipse(0, 0.995, 0.01, 0.01, (220, 70, 60), glow=(255, 80, 60))


def _chrysler(pen: Pen, snow: bool) -> None:
    stone, steel = (188, 190, 200), (226, 232, 240)
    wall(pen, -0.085, 0, 0.085, 0.4, stone, dark=0.76)
    wall(pen, -0.065, 0.4, 0.065, 0.6, stone, dark=0.76)
    for k in range(3):
        x = -0.048 + k * 0.038
        pen.rectangle(x, 0.12, x + 0.017, 0.57, (112, 116, 136), glow=(220, 176, 104))
    for k, (half, y) in enumerate(((0.065, 0.6), (0.051, 0.646), (0.038, 0.69), (0.026, 0.73))):
        pen.pie(0, y, half, half * 1.35, 0, 180, steel if k % 2 == 0 else shade(steel, 0.84))
        pen.pie(0, y, half * 0.62, half * 0.8, 0, 180, shade(steel, 0.6), glow=(255, 240, 190))
    spire(pen, 0, 0.745, 0.034, 0.92, SNOW if snow else steel, dark=0.8)


def _liberty(pen: Pen, snow: bool) -> None:
    """The statue on its star fort, facing us."""
    light, dark = shade(PATINA, 1.3), shade(PATINA, 0.72)
    granite: RGB = (222, 206, 178)
    pen.polygon([(-0.3, 0), (-0.25, 0.07), (0.25, 0.07), (0.3, 0)], shade(granite, 0.8))
    wall(pen, -0.17, 0.07, 0.17, 0.12, granite)
    pen.polygon([(-0.125, 0.12), (-0.1, 0.34), (0.1, 0.34), (0.125, 0.12)], granite)
    pen.polygon([(0.03, 0.12), (0.025, 0.34), (0.1, 0.34), (0.125, 0.12)], shade(granite, 0.78))
    pen.rectangle(-0.05, 0.2, 0.05, 0.3, (150, 128, 104), glow=LIT)
    ledge(pen, -0.118, 0.118, 0.335, 0.028, shade(granite, 1.3), snow=snow)
    pen.polygon([(-0.1, 0.36), (-0.096, 0.5), (-0.078, 0.66), (-0.072, 0.73), (-0.03, 0.76), (0.04, 0.76),
                 (0.078, 0.72), (0.09, 0.58), (0.096, 0.36)], PATINA, glow=(30, 70, 56))  # fmt: skip
    pen.polygon(
        [(0.02, 0.36), (0.035, 0.56), (0.03, 0.75), (0.04, 0.76), (0.078, 0.72), (0.09, 0.58), (0.096, 0.36)],
        dark,
    )
    for x in (-0.066, -0.024):
        pen.line([(x - 0.008, 0.38), (x + 0.006, 0.6)], 0.016, light)
    pen.line([(-0.05, 0.73), (0.06, 0.58)], 0.022, light)
    pen.polygon([(-0.076, 0.7), (-0.145, 0.89), (-0.115, 0.9), (-0.035, 0.76)], light)
    pen.polygon([(-0.155, 0.9), (-0.165, 0.93), (-0.09, 0.93), (-0.1, 0.9)], dark)
    pen.polygon([(-0.15, 0.93), (-0.145, 0.97), (-0.12, 1.01), (-0.105, 0.96), (-0.105, 0.93)],
                 (252, 196, 66), glow=(255, 214, 110))  # fmt: skip
    pen.polygon([(0.05, 0.6), (0.09, 0.71), (0.135, 0.69), (0.098, 0.58)], light)
    pen.ellipse(0.0, 0.81, 0.043, 0.055, PATINA)
    pen.pie(0.0, 0.81, 0.043, 0.055, -90, 60, dark)
    for k in range(5):
        a = math.radians(150 - k * 30)
        pen.line([(0.05 * math.cos(a), 0.835 + 0.03 * math.sin(a)),
                  (0.1 * math.cos(a), 0.84 + 0.085 * math.sin(a))], 0.018, light)  # fmt: skip
    pen.rectangle(-0.048, 0.828, 0.048, 0.852, SNOW if snow else light)


BRIDGE: RGB = (222, 74, 46)


def san_francisco(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Golden Gate Bridge between its headlands."""
    far, near = (136, 164, 150), (104, 142, 96)
    pen.polygon([(0.1, 0), *pen.curve([(0.2, 0.02), (0.45, 0.3), (0.65, 0.34), (0.85, 0.3), (1.16, 0.18)]),
                 (1.16, 0)], SNOW_SHADE if snow else far)  # fmt: skip
    pen.polygon(
        [(-1.16, 0), *pen.curve([(-1.16, 0.26), (-0.86, 0.24), (-0.6, 0.1), (-0.46, 0.0)])],
        SNOW if snow else near,
    )
    pen.polygon([(0.5, 0), *pen.curve([(0.55, 0.02), (0.75, 0.2), (0.9, 0.22), (1.16, 0.2)]), (1.16, 0)],
                SNOW if snow else near)  # fmt: skip
    left, right = (-0.3, 0.96), (0.46, 0.7)
    deck_left, deck_right, e = 0.235, 0.185, 1.16

    def deck(x: float) -> float:
        return deck_left + (deck_right - deck_left) * (x + 1.0) / 2

    spans = (
        [(-1.16, 0.36), (-0.74, 0.48), left], [left, (-0.06, 0.02), (0.22, 0.08), right],
        [right, (0.7, 0.36), (1.16, 0.22)],
    )  # fmt: skip
    cables = [pen.curve(points, steps=14 if len(points) == 4 else 7) for points in spans]
    for cable in cables:
        for x, y in cable[1:-1]:
            if y > deck(x) + 0.02:
                pen.line([(x, deck(x)), (x, y)], 0.008, shade(BRIDGE, 0.92))
    pen.polygon(
        [(-e, deck(-e)), (e, deck(e)), (e, deck(e) - 0.03), (-e, deck(-e) - 0.05)], shade(BRIDGE, 0.7)
    )
    pen.polygon([(-e, deck(-e) + 0.01), (e, deck(e) + 0.008), (e, deck(e) - 0.01), (-e, deck(-e) - 0.016)],
                SNOW if snow else BRIDGE)  # fmt: skip
    for cable in cables:
        pen.line(cable, 0.018, SNOW if snow else shade(BRIDGE, 1.1), glow=(60, 18, 8))
    _bridge_tower(pen.at(right[0], 0), right[1], 0.062, deck(right[0]), snow)
    _bridge_tower(pen.at(left[0], 0), left[1], 0.085, deck(left[0]), snow)
    for k in range(13):
        x = -1.14 + k * 0.19
        pen.ellipse(x, deck(x) + 0.02, 0.008, 0.008, shade(BRIDGE, 1.3), glow=(255, 220, 140))


def _bridge_tower(pen: Pen, top: float, half: float, deck: float, snow: bool) -> None:
    """Two stepped legs with cross-beams, on a pier."""
    light, dark = shade(BRIDGE, 1.12), shade(BRIDGE, 0.7)
    wall(pen, -half * 1.5, 0, half * 1.5, 0.05, (196, 184, 168))
    for side in (-1, 1):
        for y0, y1, w in ((0.045, deck, 0.6), (deck, top * 0.66, 0.52), (top * 0.66, top, 0.42)):
            x0, x1 = sorted((side * half, side * half * (1 - w)))
            pen.rectangle(x0, y0, x1, y1, light if side < 0 else BRIDGE, glow=(96, 32, 14))
            pen.rectangle(x0 + (x1 - x0) * 0.6, y0, x1, y1, BRIDGE if side < 0 else dark)
    for share in (0.42, 0.6, 0.79, 0.965):
        y = top * share
        pen.rectangle(-half, y - 0.024, half, y + 0.018, BRIDGE)
        pen.rectangle(-half * 0.5, y - 0.034, half, y - 0.018, dark)
    pen.rectangle(-half, deck - 0.045, half, deck + 0.012, dark)
    if snow:
        pen.rectangle(-half, top - 0.012, half, top + 0.014, SNOW)
    pen.ellipse(0, top + 0.012, 0.014, 0.014, (250, 90, 60), glow=(255, 90, 60))


JUNGLE: RGB = (62, 142, 92)
GRANITE: RGB = (138, 132, 124)
SOAPSTONE: RGB = (250, 238, 212)


def rio(pen: Pen, *, variation: int, snow: bool) -> None:
    """Christ the Redeemer on Corcovado, the Sugarloaf behind."""
    pen.polygon([(-1.16, 0), *pen.curve([(-1.16, 0.2), (-0.84, 0.3), (-0.6, 0.16), (-0.4, 0.1)]), (-0.3, 0)],
                mix(JUNGLE, (150, 190, 210), 0.5))  # fmt: skip
    loaf = pen.curve([(0.4, 0), (0.46, 0.36), (0.52, 0.55), (0.66, 0.55), (0.76, 0.3), (0.88, 0.0)], steps=16)
    pen.polygon(loaf, GRANITE)
    pen.polygon([*loaf[8:], (0.62, 0), (0.66, 0.15), (0.6, 0.26)], shade(GRANITE, 0.76))
    pen.polygon([*loaf[5:10], (0.62, 0.33), (0.58, 0.3), (0.55, 0.33)], SNOW if snow else shade(JUNGLE, 0.95))
    pen.polygon([(0.3, 0), *pen.curve([(0.4, 0.03), (0.5, 0.18), (0.62, 0.1)]), (0.72, 0.02), (0.9, 0.07),
                 (1.16, 0.04), (1.16, 0)], shade(JUNGLE, 0.84))  # fmt: skip
    slope_left: list[Point] = [
        (-0.86, 0),
        (-0.66, 0.09),
        (-0.5, 0.22),
        (-0.34, 0.3),
        (-0.24, 0.44),
        (-0.16, 0.5),
    ]
    slope_right: list[Point] = [(0.04, 0.5), (0.1, 0.4), (0.16, 0.3), (0.3, 0.16), (0.44, 0.08), (0.56, 0)]
    pen.polygon([*slope_left, *slope_right], JUNGLE)
    pen.polygon([(-0.02, 0.5), *slope_right, (0.0, 0), (0.06, 0.2), (-0.03, 0.32)], shade(JUNGLE, 0.72))
    pen.polygon(
        [(-0.5, 0.22), (-0.34, 0.3), (-0.24, 0.44), (-0.18, 0.3), (-0.3, 0.12), (-0.46, 0.08)],
        shade(JUNGLE, 1.18),
    )
    pen.polygon([(-0.13, 0.5), (-0.03, 0.5), (-0.01, 0.38), (-0.06, 0.26), (-0.1, 0.36)], GRANITE)
    if snow:
        pen.polygon([(-0.5, 0.22), (-0.34, 0.3), (-0.24, 0.44), (-0.16, 0.51), (0.04, 0.51), (0.1, 0.4),
                     (0.03, 0.42), (-0.05, 0.36), (-0.14, 0.4), (-0.24, 0.28),
                     (-0.38, 0.24)], SNOW)  # fmt: skip
    for k in range(13):
        x = -1.09 + k * 0.17
        h = 0.05 + ((variation + k * 3) % 4) * 0.018
        wall(pen, x, 0, x + 0.1, h, (250, 240, 224) if k % 2 else (244, 214, 186))
        windows(pen, x + 0.008, 0.006, x + 0.092, h, 3, 2, (140, 140, 150), variation=k + variation)
        if snow:
            pen.rectangle(x, h - 0.006, x + 0.1, h + 0.014, SNOW)
    _redeemer(pen.at(-0.06, 0.49, 0.51), snow)


def _redeemer(pen: Pen, snow: bool) -> None:
    glow: RGB = (120, 108, 84)
    dark = shade(SOAPSTONE, 0.7)
    wall(pen, -0.13, -0.02, 0.13, 0.12, (206, 196, 180))
    pen.polygon([(-0.1, 0.12), (-0.085, 0.45), (-0.12, 0.68), (-0.5, 0.72), (-0.6, 0.715), (-0.6, 0.775),
                 (-0.5, 0.79), (-0.06, 0.82), (0.06, 0.82), (0.5, 0.79), (0.6, 0.775), (0.6, 0.715),
                 (0.5, 0.72), (0.12, 0.68), (0.085, 0.45), (0.1, 0.12)], SOAPSTONE, glow=glow)  # fmt: skip
    pen.polygon([(-0.5, 0.73), (-0.46, 0.61), (-0.3, 0.63), (-0.1, 0.58), (-0.1, 0.7)], SOAPSTONE, glow=glow)
    pen.polygon([(0.5, 0.73), (0.46, 0.61), (0.3, 0.63), (0.1, 0.58), (0.1, 0.7)], dark, glow=glow)
    pen.polygon([(0.02, 0.12), (0.03, 0.5), (0.0, 0.75), (0.06, 0.76), (0.5, 0.745), (0.6, 0.735),
                 (0.6, 0.715), (0.5, 0.72), (0.12, 0.66), (0.085, 0.45), (0.1, 0.12)],
                dark, glow=glow)  # fmt: skip
    pen.polygon([(-0.08, 0.2), (-0.02, 0.56), (0.0, 0.56), (-0.04, 0.16)], dark, glow=glow)
    pen.ellipse(0, 0.89, 0.06, 0.085, SOAPSTONE, glow=glow)
    pen.pie(0, 0.89, 0.06, 0.085, -90, 60, dark, glow=glow)
    if snow:
        pen.line([(-0.58, 0.785), (-0.06, 0.828)], 0.03, SNOW)
        pen.line([(0.06, 0.828), (0.58, 0.785)], 0.03, SNOW)
        pen.pie(0, 0.915, 0.058, 0.07, 0, 180, SNOW)


NEEDLE: RGB = (250, 246, 236)
RAINIER: RGB = (112, 148, 172)


def seattle(pen: Pen, *, variation: int, snow: bool) -> None:
    """The Space Needle before Mount Rainier and a small skyline."""
    peak(pen, -0.48, 0.62, 0.58, RAINIER, crater=0.075, cap=0.2 if snow else 0.42, cap_color=(248, 252, 255))
    teals: tuple[RGB, ...] = ((74, 128, 140), (104, 156, 160), (60, 104, 126), (136, 176, 178))
    for k, (x0, x1, top) in enumerate(
        ((-1.16, -0.86, 0.22), (-0.84, -0.7, 0.16), (-0.36, -0.24, 0.2), (0.16, 0.28, 0.3),
         (0.27, 0.4, 0.46), (0.42, 0.52, 0.36), (0.53, 0.68, 0.54), (0.69, 0.8, 0.34),
         (0.81, 0.97, 0.26), (0.98, 1.16, 0.2))
    ):  # fmt: skip
        top += ((variation + k * 3) % 3) * 0.02
        color = teals[(k + variation) % 4]
        wall(pen, x0, 0, x1, top, color, dark=0.8)
        windows(
            pen,
            x0 + 0.008,
            0.03,
            x1 - 0.008,
            top - 0.01,
            3,
            max(3, int(top * 11)),
            shade(color, 0.62),
            variation=k,
        )
        if snow:
            pen.rectangle(x0, top - 0.01, x1, top + 0.014, SNOW)
    firs = [(x, 0.075 + (k % 3) * 0.016) for k, x in enumerate((-0.66, -0.54, -0.42, -0.3, -0.18, 0.2, 0.34))]
    bushes(pen, firs, (48, 108, 84), snow=snow)
    _needle(pen.at(-0.02, 0), snow)


def _needle(pen: Pen, snow: bool) -> None:
    dark = shade(NEEDLE, 0.66)
    for side, tone in ((-1, NEEDLE), (1, dark)):
        outer = [
            (side * x, y)
            for x, y in pen.curve([(0.19, 0), (0.02, 0.34), (0.028, 0.55), (0.1, 0.77)], steps=14)
        ]
        inner = [
            (side * x, y) for x, y in pen.curve([(0.05, 0.77), (0.0, 0.58), (0.0, 0.4), (0.135, 0)], steps=14)
        ]
        pen.polygon([*outer, *inner], tone, glow=(60, 56, 50))
    pen.rectangle(-0.024, 0, 0.024, 0.77, mix(NEEDLE, dark, 0.5), glow=(70, 64, 54))
    pen.rectangle(0.004, 0, 0.024, 0.77, dark, glow=(60, 56, 50))
    pen.rectangle(-0.085, 0.2, 0.085, 0.222, NEEDLE)
    pen.polygon([(-0.1, 0.765), (-0.235, 0.806), (0.235, 0.806), (0.1, 0.765)], shade(NEEDLE, 0.66))
    pen.polygon([(-0.25, 0.806), (-0.25, 0.822), (0.25, 0.822), (0.25, 0.806)], NEEDLE)
    pen.rectangle(-0.215, 0.822, 0.215, 0.846, (84, 96, 116), glow=(255, 214, 120))
    pen.polygon([(-0.225, 0.846), *pen.curve([(-0.19, 0.862), (-0.07, 0.876), (-0.045, 0.905)]),
                 *pen.curve([(0.045, 0.905), (0.07, 0.876), (0.19, 0.862), (0.225, 0.846)])],
                SNOW if snow else (244, 146, 56))  # fmt: skip
    pen.polygon([(0.04, 0.846), (0.02, 0.905),
                 *pen.curve([(0.045, 0.905), (0.07, 0.876), (0.19, 0.862), (0.225, 0.846)])],
                 SNOW_SHADE if snow else (206, 108, 40))  # fmt: skip
    pen.rectangle(-0.045, 0.9, 0.045, 0.918, NEEDLE, glow=LIT)
    spire(pen, 0, 0.918, 0.034, 1.0, NEEDLE)
    pen.ellipse(0, 0.99, 0.01, 0.01, (240, 80, 60), glow=(255, 80, 60))
