"""Pixels of the postcard world: deterministic, with exact masks, readable at every size and in every style.

Knows nothing of captions.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.scenes.render import render
from training.scenes.scene import Garment, Scene, Thing, sample_scene
from training.scenes.visibility import MIN_AREA, MIN_COLOR_DISTANCE
from training.scenes.world import COLORS, FULL_WORLD, KINDS, STYLES, TIMES, WEATHERS


def thing(kind: str, color: str = "red", *, x: int = 300, y: int = 930, **changes: object) -> Thing:
    fields = {"side": "left", "group": 0, "height": KINDS[kind].height, "mirrored": False, **changes}
    return Thing(kind=kind, color=color, x=x, y=y, **fields)  # pyright: ignore[reportArgumentType]


def scene(
    *things: Thing, city: str = "paris", weather: str = "cloudy", time: str = "day", style: str = "flat"
) -> Scene:
    return Scene(seed=0, index=0, city=city, weather=weather, time=time, style=style, things=things,
                 landmark_x=500, landmark_height=570, sun_x=800, sun_y=150, variation=12345)  # fmt: skip


GOLDEN = Path(__file__).parents[2] / "golden" / "scenes"
"""Pictures of 64 x 64 pixels; `PYTHONPATH=. python tests/training/scenes/test_render.py` writes them anew."""
RED_UMBRELLA = thing("umbrella", "red", x=230, named=False)
DRESSED_DOG = thing("dog", "white", x=720, garments=(Garment("beret", "red"), Garment("turtleneck", "black")))
GOLDEN_SCENES: dict[str, Scene] = {
    "paris_rainy_day_flat": scene(RED_UMBRELLA, DRESSED_DOG, weather="rainy"),
    "venice_sunny_sunset_flat": scene(
        thing("boat", "blue", y=770), thing("balloon", "yellow", x=800, y=400),
        city="venice", weather="sunny", time="sunset",
    ),
    "london_foggy_night_ink": scene(
        thing("lamp", "black"), thing("bus", "red", x=700), city="london", weather="foggy", time="night",
        style="ink",
    ),
    "tokyo_snowy_dawn_watercolor": scene(
        thing("tree", "green"), thing("cat", "orange", x=700, garments=(Garment("scarf", "blue"),)),
        city="tokyo", weather="snowy", time="dawn", style="watercolor",
    ),
    "new_york_stormy_night_neon": scene(
        thing("car", "purple"), thing("bench", "green", x=750),
        city="new york", weather="stormy", time="night", style="neon",
    ),
    "cairo_cloudy_day_watercolor": scene(
        thing("bicycle", "red"), thing("bird", "white", x=780, y=380), city="cairo", style="watercolor",
    ),
}  # fmt: skip


def golden_picture(name: str) -> np.ndarray:
    with Image.open(GOLDEN / f"{name}.png") as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("name", GOLDEN_SCENES)
def test_pixels_are_those_of_the_golden_picture_on_every_machine(name: str):
    """Within 1/255, and different on at most 0.1 % of the pixels."""
    difference = np.abs(render(GOLDEN_SCENES[name], 64).image.astype(int) - golden_picture(name)).max(axis=2)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


def test_the_golden_pictures_are_these_and_small():
    assert {path.stem for path in GOLDEN.glob("*.png")} == set(GOLDEN_SCENES)
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 60_000


def test_pixels_depend_on_the_scene_alone_and_not_on_what_was_drawn_before():
    scenes = [sample_scene(1, i) for i in range(6)]
    first = [render(s).image for s in scenes]
    again = [render(s).image for s in reversed(scenes)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("size", [64, 96, 128, 200, 512])
def test_every_size_shows_the_same_composition(size: int):
    s = scene(thing("dog"), thing("balloon", "blue", x=800, y=400))
    result = render(s, size)
    assert result.image.shape == (size, size, 3)
    assert result.image.dtype == np.uint8
    assert all(mask.shape == (size, size) and mask.dtype == bool for mask in result.masks)
    small = np.asarray(result.image, np.float32).reshape(8, size // 8, 8, size // 8, 3).mean(axis=(1, 3))
    reference = np.asarray(render(s, 256).image, np.float32).reshape(8, 32, 8, 32, 3).mean(axis=(1, 3))
    assert np.abs(small - reference).mean() < 3


@pytest.mark.parametrize("size", [32, 63, 513])
def test_sizes_out_of_range_are_refused(size: int):
    with pytest.raises(ValueError, match=f"size: {size} is out of range; choose 64 to 512"):
        render(scene(), size)


def test_masks_are_disjoint_and_sum_up_to_their_visible_areas():
    for i in range(40):
        s = sample_scene(2, i)
        result = render(s)
        assert len(result.masks) == len(result.visibility) == len(s.things)
        if s.things:
            assert np.sum(result.masks, axis=0).max() <= 1
        for mask, visible in zip(result.masks, result.visibility, strict=True):
            assert visible.area == mask.mean()
            assert 0 <= visible.occluded <= 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_mask_is_where_the_thing_changes_the_picture(kind: str):
    city = "venice" if kind == "boat" else "paris"
    y = {"sky": 400, "water": 770, "ground": 930}[KINDS[kind].place]
    with_it = render(scene(thing(kind, "purple", x=400, y=y), city=city))
    without = render(scene(city=city))
    changed = np.abs(with_it.image.astype(int) - without.image.astype(int)).max(axis=2) > 6
    mask = with_it.masks[0]
    assert mask.sum() > 60
    assert changed[mask].mean() > 0.90
    rows, columns = np.nonzero(mask)
    near = np.zeros_like(mask)
    reach = rows.max() - rows.min() if kind == "boat" else 6  # a boat is mirrored in the water below it
    near[max(rows.min() - 3, 0) : rows.max() + reach, max(columns.min() - 6, 0) : columns.max() + 7] = True
    assert not changed[~near].any()


def test_rain_and_sun_lengthen_a_thing_downwards_only():
    for weather in ("rainy", "sunny"):
        with_it, without = (render(scene(*t, weather=weather)) for t in ((thing("cat", y=900),), ()))
        changed = np.abs(with_it.image.astype(int) - without.image.astype(int)).max(axis=2) > 8
        top = np.nonzero(with_it.masks[0])[0].min()
        assert not changed[: top - 2].any()
        assert changed[int(0.92 * 128) :].any()


def test_a_nearer_thing_hides_a_farther_one_whatever_their_order():
    far, near = thing("car", "blue", y=850), thing("bus", "red", y=950, x=310)
    for things in ((far, near), (near, far)):
        result = render(scene(*things))
        hidden = result.visibility[things.index(far)]
        front = result.visibility[things.index(near)]
        assert front.occluded == 0
        assert hidden.occluded > 0.3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("color", list(COLORS))
def test_the_color_of_a_large_thing_can_be_told_in_every_style(style: str, color: str):
    time = "night" if style == "neon" else "day"
    visible = render(scene(thing("car", color), style=style, time=time, weather="cloudy")).visibility[0]
    assert visible.seen
    assert visible.area >= MIN_AREA
    assert visible.color_distance >= MIN_COLOR_DISTANCE
    assert visible.color_seen


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("weather", WEATHERS)
def test_a_red_umbrella_is_seen_as_red_in_every_light(time: str, weather: str):
    result = render(scene(thing("umbrella", "red"), time=time, weather=weather))
    assert result.visibility[0].color_seen
    assert result.weather_seen


def test_a_tiny_or_hidden_thing_is_not_seen():
    tiny = thing("bird", x=500, y=400, height=30)
    buried = thing("bench", "green", y=850, height=60)
    wall = thing("bus", "red", y=950)
    visibility = render(scene(tiny, buried, wall)).visibility
    assert [v.seen for v in visibility] == [False, False, True]


def test_beret_and_turtleneck_are_seen_in_their_own_colors():
    dressed = thing("dog", "white", garments=(Garment("beret", "red"), Garment("turtleneck", "black")))
    assert render(scene(dressed)).visibility[0].garments_seen == (True, True)
    assert render(scene(thing("dog", "white"))).visibility[0].garments_seen == ()


def test_times_and_weathers_look_different_from_each_other():
    pictures = {
        (time, weather): render(scene(time=time, weather=weather), 64).image.astype(float)
        for time in TIMES
        for weather in WEATHERS
    }
    for first in pictures:
        for second in pictures:
            if first < second:
                assert np.abs(pictures[first] - pictures[second]).mean() > 8, (first, second)


def test_all_cities_and_styles_differ():
    images = [render(scene(city=city), 64).image.astype(float) for city in FULL_WORLD.cities]
    images += [render(scene(time="night", style=style), 64).image.astype(float) for style in STYLES]
    for i, first in enumerate(images):
        for second in images[:i]:
            assert np.abs(first - second).mean() > 4


def test_windows_are_lit_at_night():
    warm = render(scene(city="london", time="night")).image.astype(int)[30:88]
    assert ((warm[..., 0] > 190) & (warm[..., 0] - warm[..., 2] > 50)).sum() > 60


def test_clear_nights_have_a_moon_and_wet_ground_mirrors_the_scene():
    night = replace(scene(time="night", weather="sunny"), sun_x=150)
    moon = render(night).image[8:30, 8:30].astype(int).min(axis=2)
    assert moon.max() > 200
    dry, wet = (render(scene(city="moscow", weather=w)).image.astype(float) for w in ("cloudy", "rainy"))
    assert wet[92:, 40:90].std(axis=1).mean() > 1.3 * dry[92:, 40:90].std(axis=1).mean()


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for golden_name, golden_scene in GOLDEN_SCENES.items():
        Image.fromarray(render(golden_scene, 64).image).save(GOLDEN / f"{golden_name}.png", optimize=True)
