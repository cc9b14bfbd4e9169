"""What `negative_start` does to the bundled model: what goes, what appears, what else is lost, by value.

Run by hand: `python tests/benchmarks/negative_start.py [FOLDER] [--pairs 256] [--out DIR]`. No test: it
asserts no score. It does not know how pictures are judged or intervals made: `training/evaluation` does.

The pairs are the evaluation's (rainy prompts that name no umbrella, the same seed without and with
`negative_prompt="umbrella"`, a sham word as control), but from another stream of scenes and other seeds, so
that no value is chosen on what scores are taken from.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ldm_pipeline import LatentDiffusionPipeline
from ldm_pipeline.judge import Reading, Recogniser
from ldm_pipeline.statistics import Interval, Paired, paired, share
from ldm_pipeline.table_cells import percent
from training.evaluation import answers, prompts, sheets
from training.evaluation.answers import Pictures
from training.evaluation.prompts import PROMPT_SEED, UMBRELLA_SEED, BenchPrompt
from training.evaluation.report import NEGATIVE, machine, umbrella_report
from training.evaluation.results import Change
from training.recipes import RECIPES, Recipe

MODELS = Path(__file__).resolve().parents[2] / "ldm_pipeline" / "models"
VALUES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
STREAM, FIRST_SEED = 6, 20_000_000
"""Scenes, and the first pair's seed; the evaluation has 4 and 10,000,000."""
SHEET_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a negative prompt does at one value of `negative_start`."""

    negative: Change
    sham: Change
    sham_thing: Paired
    """The judge sees the sham word's own thing, without and with it as a negative prompt."""
    umbrella_from_first: Paired
    """The judge sees an umbrella with the negative prompt: at the first value, at this one."""
    thing_from_first: Paired
    """The judge sees the asked thing with the negative prompt: at the first value, at this one."""


def main() -> None:
    """Draw, judge and print the table."""
    options = read_options()
    recipe = RECIPES[options.recipe]
    pipe = LatentDiffusionPipeline.from_pretrained(options.folder)
    prompts.UMBRELLA_SEED = options.stream  # the scenes' stream is a constant of the evaluation
    rainy = prompts.umbrella_prompts(recipe.world, size=recipe.size, count=options.pairs)
    words = [prompts.sham_word(prompt, recipe.world) for prompt in rainy]
    drawn = draw_all(pipe, rainy, words, recipe=recipe, values=options.values)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        np.savez(options.out / "negative_start.npz", **drawn)  # pyright: ignore[reportArgumentType]
    judge = Recogniser.load(options.judge)
    read = {name: answers.read(judge, pictures) for name, pictures in drawn.items()}
    on_renders = answers.read(judge, np.stack([prompt.image for prompt in rainy]))
    effects = {
        value: effect(value, rainy, words, drawn, read, on_renders=on_renders, first=options.values[0])
        for value in options.values
    }
    if options.out is not None:
        sheet = contact_sheet(rainy, drawn, read, values=options.values)
        sheets.save_sheet(sheet, options.out / "negative_start.png")
    settings = pipe.generation_defaults
    print(
        f"{len(rainy)} pairs of stream {options.stream}, {settings.num_inference_steps} steps,"
        f" guidance {settings.guidance_scale:g}, {machine()}. Percent or points, 95 % limits in brackets.\n"
    )
    print(table(effects, steps=settings.num_inference_steps))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what negative_start does.")
    parser.add_argument("folder", nargs="?", type=Path, default=MODELS / "postcards", help="pipeline folder")
    parser.add_argument("--judge", type=Path, default=MODELS / "judge", help="folder of the judge")
    parser.add_argument("--recipe", default="postcards128", choices=RECIPES, help="world and size")
    parser.add_argument("--pairs", type=int, default=256, help="rainy prompts, one seed each")
    parser.add_argument("--values", type=float, nargs="+", default=VALUES, help="the first is compared with")
    parser.add_argument("--stream", type=int, default=STREAM, help="stream of scenes")
    parser.add_argument("--out", type=Path, help="folder for the pictures and a contact sheet")
    options = parser.parse_args()
    if options.stream in (PROMPT_SEED, UMBRELLA_SEED):
        parser.error(f"--stream {options.stream}: scores are taken from it; choose another, such as {STREAM}")
    return options


def draw_all(
    pipe: LatentDiffusionPipeline,
    rainy: Sequence[BenchPrompt],
    words: Sequence[str],
    *,
    recipe: Recipe,
    values: Sequence[float],
) -> dict[str, Pictures]:
    """Draw every pair without a negative prompt, and at each value with "umbrella" and with its sham word."""
    texts, seeds = [prompt.text for prompt in rainy], [FIRST_SEED + i for i in range(len(rainy))]
    defaults = pipe.generation_defaults
    drawn = {"without": answers.draw(pipe, texts, seeds, size=recipe.size, title="without")}
    for value in values:
        pipe.generation_defaults = replace(defaults, negative_start=value)
        for name, negatives in (("negative", [NEGATIVE] * len(rainy)), ("sham", words)):
            title = f"{name} {value}"
            drawn[title] = answers.draw(
                pipe, texts, seeds, negatives=negatives, size=recipe.size, title=title
            )
    pipe.generation_defaults = defaults
    return drawn


