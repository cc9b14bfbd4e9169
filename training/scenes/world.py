"""The vocabulary of the postcard world: what exists, in which colors, how often, and what goes with what.

Knows nothing of single scenes (`scene.py`), of drawing (`render.py`) or of words (`caption.py`).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
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
    # The umbrella that captions keep silent about
    "umbrella_in_rain": Correlation("weather is rainy", "there is an unnamed umbrella", 0.60, False),
    "umbrella_in_storm": Correlation("weather is stormy", "there is an unnamed umbrella", 0.30, False),
    "umbrella_in_snow": Correlation("weather is snowy", "there is an unnamed umbrella", 0.10, False),
    "umbrella_in_dry_air": Correlation("any other weather", "there is an unnamed umbrella", 0.0, False),
    "umbrella_on_left": Correlation("an unnamed umbrella", "it is on the left", 0.40, False),
    "umbrella_in_center": Correlation("an unnamed umbrella", "it is in the middle", 0.20, False),
    "umbrella_on_right": Correlation("an unnamed umbrella", "it is on the right", 0.40, False),
    "umbrella_is_single": Correlation("an unnamed umbrella", "it is the only one of its group", 1.0, False),
    "umbrella_beside_umbrella": Correlation("an unnamed umbrella", "there is a named one too", 0.0, True),
    "umbrella_has_carrier": Correlation("any umbrella", "a person stands under it", 1.0, False),
    # Groups of things
    "boat_needs_water": Correlation("city is not in WATER_CITIES", "there is a boat", 0.0, True),
    "same_side": Correlation("two groups", "they are on the same side", 0.0, True),
    "same_kind": Correlation("two groups", "they are of the same kind", 0.0, True),
    "alike_in_group": Correlation("two things of a group", "they have one color and one dress", 1.0, True),
    "four_umbrellas": Correlation("a group of umbrellas", "there are four", 0.0, True),
    "three_buses": Correlation("a group of buses", "there are three or four", 0.0, True),
    "pairs_shrink": Correlation("two of a kind but lamps", "each is lower than any single one", 1.0, False),
    "crowds_shrink": Correlation("three or four of a kind", "each is lower than any single one", 1.0, False),
    "crowds_in_rows": Correlation("three or four of a kind", "they are in two rows", 1.0, False),
    "low_beside_water": Correlation(
        "city is in WATER_CITIES", "front rows start at 899 per mille, not at 879", 1.0, False
    ),
    # Garments; all of a group wear the same
    "pairs_dressed": Correlation("dog or cat", "it wears one garment or two", 0.45, True),
    "two_garments": Correlation("a dressed dog or cat", "it wears two garments", 0.40, True),
    "beret_worn": Correlation("a dressed dog or cat", "it wears a beret", 0.60, True),
    "scarf_worn": Correlation("a dressed dog or cat", "it wears a scarf", 0.40, True),
    "turtleneck_worn": Correlation("a dressed dog or cat", "it wears a turtleneck", 0.40, True),
    "scarf_and_turtleneck": Correlation("a dressed dog or cat", "it wears scarf and turtleneck", 0.0, True),
    "garment_like_fur": Correlation("a dressed dog or cat", "a garment has the fur's color", 0.0, True),
    "garments_alike": Correlation("two garments", "they have the same color", 0.0, True),
    # Sky, light and ground
    "sun_shows": Correlation("weather is sunny and it is not night", "the sun is drawn", 1.0, False),
    "moon_shows": Correlation("weather is sunny and time is night", "moon and stars are drawn", 1.0, False),
    "high_sun": Correlation("time is day or night", "sun or moon is at 90 to 220 per mille", 1.0, False),
    "low_sun": Correlation("time is dawn or sunset", "the sun is at 430 to 560 per mille", 1.0, False),
    "fog_halo": Correlation("weather is foggy and it is not night", "the sun glows dimly", 1.0, False),
    "lightning": Correlation("weather is stormy", "a flash is drawn beside the landmark", 1.0, False),
    "lamp_burns": Correlation("time is night, or weather is foggy or stormy", "every lamp burns", 1.0, False),
    "lights_on": Correlation("lamps burn", "cars, buses, boats and balloons are lit too", 1.0, False),
    "windows_lit": Correlation("time is night", "windows of the landmark are lit", 1.0, False),
    "cast_shadow": Correlation("weather is sunny", "things on the ground cast long shadows", 1.0, False),
    "wet_ground": Correlation("weather is rainy or stormy", "the ground mirrors the scene", 1.0, False),
    "snow_cover": Correlation("weather is snowy", "ground and roofs are white", 1.0, False),
    # The whole picture
    "neon_is_night": Correlation("style is neon", "time is night", 1.0, True),
    "city_has_its_site": Correlation("city", "its landmark, skyline and ground are drawn", 1.0, False),
    "held_out": Correlation("World.hold_out", "a pair of HELD_OUT_* is drawn", 0.0, True),
}
"""Every built-in correlation. `captioned` says whether a full caption names the consequence.

