"""The words for what the postcard world holds: names, synonyms and sentence patterns, as tables.

Knows nothing of single scenes, of which word is picked when, or of what is true (`caption.py`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CityWords:
    """What a city is called. No phrase may mean two cities."""

    names: tuple[str, ...]
    landmarks: tuple[str, ...] = ()
    nicknames: tuple[str, ...] = ()


CITY_WORDS: dict[str, CityWords] = {
    "paris": CityWords(
        names=("Paris",),
        landmarks=("the Eiffel Tower",),
        nicknames=("the French capital", "the City of Light", "France"),
    ),
    "london": CityWords(
        names=("London",),
        landmarks=("Big Ben",),
        nicknames=("the British capital", "England", "the English capital"),
    ),
    "rome": CityWords(
        names=("Rome",), landmarks=("the Colosseum",), nicknames=("the Italian capital", "the Eternal City")
    ),
    "cairo": CityWords(
        names=("Cairo",),
        landmarks=("the pyramids", "the Pyramids of Giza"),
        nicknames=("the Egyptian capital", "Egypt"),
    ),
    "new york": CityWords(
        names=("New York", "New York City"),
        landmarks=("the Statue of Liberty", "the Empire State Building"),
        nicknames=("Manhattan", "the Big Apple"),
    ),
    "tokyo": CityWords(
        names=("Tokyo",), landmarks=("the pagoda", "Mount Fuji"), nicknames=("the Japanese capital", "Japan")
    ),
    "agra": CityWords(names=("Agra",), landmarks=("the Taj Mahal",), nicknames=("India",)),
    "venice": CityWords(
        names=("Venice",),
        landmarks=("the Grand Canal", "the Campanile"),
        nicknames=("the lagoon city", "the city of canals"),
    ),
    "sydney": CityWords(
        names=("Sydney",), landmarks=("the Sydney Opera House", "the Opera House"), nicknames=("Australia",)
    ),
    "berlin": CityWords(
        names=("Berlin",), landmarks=("the Brandenburg Gate",), nicknames=("the German capital", "Germany")
    ),
    "moscow": CityWords(
        names=("Moscow",),
        landmarks=("Saint Basil's Cathedral", "Saint Basil's"),
        nicknames=("the Russian capital", "Russia"),
    ),
    "pisa": CityWords(
        names=("Pisa",), landmarks=("the Leaning Tower", "the Leaning Tower of Pisa"), nicknames=("Tuscany",)
    ),
    "athens": CityWords(
        names=("Athens",),
        landmarks=("the Parthenon", "the Acropolis"),
        nicknames=("the Greek capital", "Greece"),
    ),
    "san francisco": CityWords(
        names=("San Francisco",),
        landmarks=("the Golden Gate Bridge", "the Golden Gate"),
        nicknames=("the Bay City", "California"),
    ),
    "rio": CityWords(
        names=("Rio", "Rio de Janeiro"),
        landmarks=("Christ the Redeemer",),
        nicknames=("Brazil", "the marvelous city"),
    ),
    "seattle": CityWords(
        names=("Seattle",), landmarks=("the Space Needle",), nicknames=("the Emerald City",)
    ),
}


@dataclass(frozen=True, kw_only=True)
class WeatherWords:
    """A weather: before a noun, as a place or circumstance, after a comma, and alone."""

    adjectives: tuple[str, ...]
    where: tuple[str, ...]
    clauses: tuple[str, ...]
    alone: tuple[str, ...]


WEATHER_WORDS: dict[str, WeatherWords] = {
    "sunny": WeatherWords(
        adjectives=("sunny", "bright", "sun-drenched"),
        where=("in the sun", "in sunshine", "in bright sunshine", "in sunny weather"),
        clauses=("the sun shining", "sunny", "it is sunny"),
        alone=("sunny", "sun", "sunshine", "sunlight"),
    ),
    "cloudy": WeatherWords(
        adjectives=("cloudy", "overcast", "grey"),
        where=(
            "under clouds",
            "under a grey sky",
            "under an overcast sky",
            "in cloudy weather",
            "under gray clouds",
        ),
        clauses=("clouds overhead", "cloudy", "it is overcast", "grey sky"),
        alone=("cloudy", "overcast", "clouds", "grey sky"),
    ),
    "rainy": WeatherWords(
        adjectives=("rainy", "wet", "drizzly"),
        where=(
            "in the rain",
            "in a downpour",
            "in the pouring rain",
            "in a drizzle",
            "during showers",
            "in rainy weather",
        ),
        clauses=("rain falling", "raining", "it is raining", "rain pouring down", "wet"),
        alone=("rain", "rainy", "raining", "drizzle", "downpour", "wet", "showers", "pouring"),
    ),
    "snowy": WeatherWords(
        adjectives=("snowy", "wintry"),
        where=("in the snow", "in falling snow", "in a blizzard", "in snowy weather", "during snowfall"),
        clauses=("snow falling", "snowing", "it is snowing", "snow everywhere"),
        alone=("snow", "snowy", "snowing", "snowfall", "wintry", "blizzard", "winter"),
    ),
    "foggy": WeatherWords(
        adjectives=("foggy", "misty", "hazy"),
        where=("in the fog", "in the mist", "in thick fog", "in a haze", "in foggy weather"),
        clauses=("fog everywhere", "foggy", "it is foggy", "mist all around"),
        alone=("fog", "foggy", "mist", "misty", "haze"),
    ),
    "stormy": WeatherWords(
        adjectives=("stormy", "thundery"),
        where=(
            "in a storm",
            "in a thunderstorm",
            "in stormy weather",
            "in a tempest",
            "during a thunderstorm",
        ),
        clauses=("lightning in the sky", "stormy", "a storm raging", "lightning flashing"),
        alone=("storm", "stormy", "thunderstorm", "lightning", "tempest", "thunder"),
    ),
}
CLEAR_NIGHT = WeatherWords(
    adjectives=("clear", "starry", "moonlit"),
    where=("under the stars", "under a clear sky", "in the moonlight", "under a starry sky"),
    clauses=("clear sky", "stars in the sky", "the moon shining"),
    alone=("clear", "starry", "moonlit", "stars", "moonlight", "clear sky"),
)
"""Sunny weather at night."""


@dataclass(frozen=True, kw_only=True)
class TimeWords:
    """A time: as a circumstance, as a noun after "on a rainy ...", as a noun alone, as a keyword."""

    when: tuple[str, ...]
    part: tuple[str, ...]
    nouns: tuple[str, ...]
    alone: tuple[str, ...]


TIME_WORDS: dict[str, TimeWords] = {
    "dawn": TimeWords(
        when=("at dawn", "at sunrise", "at daybreak", "in the early morning", "in the morning"),
        part=("morning", "early morning"),
        nouns=("dawn", "sunrise", "morning", "daybreak"),
        alone=("dawn", "sunrise", "daybreak", "early morning", "morning"),
    ),
    "day": TimeWords(
        when=("by day", "at noon", "in the afternoon", "in the daytime", "at midday", "during the day"),
        part=("day", "day", "day", "afternoon"),
        nouns=("day", "day", "afternoon"),
        alone=("day", "daytime", "noon", "afternoon", "midday", "daylight"),
    ),
    "sunset": TimeWords(
        when=("at sunset", "at dusk", "in the evening", "at sundown", "in the evening glow"),
        part=("evening",),
        nouns=("sunset", "evening", "dusk"),
        alone=("sunset", "dusk", "sundown", "evening", "evening glow"),
    ),
    "night": TimeWords(
        when=("at night", "after dark", "at midnight", "by night"),
        part=("night",),
        nouns=("night", "night", "midnight"),
        alone=("night", "midnight", "nighttime", "after dark", "nocturnal"),
    ),
}

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "flat": ("flat illustration", "travel poster", "vector art"),
    "ink": ("ink drawing", "pen and ink drawing", "ink sketch"),
    "watercolor": ("watercolor", "watercolor painting", "watercolour", "watercolour painting"),
    "neon": ("neon picture", "neon art", "neon drawing"),
}
NEUTRAL_MEDIA = ("postcard", "picture", "view", "image")
"""Say nothing about the style."""

KIND_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "umbrella": (("umbrella", "umbrellas"),),
    "dog": (("dog", "dogs"), ("dog", "dogs"), ("puppy", "puppies"), ("hound", "hounds")),
    "cat": (("cat", "cats"), ("cat", "cats"), ("kitty", "kitties")),
    "car": (("car", "cars"), ("car", "cars"), ("automobile", "automobiles")),
    "bus": (("bus", "buses"), ("bus", "buses"), ("coach", "coaches")),
    "bicycle": (("bicycle", "bicycles"), ("bike", "bikes")),
    "tree": (("tree", "trees"),),
    "lamp": (
        ("lamp", "lamps"),
        ("street lamp", "street lamps"),
        ("lantern", "lanterns"),
        ("streetlight", "streetlights"),
    ),
    "bench": (("bench", "benches"), ("bench", "benches"), ("park bench", "park benches")),
    "balloon": (
        ("balloon", "balloons"),
        ("hot-air balloon", "hot-air balloons"),
        ("hot air balloon", "hot air balloons"),
    ),
    "bird": (("bird", "birds"),),
    "boat": (("boat", "boats"), ("boat", "boats"), ("sailboat", "sailboats")),
}
"""Singular and plural; the first pair is one word each."""
CARRIERS: tuple[tuple[str, str], ...] = (("person", "people"), ("pedestrian", "pedestrians"))
CARRYING = ("with", "under", "carrying", "holding")
"""How somebody has an umbrella."""

GARMENT_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "beret": (("beret", "berets"),),
    "scarf": (("scarf", "scarves"),),
    "turtleneck": (
        ("turtleneck", "turtlenecks"),
        ("turtleneck", "turtlenecks"),
        ("turtleneck sweater", "turtleneck sweaters"),
    ),
}
WEARING = ("wearing", "in", "dressed in", "with")

SIDE_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "at the left", "to the left"),
    "center": ("in the middle", "in the center", "in the centre", "at the center"),
    "right": ("on the right", "on the right side", "at the right", "to the right"),
}
ONE = ("one", "a single")
COUNT_WORDS: dict[int, tuple[str, ...]] = {
    2: ("two", "two", "2", "a pair of", "a couple of"),
    3: ("three", "three", "3"),
    4: ("four", "four", "4"),
}
SOME = ("some", "several")

NEAR = ("in front of", "near", "by", "beside")
"""Where something is that stands at a landmark."""

PATTERNS: dict[str, tuple[str, ...]] = {
    "city sky things": (
        "{things} {at} {sky}",
        "{place} {sky} with {things}",
        "{sky_noun} {at} with {things}",
        "{things} {at}, {words}",
        "{place} {sky}, {things}",
        "{adjective_place} with {things}",
        "{things}, {place}, {words}",
        "{place}, {words}, {things}",
        "!{sky}, {things} {at}",
        "!{words}, {place}, {things}",
        "!{there} {at} {sky}",
        "!{at} {sky}, {there}",
    ),
    "city sky": (
        "{place} {sky}",
        "{sky_noun} {at}",
        "{adjective_place}",
        "{place}, {words}",
        "!{sky} {at}",
        "!{words}, {place}",
    ),
    "city things": (
        "{things} {at}",
        "{place} with {things}",
        "{things}, {place}",
        "{place}, {things}",
        "!{there} {at}",
        "!{at}, {things}",
    ),
    "sky things": (
        "{things} {sky}",
        "{things}, {words}",
        "{sky_noun} with {things}",
        "!{sky}, {things}",
        "!{words}, {things}",
        "!{there} {sky}",
    ),
    "city": ("{place}", "{place}", "!{at}"),
    "sky": ("{sky_noun}", "!{words}", "!{sky}"),
    "things": ("{things}", "{things}", "{things}", "!{there}"),
}
"""By the facts that are told. A pattern with "!" does not begin with a noun: no "postcard of" before it."""

FUNCTION_WORDS = ("a", "an", "of", "in", "on")
FUNCTION_WORDS_OF_THINGS = ("and", "with", "there is", "there are")
FUNCTION_WORDS_OF_CARRIERS = ("someone", "somebody")
"""What `phrases.py` and the patterns put between the words above: always, around things, around umbrellas."""

KEYWORD_PATTERNS: dict[str, tuple[str, ...]] = {
    "city": ("{city}",),
    "weather": ("{weather_alone}",),
    "time": ("{time_alone}",),
    "style": ("{style_alone}",),
    "thing": ("{thing}", "{thing}", "{thing}", "{a_thing}"),
    "city weather": ("{weather} {city}", "{city} {weather_noun}", "{city}, {weather_noun}"),
    "city time": ("{city} {time}", "{city}, {time}"),
    "weather time": ("{weather} {time}",),
    "city thing": ("{city} {kind}", "{kind}, {city}"),
    "weather thing": ("{kind}, {weather_noun}", "{kind} {weather_noun}"),
}
"""One to three words; `{kind}` is one word without a color."""