def effect(
    value: float,
    rainy: Sequence[BenchPrompt],
    words: Sequence[str],
    drawn: dict[str, Pictures],
    read: dict[str, Reading],
    *,
    on_renders: Reading,
    first: float,
) -> Effect:
    """Compare one value's pictures with those without a negative prompt and those of the first value."""
    names = {"without": "without", "negative": f"negative {value}", "sham": f"sham {value}"}
    report = umbrella_report(
        rainy,
        {short: read[name] for short, name in names.items()},
        {short: drawn[name] for short, name in names.items()},
        on_renders=on_renders,
        sham_words=words,
    )

    def own_thing(name: str) -> list[bool]:
        seen = {word: answers.shows(read[name], word) for word in set(words)}
        return [seen[word][i] for i, word in enumerate(words)]

    def asked_thing(name: str) -> list[bool]:
        right = answers.confirmed(read[name], [prompt.claims for prompt in rainy])
        return [row["present"] for row in right if "present" in row]

    before, after = f"negative {first}", names["negative"]
    return Effect(
        negative=report.negative,
        sham=report.sham,
        sham_thing=paired(own_thing("without"), own_thing(names["sham"])),
        umbrella_from_first=paired(
            answers.shows(read[before], NEGATIVE), answers.shows(read[after], NEGATIVE)
        ),
        thing_from_first=paired(asked_thing(before), asked_thing(after)),
    )


def table(effects: dict[float, Effect], *, steps: int) -> str:
    """Lay the effects out as a Markdown table: a row for each question, a column for each value."""
    one = next(iter(effects.values()))
    asked = one.negative.collateral
    rows: list[tuple[str, str, Callable[[Effect], str]]] = [
        (
            "umbrella: seen",
            percent(one.negative.umbrella.before),
            lambda e: percent(e.negative.umbrella.after),
        ),
        ("umbrella: change", "", lambda e: points(e.negative.umbrella)),
        ("umbrella: its rate falls by", "", lambda e: fall(e.negative.umbrella)),
        ("umbrella: induced where there was none", "", lambda e: induced(e.negative.umbrella)),
        ("umbrella: against the first value", "", lambda e: tested(e.umbrella_from_first)),
        (
            f"asked thing ({asked['present'].cases}): change",
            percent(asked["present"].before),
            lambda e: tested(e.negative.collateral["present"]),
        ),
        ("asked thing: against the first value", "", lambda e: tested(e.thing_from_first)),
        *(
            (f"asked {name}: change", percent(asked[name].before), _of_scene(name))
            for name in ("city", "weather", "time")
        ),
        ("sham: umbrella", percent(one.sham.umbrella.before), lambda e: tested(e.sham.umbrella)),
        (
            "sham: asked thing",
            percent(one.sham.collateral["present"].before),
            lambda e: tested(e.sham.collateral["present"]),
        ),
        ("sham: its own thing", percent(one.sham_thing.before), lambda e: tested(e.sham_thing)),
        ("sham: its own thing induced", "", lambda e: induced(e.sham_thing)),
        (
            "a pixel's change of 255, negative and sham",
            "",
            lambda e: f"{e.negative.pixels:.1f}, {e.sham.pixels:.1f}",
        ),
    ]
    head = ["the judge sees", "without", *(f"{v:g} ({delayed(v, steps)} of {steps} steps)" for v in effects)]
    body = [[words, before, *map(cell, effects.values())] for words, before, cell in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def delayed(value: float, steps: int) -> int:
    """Count the steps that see the empty prompt in the negative one's place."""
    return sum(step / steps < value for step in range(steps))


def points(change: Paired) -> str:
    """Word a change in points, e.g. "-13.7 (-18.5 to -9.4)"."""
    if change.change is None:
        return "-"
    return f"{100 * change.change:+.1f} ({_limits(change.change_interval, '+')})"


def tested(change: Paired) -> str:
    """Word a change in points with the p of McNemar's test."""
    return f"{points(change)}, p {change.p_value:.2g}"


def fall(change: Paired) -> str:
    """Word a relative fall, e.g. "80 % (63.0 to 88.7)"."""
    if change.fall is None or change.fall_interval is None:
        return "-"
    return f"{100 * change.fall:.0f} % ({_limits(change.fall_interval, '')})"


def induced(change: Paired) -> str:
    """Word how often a thing is seen after, of the pairs in which it is not seen before."""
    return percent(share([True] * change.only_after + [False] * change.neither))


def contact_sheet(
    rainy: Sequence[BenchPrompt],
    drawn: dict[str, Pictures],
    read: dict[str, Reading],
    *,
    values: Sequence[float],
) -> Image.Image:
    """Show pairs, those with an umbrella without a negative prompt first: a row for each value."""
    seen = answers.shows(read["without"], NEGATIVE)
    chosen = sorted(range(len(rainy)), key=lambda i: not seen[i])[:SHEET_PAIRS]
    rows = ["without", *(f"negative {value}" for value in values)]
    texts = [f"{row}: {rainy[i].text}" for row in rows for i in chosen]
    return sheets.captioned_sheet(
        np.concatenate([drawn[row][chosen] for row in rows]), texts, columns=len(chosen)
    )


def _of_scene(name: str) -> Callable[[Effect], str]:
    return lambda e: tested(e.negative.collateral[name])


def _limits(interval: Interval, sign: str) -> str:
    return f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"


if __name__ == "__main__":
    main()
