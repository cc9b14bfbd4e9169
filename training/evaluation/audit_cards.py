"""Prompts of an audit: training captions that leave something open, each with its scene, and facts of scenes.

Knows nothing of models or judges. Everything is a pure function of (world, questions, size, count).

A prompt is a caption that training could have drawn for the scene (`draw_caption`), kept because of its
claims alone. So scenes of prompts are distributed as the training data are next to such captions, and a
perfect model shows no amplification at all. Prompts of another make do not compare: Seshadri, Singh & Elazar
2023 (arXiv 2308.00755) found that amplification measured in Stable Diffusion was largely due to prompts that
are worded unlike training captions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.claims import decode_claims
from training.data.records import record_codes
from training.evaluation.audit_table import Facts, Question
from training.evaluation.prompts import seen
from training.scenes.caption import Caption, draw_caption
from training.scenes.claims import Claims, Sight
from training.scenes.scene import Scene, sample_scene
from training.scenes.world import World

CARD_SEED, RECORD_SEED = 24, 25
"""Streams of scenes, of prompts and of records alone; no training and no other evaluation draws from them."""
CAPTION_SEED = 0
SCENES_PER_CARD = 500
"""How many scenes to look through for one prompt before a question counts as too rare in its world."""
RECORDS = 40_000
"""Scenes whose records alone are looked at."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A prompt, the scene that it was drawn from, what can be told of that scene, and its render."""

    caption: Caption
    scene: Scene
    facts: Facts
    image: NDArray[np.uint8]
    """size x size x 3."""
    asked: dict[str, int]
    """Question -> number of the card among those that the question is put to, from 0."""

    @property
    def claims(self) -> Claims:
        """What the prompt says."""
        return self.caption.truth


def facts_of(scene: Scene, sight: Sight) -> Facts:
    """Field -> class of all that can be told of a scene, things without a name included."""
    return decode_claims(record_codes(scene, sight))


def cards(
    world: World, questions: Sequence[Question], *, size: int, count: int, total: int | None = None
) -> Iterator[Card]:
    """Cards of stream `CARD_SEED` until each question has `count` of them, or `total` scenes are looked at.

    One card serves all questions that still lack cards when its turn comes; each question gets the first
    `count` of its own, so a longer list only adds. Scenes come in their order. A card's caption leaves the
    consequence open both with and without regard to what the picture hides; the few others are passed over,
    which spares rendering scenes in vain.
    """
    most = SCENES_PER_CARD * count if total is None else total
    for narrowed, asked in _by_world(world, questions).items():
        found = dict.fromkeys((one.name for one in asked), 0)
        for index in tqdm(range(most), unit="scene", desc="looking for scenes", leave=False):
            lacking = [one for one in asked if found[one.name] < count]
            if not lacking:
                break
            scene = sample_scene(CARD_SEED, index, narrowed)
            told = draw_caption(scene, Sight.everything(scene), seed=CAPTION_SEED).truth
            wanted = [one for one in lacking if one.when(told)]
            if not wanted:
                continue
            sight, image = seen(scene, size)
            caption = draw_caption(scene, sight, seed=CAPTION_SEED)
            places = {one.name: found[one.name] for one in wanted if one.when(caption.truth)}
            if places:
                found |= {name: place + 1 for name, place in places.items()}
                yield Card(
                    caption=caption,
                    scene=scene,
                    facts=facts_of(scene, sight),
                    image=image,
                    asked=places,
                )


def records(
    world: World, questions: Sequence[Question], *, scenes: int = RECORDS
) -> dict[str, list[tuple[Facts, Claims]]]:
    """Facts and captions' claims of `scenes` scenes of stream `RECORD_SEED`, for each question those it is
    put to: what the data hold next to such captions, as if everything could be seen."""
    found: dict[str, list[tuple[Facts, Claims]]] = {one.name: [] for one in questions}
    for narrowed, asked in _by_world(world, questions).items():
        for index in tqdm(range(scenes), unit="scene", desc="reading records", leave=False):
            scene = sample_scene(RECORD_SEED, index, narrowed)
            sight = Sight.everything(scene)
            told = draw_caption(scene, sight, seed=CAPTION_SEED).truth
            fitting = [one.name for one in asked if one.when(told)]
            if fitting:
                facts = facts_of(scene, sight)
                for name in fitting:
                    found[name].append((facts, told))
    return found


def _by_world(world: World, questions: Sequence[Question]) -> dict[World, list[Question]]:
    """Questions about one city look at scenes of that city alone, which are distributed as all its scenes."""
    found: dict[World, list[Question]] = {}
    for one in questions:
        skews = tuple(skew for skew in world.skews if one.city in (None, skew.city))
        narrowed = replace(world, cities=(one.city,), skews=skews) if one.city else world
        found.setdefault(narrowed, []).append(one)
    return found
