"""How much a model draws that nobody asked for, by guidance scale: things where only a scene is named.

Run by hand: `python tests/benchmarks/unasked_things.py [FOLDER] [--prompts 192] [--scales 1 2 4 6]`. No test:
it asserts no score. It does not know how pictures are judged or intervals made: `training/evaluation` does.

The prompts are training's captions that happen to name no thing, of scenes with however many things in them;
so the renders of those scenes show what a model of the data should.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.judge import Reading, Recogniser
from ldm_pipeline.statistics import share
from ldm_pipeline.table_cells import percent
from training.evaluation import answers
from training.evaluation.prompts import BenchPrompt
from training.evaluation.report import machine
from training.recipes import RECIPES, Recipe
from training.scenes.caption import draw_caption
from training.scenes.claims import Sight, sight_from
from training.scenes.render import render
from training.scenes.scene import sample_scene

MODELS = Path(__file__).resolve().parents[2] / "ldm_pipeline" / "models"
STREAM, FIRST_SEED = 6, 30_000_000
"""Scenes, and the first picture's seed; no score is taken from either."""


def main() -> None:
    """Draw, judge and print the table."""
    options = read_options()
    recipe = RECIPES[options.recipe]
    pipe = LatentDiffusionPipeline.from_pretrained(options.folder)
    judge = Recogniser.load(options.judge)
    asked = scene_prompts(recipe, options.prompts)
    columns = {"real renders": np.stack([prompt.image for prompt in asked])}
    for scale in options.scales:
        columns[f"guidance {scale:g}"] = answers.draw(
            pipe,
            [prompt.text for prompt in asked],
            [FIRST_SEED + i for i in range(len(asked))],
            guidance=scale,
            size=recipe.size,
            title=f"guidance {scale:g}",
        )
    readings = {name: answers.read(judge, pictures) for name, pictures in columns.items()}
    print(f"{len(asked)} prompts of stream {STREAM}, {machine()}. Percent, 95 % limits in brackets.\n")
    print(table(readings, asked, kinds=recipe.world.kinds))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a model draws unasked, by guidance.")
    parser.add_argument("folder", nargs="?", type=Path, default=MODELS / "postcards", help="pipeline folder")
    parser.add_argument("--judge", type=Path, default=MODELS / "judge", help="folder of the judge")
    parser.add_argument("--recipe", default="postcards128", choices=RECIPES, help="world and size")
    parser.add_argument("--prompts", type=int, default=192, help="prompts, one picture each")
    parser.add_argument("--scales", type=float, nargs="+", default=(1.0, 2.0, 4.0, 6.0), help="guidance")
    return parser.parse_args()


def scene_prompts(recipe: Recipe, count: int) -> list[BenchPrompt]:
    """The first `count` scenes of the stream whose caption, as training draws them, names no thing."""
    prompts: list[BenchPrompt] = []
    for index in itertools.count():
        scene = sample_scene(STREAM, index, recipe.world)
        if draw_caption(scene, Sight.everything(scene), seed=FIRST_SEED).truth.things:
            continue  # most scenes, without drawing them
        drawn = render(scene, recipe.size)
        sight = sight_from(drawn.visibility, weather_seen=drawn.weather_seen)
        caption = draw_caption(scene, sight, seed=FIRST_SEED)
        if not caption.truth.things and caption.text:
            prompt = BenchPrompt(
                text=caption.text, claims=caption.truth, scene=scene, sight=sight, image=drawn.image
            )
            prompts.append(prompt)
        if len(prompts) == count:
            break
    return prompts


def table(readings: dict[str, Reading], asked: list[BenchPrompt], *, kinds: tuple[str, ...]) -> str:
    """Lay the answers out as a Markdown table: a row for each question, a column for each set of pictures."""
    rows: dict[str, list[str]] = {
        name: []
        for name in ("nothing is seen", "kinds of things a picture", "what is said of the scene is right")
    }
    for reading in readings.values():
        seen = np.array([answers.shows(reading, kind) for kind in kinds]).sum(axis=0)
        right = answers.confirmed(reading, [prompt.claims for prompt in asked])
        rows["nothing is seen"].append(percent(share((seen == 0).tolist())))
        rows["kinds of things a picture"].append(f"{seen.mean():.2f}")
        rows["what is said of the scene is right"].append(percent(share([one["all"] for one in right])))
    lines = [["the judge sees", *readings], ["---"] * (1 + len(readings))]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
