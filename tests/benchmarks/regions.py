"""What `regions` does for postcards of two things in two colors on two sides, judged against naming both.

Run by hand: `python tests/benchmarks/regions.py [FOLDER] [--prompts 48] [--seeds 4] [--out DIR]`. No test: it
asserts no score. It does not know how pictures are judged or intervals made: `training/evaluation` does.

Each postcard is drawn from the same noise with one plain prompt that names both things and, for every choice
of boxes, with the bare scene and a region for each thing, and with the plain prompt and the regions.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.judge import Reading, Recogniser
from ldm_pipeline.statistics import clustered_share, mcnemar
from ldm_pipeline.table_cells import percent
from training.evaluation import answers, sheets
from training.evaluation.answers import Pictures
from training.evaluation.prompts import PROMPT_SEED, UMBRELLA_SEED
from training.evaluation.report import machine
from training.recipes import RECIPES
from training.scenes.claims import Claims, GroupClaim, sight_from
from training.scenes.phrases import compose, with_article
from training.scenes.render import render
from training.scenes.scene import SIDE_CENTERS, Scene, sample_scene
from training.scenes.world import KINDS, World

MODELS = Path(__file__).resolve().parents[2] / "ldm_pipeline" / "models"
STREAM, FIRST_SEED, SEED_STEP = 7, 30_000_000, 1_000
"""Scenes; picture k of prompt i has seed 30,000,000 + 1000 i + k."""
SCENES_PER_PROMPT = 1_000
SHEET_PROMPTS = 8
RENDERS, PLAIN = "real renders", "names both"
QUESTIONS = {
    "city": "city",
    "weather": "weather",
    "time": "time of day",
    "present": "a thing is present",
    "color": "its color",
    "mixed": "it has the other's color",
    "side": "its side",
    "count": "its count of one",
    "bound": "present, color and side",
    "both_present": "both things are present",
    "both_bound": "both with color and side",
}
"""Of each picture, or of each of its two things; `mixed` is a fault."""

Answers = dict[str, list[bool]]
"""Question -> answers about one picture: one, or one for each thing."""


@dataclass(frozen=True, kw_only=True)
class Postcard:
    """A scene of two things, told in words: all of it, and without the things."""

    claims: Claims
    things: tuple[GroupClaim, GroupClaim]
    """Left and right, one of each."""
    text: str
    scene_text: str
    image: NDArray[np.uint8]
    """The real render, size x size x 3."""


def main() -> None:
    """Draw, judge and print the table."""
    options = read_options()
    recipe = RECIPES[options.recipe]
    pipe = LatentDiffusionPipeline.from_pretrained(options.folder)
    pipe.set_progress_bar_config(disable=True)
    cards = postcards(recipe.world, stream=options.stream, size=recipe.size, count=options.prompts)
    drawn = draw_all(pipe, cards, options, size=recipe.size)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        np.savez(options.out / "regions.npz", **drawn)  # pyright: ignore[reportArgumentType]
        sheets.save_sheet(contact_sheet(cards, drawn, options.seeds), options.out / "regions.png")
    judge = Recogniser.load(options.judge)
    columns = {RENDERS: judged(cards, answers.read(judge, np.stack([card.image for card in cards])))}
    columns |= {way: judged(cards, answers.read(judge, pictures)) for way, pictures in drawn.items()}
    settings = pipe.generation_defaults
    print(
        f"{len(cards)} prompts of stream {options.stream} x {options.seeds} seeds,"
        f" {settings.num_inference_steps} steps, guidance {settings.guidance_scale:g}, weight"
        f" {options.weight:g}, phrases {options.phrases}, {machine()}. Percent right, 95 % limits in"
        f" brackets; p of a sign test over prompts against '{PLAIN}'.\n"
    )
    print(table(columns))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure regional prompting on postcards of two things.")
    parser.add_argument("folder", nargs="?", type=Path, default=MODELS / "postcards", help="pipeline folder")
    parser.add_argument("--judge", type=Path, default=MODELS / "judge", help="folder of the judge")
    parser.add_argument("--recipe", default="postcards128", choices=RECIPES, help="world and size")
    parser.add_argument("--prompts", type=int, default=48, help="postcards of two things")
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each")
    parser.add_argument("--boxes", nargs="+", default=[*BOXES], choices=BOXES, help="how large regions are")
    parser.add_argument("--weight", type=float, default=1.0, help="the regions' weight")
    parser.add_argument("--phrases", default="thing", choices=PHRASES, help="what a region's phrase tells")
    parser.add_argument("--stream", type=int, default=STREAM, help="stream of scenes")
    parser.add_argument("--out", type=Path, help="folder for the pictures and a contact sheet")
    options = parser.parse_args()
    if options.stream in (PROMPT_SEED, UMBRELLA_SEED):
        parser.error(f"--stream {options.stream}: scores are taken from it; choose another, such as {STREAM}")
    return options


def postcards(world: World, *, stream: int, size: int, count: int) -> list[Postcard]:
    """Find scenes with one thing on the left and one on the right, in two colors, all plain to see.

    Raises:
        ValueError: `world` hardly ever shows such a scene.
    """
    found: list[Postcard] = []
    indices = tqdm(range(SCENES_PER_PROMPT * count), unit="scene", desc="looking for scenes", leave=False)
    for index in indices:
        scene = sample_scene(stream, index, world)
        if not _has_two(scene):
            continue
        rendering = render(scene, size)
        sight = sight_from(rendering.visibility, weather_seen=rendering.weather_seen)
        if not (sight.weather_seen and all(sight.things_seen) and all(sight.colors_seen)):
            continue
        left, right = (
            GroupClaim(kind=group.kind, color=group.color, count=1, side=group.side)
            for group in sorted(scene.groups, key=lambda group: SIDE_CENTERS[group.side])
        )
        bare = Claims(city=scene.city, weather=scene.weather, time=scene.time)
        claims = replace(bare, things=(left, right))
        found.append(
            Postcard(
                claims=claims,
                things=(left, right),
                text=compose(claims, form="full", seed=index),
                scene_text=compose(bare, form="full", seed=index),
                image=rendering.image,
            )
        )
        if len(found) == count:
            return found
    raise ValueError(f"world: only {len(found)} of {count} postcards of two things found; ask for fewer.")


def _has_two(scene: Scene) -> bool:
    groups = scene.groups
    return (
        len(groups) == 2
        and all(group.named and group.count == 1 for group in groups)
        and {group.side for group in groups} == {"left", "right"}
        and groups[0].color != groups[1].color
    )


def half_box(thing: GroupClaim) -> tuple[float, float, float, float]:
    """Give a half of the picture, without the part where such a thing never is."""
    assert thing.side is not None
    left = 0.0 if thing.side == "left" else 0.5
    top, bottom = {"sky": (0.0, 0.6), "water": (0.4, 1.0), "ground": (0.4, 1.0)}[KINDS[thing.kind].place]
    return left, top, left + 0.5, bottom


def tight_box(thing: GroupClaim) -> tuple[float, float, float, float]:
    """Give the part of a side that such a thing can cover (`training/scenes/scene.py` places it)."""
    assert thing.side is not None
    kind, middle = KINDS[thing.kind], SIDE_CENTERS[thing.side] / 1000
    highest, lowest = {"sky": (0.33, 0.43), "water": (0.75, 0.79), "ground": (0.83, 0.96)}[kind.place]
    half = max(kind.width / 2000, 0.12) + 0.02
    middle = min(max(middle, half), 1 - half)
    return middle - half, max(0.0, highest - kind.height / 1000), middle + half, lowest


BOXES = {"halves": half_box, "tight": tight_box}


def thing_phrase(thing: GroupClaim, _: Postcard) -> str:
    """Tell the thing alone, e.g. "a red car"."""
    return with_article(f"{thing.color} {thing.kind}")


def sided_phrase(thing: GroupClaim, card: Postcard) -> str:
    """Tell the thing and its side, e.g. "a red car on the left"."""
    return f"{thing_phrase(thing, card)} on the {thing.side}"


def scene_phrase(thing: GroupClaim, card: Postcard) -> str:
    """Tell the thing, its side and the scene, as one caption."""
    return f"{sided_phrase(thing, card)}, {card.scene_text}"


PHRASES = {"thing": thing_phrase, "sided": sided_phrase, "scene": scene_phrase}


def draw_all(
    pipe: LatentDiffusionPipeline, cards: Sequence[Postcard], options: argparse.Namespace, *, size: int
) -> dict[str, Pictures]:
    """Draw every postcard at every seed in each way, prompt-major."""
    drawn: dict[str, list[NDArray[np.uint8]]] = {}
    for number, card in enumerate(tqdm(cards, unit="prompt", desc="drawing")):
        ways: dict[str, tuple[str, Any]] = {PLAIN: (card.text, None)}
        for boxes in options.boxes:
            regions = [
                (PHRASES[options.phrases](thing, card), BOXES[boxes](thing), options.weight)
                for thing in card.things
            ]
            ways[f"scene + {boxes}"] = card.scene_text, regions
            ways[f"{PLAIN} + {boxes}"] = card.text, regions
        for way, (text, areas) in ways.items():
            result = pipe(
                [text] * options.seeds,
                regions=areas,
                seed=[FIRST_SEED + SEED_STEP * number + k for k in range(options.seeds)],
                height=size,
                width=size,
            )
            assert not isinstance(result, tuple)
            drawn.setdefault(way, []).extend(np.asarray(picture) for picture in result.images)
    return {way: np.stack(pictures) for way, pictures in drawn.items()}


def judged(cards: Sequence[Postcard], reading: Reading) -> list[list[Answers]]:
    """Postcard -> picture -> what the judge confirms; `reading` is of as many pictures of each postcard."""
    pictures = len(reading.classes) // len(cards)
    repeated = [card for card in cards for _ in range(pictures)]
    scenes = answers.confirmed(reading, [replace(card.claims, things=()) for card in repeated])
    sides = [
        answers.confirmed(reading, [Claims(things=(card.things[side],)) for card in repeated])
        for side in (0, 1)
    ]
    swapped = [
        [reading.of(f"{card.things[side].kind}.color")[i] == card.things[1 - side].color for side in (0, 1)]
        for i, card in enumerate(repeated)
    ]
    found: list[Answers] = []
    for scene, left, right, mixed in zip(scenes, *sides, swapped, strict=True):
        each = {name: [left[name], right[name]] for name in ("present", "color", "side", "count")}
        bound = [all(side[name] for name in ("present", "color", "side")) for side in (left, right)]
        found.append(
            {
                **{name: [scene[name]] for name in ("city", "weather", "time")},
                **each,
                "mixed": mixed,
                "bound": bound,
                "both_present": [all(each["present"])],
                "both_bound": [all(bound)],
            }
        )
    return [found[i : i + pictures] for i in range(0, len(found), pictures)]


def table(columns: dict[str, list[list[Answers]]]) -> str:
    """Lay the shares out as a Markdown table, with tests against the plain prompt."""
    head = ["the judge confirms", *columns]
    rows = [head, ["---"] * len(head)]
    for question, words in QUESTIONS.items():
        row = [words]
        for way, column in columns.items():
            clusters = _clusters(column, question)
            told = percent(clustered_share(clusters))
            if way not in (RENDERS, PLAIN):
                told += f", p {sign_test(clusters, _clusters(columns[PLAIN], question)):.2g}"
            row.append(told)
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _clusters(column: list[list[Answers]], question: str) -> list[list[bool]]:
    return [[answer for picture in pictures for answer in picture[question]] for pictures in column]


def sign_test(mine: list[list[bool]], theirs: list[list[bool]]) -> float:
    """Two-sided p that a prompt has as often more right answers in one way as in the other."""
    pairs = [(sum(one), sum(other)) for one, other in zip(mine, theirs, strict=True)]
    return mcnemar(sum(one > other for one, other in pairs), sum(one < other for one, other in pairs))


def contact_sheet(cards: Sequence[Postcard], drawn: dict[str, Pictures], seeds: int) -> Image.Image:
    """Show the first seed of some postcards, evenly spread: a row for each way."""
    shown = min(SHEET_PROMPTS, len(cards))
    chosen = [len(cards) * i // shown for i in range(shown)]
    pictures = np.concatenate([pictures[::seeds][chosen] for pictures in drawn.values()])
    texts = [f"{way}: {cards[i].text if way == PLAIN else ''}" for way in drawn for i in chosen]
    return sheets.captioned_sheet(pictures, texts, columns=len(chosen))


if __name__ == "__main__":
    main()
