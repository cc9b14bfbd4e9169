"""The vocabulary of the postcard world: what exists, in which colors, how often, and what goes with what.

Knows nothing of single scenes (`scene.py`), of drawing (`render.py`) or of words (`caption.py`).
"""

from dataclasses import dataclass, replace
from typing import Literal

RGB = tuple[int, int, int]

CITIES = (
    "paris", "london", "rome", "cairo", "new york", "tokyo", "agra", "venice",
    "sydney", "berlin", "moscow", "pisa", "athens", "san francisco", "rio", "seattle",
)  # fmt: skip
WEATHERS = ("sunny", "cloudy", "rainy", "snowy", "foggy", "stormy")
TIMES = ("dawn", "day", "sunset", "night")
STYLES = ("flat", "ink", "watercolor", "neon")
SIDES = ("left", "center", "right")
GARMENTS = ("beret", "scarf", "turtleneck")

COLORS: dict[str, RGB] = {
    "red": (214, 40, 44),
    "orange": (245, 132, 31),
    "yellow": (250, 206, 46),
    "green": (46, 150, 66),
    "blue": (36, 98, 204),
    "purple": (128, 58, 168),
    "white": (245, 245, 240),
    "black": (34, 34, 40),
}
"""Daylight sRGB of the eight color names."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of thing. Sizes are per mille of the picture's height, as drawn when it stands alone."""

    name: str
    plural: str
    place: Literal["ground", "sky", "water"]
    height: int
    width: int
    max_count: int = 4
    dressable: bool = False
    weight: float = 1.0


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="umbrella",
            plural="umbrellas",
            place="ground",
            height=380,
            width=270,
            max_count=3,
            weight=1.3,
        ),
        Kind(name="dog", plural="dogs", place="ground", height=270, width=310, dressable=True, weight=1.4),
        Kind(name="cat", plural="cats", place="ground", height=270, width=270, dressable=True, weight=1.3),
        Kind(name="car", plural="cars", place="ground", height=190, width=380),
        Kind(name="bus", plural="buses", place="ground", height=270, width=440, max_count=2),
        Kind(name="bicycle", plural="bicycles", place="ground", height=230, width=350),
        Kind(name="tree", plural="trees", place="ground", height=430, width=290),
        Kind(name="lamp", plural="lamps", place="ground", height=460, width=120),
        Kind(name="bench", plural="benches", place="ground", height=170, width=330),
        Kind(name="balloon", plural="balloons", place="sky", height=330, width=240),
        Kind(name="bird", plural="birds", place="sky", height=170, width=240),
        Kind(name="boat", plural="boats", place="water", height=280, width=320),
    )
}

WATER_CITIES = frozenset({"venice", "sydney", "san francisco", "new york", "london", "rio"})
"""Cities with water between the landmark and the promenade; boats exist only here."""


@dataclass(frozen=True)
class Correlation:
    """Something that goes with something else more often than chance, by construction."""

    given: str
    then: str
    rate: float
    captioned: bool


CORRELATIONS: dict[str, Correlation] = {
    "umbrella_in_rain": Correlation("weather is rainy", "somebody carries an umbrella", 0.60, False),
    "umbrella_in_storm": Correlation("weather is stormy", "somebody carries an umbrella", 0.30, False),
    "umbrella_in_snow": Correlation("weather is snowy", "somebody carries an umbrella", 0.10, False),
    "boat_needs_water": Correlation("city is not in WATER_CITIES", "there is a boat", 0.0, True),
    "sun_shows": Correlation("weather is sunny and it is not night", "the sun is drawn", 1.0, False),
    "moon_shows": Correlation("weather is sunny and time is night", "moon and stars are drawn", 1.0, False),
    "lamp_burns": Correlation("time is night, or weather is foggy or stormy", "every lamp burns", 1.0, False),
    "windows_lit": Correlation("time is night", "windows of the landmark are lit", 1.0, False),
    "wet_ground": Correlation("weather is rainy or stormy", "the ground mirrors the scene", 1.0, False),
    "snow_cover": Correlation("weather is snowy", "ground and roofs are white", 1.0, False),
    "neon_is_night": Correlation("style is neon", "time is night", 1.0, True),
    "pairs_dressed": Correlation("dog or cat", "it wears one garment or two", 0.45, True),
}
"""Every built-in correlation. `captioned` says whether a full caption names the consequence."""

HELD_OUT_KIND_COLORS = frozenset(
    {("dog", "purple"), ("car", "orange"), ("balloon", "green"), ("bench", "blue"), ("cat", "yellow")}
)
"""5 of 96 pairs never seen in training: the test of composition."""
HELD_OUT_CITY_WEATHERS = frozenset(
    {("rome", "snowy"), ("tokyo", "stormy"), ("agra", "rainy"), ("seattle", "foggy"), ("sydney", "cloudy")}
)
"""5 of 96 pairs never seen in training."""
HELD_OUT_CITY_KINDS = frozenset(
    {
        ("paris", "bus"), ("london", "balloon"), ("cairo", "bicycle"), ("berlin", "cat"), ("pisa", "dog"),
        ("moscow", "car"), ("venice", "tree"), ("athens", "umbrella"), ("rio", "bench"), ("seattle", "bird"),
    }
)  # fmt: skip
"""10 of 192 pairs never seen in training."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The part of the world that a data set is drawn from."""

    cities: tuple[str, ...] = CITIES
    weathers: tuple[str, ...] = WEATHERS
    times: tuple[str, ...] = TIMES
    styles: tuple[str, ...] = STYLES
    kinds: tuple[str, ...] = tuple(KINDS)
    colors: tuple[str, ...] = tuple(COLORS)
    group_weights: tuple[float, ...] = (0.12, 0.50, 0.38)
    """Probability of zero, one, two named groups of things."""
    hold_out: bool = True
    """Reject scenes with a held-out pair (training); False keeps them."""

    def __post_init__(self) -> None:
        for field, allowed in _ALLOWED.items():
            for value in getattr(self, field):
                if value not in allowed:
                    raise ValueError(
                        f"World.{field}: {value!r} is unknown; choose from {', '.join(allowed)}."
                    )


_ALLOWED: dict[str, tuple[str, ...]] = {
    "cities": CITIES,
    "weathers": WEATHERS,
    "times": TIMES,
    "styles": STYLES,
    "kinds": tuple(KINDS),
    "colors": tuple(COLORS),
}

FULL_WORLD = World()
FLAT_WORLD = replace(
    FULL_WORLD,
    styles=("flat",),
    cities=(
        "paris",
        "london",
        "rome",
        "cairo",
        "new york",
        "tokyo",
        "agra",
        "venice",
        "moscow",
        "san francisco",
    ),
)
"""One drawing style and ten cities: as much as a first CPU-trained model can hold."""
