"""Fresh prompts with the truth about them: scenes no training has drawn, told in words with known claims.

Knows nothing of models or judges. Everything is a pure function of (world, size, count).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.scenes.claims import Claims, GroupClaim, Sight, is_true, sight_from
from training.scenes.phrases import compose
from training.scenes.render import render
from training.scenes.scene import Group, Scene, sample_scene
from training.scenes.world import WATER_CITIES, World

PROMPT_SEED, UMBRELLA_SEED = 3, 4
"""Streams of scenes; training draws from 1, validation from 2."""
TUNING_SEED = 5
"""Stream of the prompts on which settings may be chosen: no score is taken on it."""
EXAM_SEED, LIKE_SEED = 20, 21
"""Streams of the judge's own exam, and of scenes that hold the same claims as a prompt."""
OTHER_SCENES = 30
"""Added to the number of a stream of prompts: other scenes of their kind, to compare renders with renders."""
SCENES_PER_PROMPT = 200
"""How many scenes to look through for one prompt before the world counts as too poor."""


@dataclass(frozen=True, kw_only=True)
class BenchPrompt:
    """A prompt, what it claims, and the real scene and picture that it was taken from."""

    text: str
    claims: Claims
    scene: Scene
    sight: Sight
    image: NDArray[np.uint8]
    """The real render, size x size x 3."""

    @property
    def umbrella(self) -> bool | None:
        """Whether the render shows an umbrella; None if there is one that can hardly be seen."""
        seen = [
            s for t, s in zip(self.scene.things, self.sight.things_seen, strict=True) if t.kind == "umbrella"
        ]
        return any(seen) if any(seen) or not seen else None


def fresh_prompts(world: World, *, size: int, count: int, stream: int = PROMPT_SEED) -> list[BenchPrompt]:
    """`count` prompts that state city, weather, time and a thing with color, count and side, all to be seen.

    Args:
        stream: of scenes, from which they are taken.
    Raises:
        ValueError: scenes of `world` hardly ever show a whole group of things.
    """
    prompts: list[BenchPrompt] = []

    def names_thing(scene: Scene) -> bool:
        return any(group.named for group in scene.groups)

    for scene, sight, image in renders(stream, world, names_thing, size=size, count=count):
        groups = [group for group in scene.groups if group.named and wholly_seen(group, sight)]
        if not groups or not sight.weather_seen:
            continue
        draws = random.Random(f"postcardbench/{scene.seed}/{scene.index}").random
        group = groups[int(draws() * len(groups))]
        thing = GroupClaim(kind=group.kind, color=group.color, count=group.count, side=group.side)
        prompts.append(_prompt(scene, sight, image, (thing,)))
        if len(prompts) == count:
            break
    return complete(prompts, count, "scenes with a thing to be seen")


def umbrella_prompts(world: World, *, size: int, count: int) -> list[BenchPrompt]:
    """`count` rainy prompts that do not name an umbrella, half of them naming another thing.

    From scenes whose captions name no umbrella, so that the renders hold one as often as training shows one
    unasked.

    Raises:
        ValueError: `world` has no rain or no umbrella.
    """
    if "rainy" not in world.weathers or "umbrella" not in world.kinds:
        raise ValueError(f"pairs={count}: this world has no umbrella in the rain to remove; use pairs=0.")
    rainy = replace(world, weathers=("rainy",))
    prompts: list[BenchPrompt] = []

    def names_no_umbrella(scene: Scene) -> bool:
        return not any(group.named and group.kind == "umbrella" for group in scene.groups)

    for scene, sight, image in renders(UMBRELLA_SEED, rainy, names_no_umbrella, size=size, count=count):
        groups = [group for group in scene.groups if group.named and wholly_seen(group, sight)]
        names_thing = len(prompts) % 2 == 1 and len(world.kinds) > 1
        if not sight.weather_seen or (names_thing and not groups):
            continue
        thing = (
            GroupClaim(kind=groups[0].kind, color=groups[0].color, count=groups[0].count)
            if names_thing
            else None
        )
        prompts.append(_prompt(scene, sight, image, (thing,) if thing else ()))
        if len(prompts) == count:
            break
    return complete(prompts, count, "rainy scenes without a named umbrella")


def sham_word(prompt: BenchPrompt, world: World) -> str:
    """A known word for something that is neither asked for nor likely in the prompt's pictures.

    A boat where there is no water; else a kind of thing that the prompt does not name; else another city.
    """
    claims = prompt.claims
    if "boat" in world.kinds and claims.city not in WATER_CITIES:
        return "boat"
    named = {
        "umbrella",
        "boat",
        *(thing.kind for thing in claims.things),
        *(thing.kind for thing in prompt.scene.things),
    }
    others = [kind for kind in reversed(world.kinds) if kind not in named]
    others += [city for city in world.cities if city != claims.city]
    if not others:
        raise ValueError("world: one city and one kind of thing leave no sham word; use pairs=0.")
    return others[0]


def derangement(count: int) -> list[int]:
    """Whose claims each prompt's pictures are scored against for the floor: a cyclic shift by half the list.

    Raises:
        ValueError: one prompt has no other.
    """
    if count < 2:
        raise ValueError(f"prompts={count}: must be at least 2, so that captions can be shuffled.")
    return [(i + count // 2) % count for i in range(count)]


def renders(
    seed: int, world: World, fits: Callable[[Scene], bool], *, size: int, count: int
) -> Iterator[tuple[Scene, Sight, NDArray[np.uint8]]]:
    """Scenes of stream `seed` whose record fits, with what is seen of them and their renders."""
    for index in tqdm(range(SCENES_PER_PROMPT * count), unit="scene", desc="looking for scenes", leave=False):
        scene = sample_scene(seed, index, world)
        if fits(scene):
            yield scene, *seen(scene, size)


def seen(scene: Scene, size: int) -> tuple[Sight, NDArray[np.uint8]]:
    """What can be seen of a scene, and its render."""
    rendering = render(scene, size)
    return sight_from(rendering.visibility, weather_seen=rendering.weather_seen), rendering.image


def wholly_seen(group: Group, sight: Sight) -> bool:
    """Whether every thing of a group and its color can be seen."""
    return all(sight.things_seen[i] and sight.colors_seen[i] for i in group.members)


def _prompt(
    scene: Scene, sight: Sight, image: NDArray[np.uint8], things: tuple[GroupClaim, ...]
) -> BenchPrompt:
    claims = Claims(city=scene.city, weather=scene.weather, time=scene.time, things=things)
    return prompt_of(scene, sight, image, claims)


def prompt_of(scene: Scene, sight: Sight, image: NDArray[np.uint8], claims: Claims) -> BenchPrompt:
    """A prompt with these claims, which hold for the scene."""
    assert is_true(claims, scene)
    text = compose(claims, form="full", seed=scene.index)
    return BenchPrompt(text=text, claims=claims, scene=scene, sight=sight, image=image)


def complete(prompts: list[BenchPrompt], count: int, what: str) -> list[BenchPrompt]:
    """All the prompts; ValueError if there are fewer than asked for."""
    if len(prompts) < count:
        raise ValueError(
            f"world: only {len(prompts)} of {count} {what} found; widen the world or ask for fewer."
        )
    return prompts