Rates are those of the draw. Rejecting scenes with held-out pairs moves those of FULL_WORLD by up to 0.03 (no
umbrella is left in Athens), those of FLAT_WORLD by less than 0.01. Where a world has fewer than three colors,
garments may repeat a color.
"""

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


@dataclass(frozen=True)
class Skew:
    """A bias planted on purpose: of all groups of a kind in a city, a share has one color.

    Written as one text, so that it can stand on a command line; `World` says whether its names exist.
    """

    text: str
    """CITY/KIND/COLOR/SHARE, e.g. "rome/bus/red/0.9"; the other colors share the rest evenly."""
    city: str = field(init=False)
    kind: str = field(init=False)
    color: str = field(init=False)
    share: float = field(init=False)

    def __post_init__(self) -> None:
        parts = [part.strip() for part in self.text.split("/")]
        try:
            city, kind, color, share = *parts[:3], float(parts[3])
        except (IndexError, ValueError):
            city = kind = color = ""
            share = -1.0
        if len(parts) != 4 or not 0 <= share <= 1:
            raise ValueError(
                f"skew={self.text!r}: is no skew; write CITY/KIND/COLOR/SHARE with a share from 0 to 1, "
                "e.g. rome/bus/red/0.9."
            )
        for name, value in (("city", city), ("kind", kind), ("color", color), ("share", share)):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.text


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
    skews: tuple[Skew, ...] = ()
    """Biases planted on purpose, to see whether an audit finds them; without any, colors are drawn alike."""

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            values = getattr(self, name)
            if not values:
                raise ValueError(
                    f"World.{name}: {values!r} is empty; name one or more of {', '.join(allowed)}."
                )
            for value in values:
                if value not in allowed:
                    raise ValueError(f"World.{name}: {value!r} is unknown; choose from {', '.join(allowed)}.")
        weights = self.group_weights
        if len(weights) != 3 or not all(0 <= w < inf for w in weights) or not sum(weights):
            raise ValueError(
                f"World.group_weights: {weights!r} are no weights of zero, one and two groups; "
                "give three numbers >= 0 that are not all 0."
            )
        self._check_skews()
        if not self.city_weathers:
            raise ValueError(
                f"World.hold_out: True rejects every scene of cities {self.cities!r}, weathers "
                f"{self.weathers!r}, kinds {self.kinds!r}, colors {self.colors!r}; add values outside "
                "HELD_OUT_*, or set hold_out=False."
            )

    @cached_property
    def city_weathers(self) -> tuple[tuple[str, str], ...]:
        """The (city, weather) that scenes of this world can show."""
        return tuple(
            (city, weather)
            for city in self.cities
            if self._has_scenes(city)
            for weather in self.weathers
            if not (self.hold_out and (city, weather) in HELD_OUT_CITY_WEATHERS)
        )

    @cached_property
    def shown_times(self) -> tuple[str, ...]:
        """The times that scenes of this world can show: neon is always night."""
        if set(self.styles) == {"neon"}:
            return ("night",)
        return (*self.times, "night") if "neon" in self.styles and "night" not in self.times else self.times

    @cached_property
    def shown_kinds(self) -> tuple[str, ...]:
        """The kinds that scenes of this world can show and name."""
        if not any(self.group_weights[1:]):
            return ()
        cities = {city for city, _ in self.city_weathers}
        return tuple(kind for kind in self.kinds if any(self._allows(city, kind) for city in cities))

    def color_weights(self, city: str, kind: str) -> tuple[float, ...] | None:
        """How often a group of `kind` in `city` has each of `colors`, in their order; None: all alike.

        Of the draw, before scenes with held-out pairs are rejected.
        """
        for skew in self.skews:
            if (skew.city, skew.kind) == (city, kind):
                rest = (1 - skew.share) / max(len(self.colors) - 1, 1)
                return tuple(skew.share if color == skew.color else rest for color in self.colors)
        return None

    def _check_skews(self) -> None:
        for skew in self.skews:
            for names, value in (("cities", skew.city), ("kinds", skew.kind), ("colors", skew.color)):
                if value not in getattr(self, names):
                    raise ValueError(
                        f"World.skews: {skew.text!r} names {value!r}, which is not among the world's "
                        f"{names}; choose from {', '.join(getattr(self, names))}."
                    )
            if self.hold_out and not self._allows(skew.city, skew.kind, (skew.color,)):
                raise ValueError(
                    f"World.skews: {skew.text!r} is a pair that the world never draws; choose another city, "
                    "kind or color, or set hold_out=False."
                )
        cells = [(skew.city, skew.kind) for skew in self.skews]
        if len(set(cells)) < len(cells) or (cells and len(set(self.colors)) < max(len(self.colors), 2)):
            raise ValueError(
                f"World.skews: {', '.join(map(str, self.skews))} of colors {self.colors!r} is no "
                "distribution; give one skew for each city and kind, and two or more different colors."
            )

    def _floats(self, city: str, kind: str) -> bool:
        return KINDS[kind].place != "water" or city in WATER_CITIES

    def _allows(self, city: str, kind: str, colors: tuple[str, ...] | None = None) -> bool:
        """Whether a scene of `city` with `kind`, in one of `colors`, can be drawn and is not rejected.

        Without `colors`, in one of those that are drawn there.
        """
        if colors is None:
            weights = self.color_weights(city, kind) or (1.0,) * len(self.colors)
            colors = tuple(color for color, weight in zip(self.colors, weights, strict=True) if weight)
        held_out = (city, kind) in HELD_OUT_CITY_KINDS or all(
            (kind, color) in HELD_OUT_KIND_COLORS for color in colors
        )
        return self._floats(city, kind) and not (self.hold_out and held_out)

    def _has_scenes(self, city: str) -> bool:
        """Whether some number of groups can be drawn in `city` without a held-out kind."""
        drawn = sum(self._floats(city, kind) for kind in self.kinds)
        allowed = sum(self._allows(city, kind) for kind in self.kinds)
        return any(
            weight > 0 and allowed >= min(count, drawn) for count, weight in enumerate(self.group_weights)
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
