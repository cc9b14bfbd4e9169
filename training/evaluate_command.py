"""`python -m training evaluate` and `audit`: which judges, which pictures, and where the results go.

Knows nothing of arguments' spelling (`__main__.py`) or of how anything is measured.
"""

import json
from pathlib import Path

from ldm_pipeline.folder import MODELS, bundled_folder
from training.data.postcards import PostcardConfig
from training.evaluation.audit import audit_folder
from training.evaluation.checks import Checks
from training.evaluation.report import evaluate_folder
from training.model_card import adopt_report
from training.options import HELD_OUT_SEED, Options, chosen_recipe, runs_folder
from training.parts import LEGS
from training.recipes import RECIPES, Recipe
from training.settings import adjusted

OF_SCENES = ("scene_seed=", "pictures=", "world.")
"""How settings begin that decide which pictures a leg was trained on."""


def evaluate(options: Options) -> None:
    recipe = chosen_recipe(options)
    out = options.out or runs_folder(options) / "report"
    judge, second_judge = chosen_judge(options), chosen_second_judge(options)
    print(f"judge: {judge}, second judge: {second_judge or 'none'}")
    checks = Checks(
        second_judge=second_judge,
        exam=options.exam,
        judged_world=recipe.judged_world,
        distances=options.distances,
        copying=options.copying,
        training=training_sets(options.model, recipe),
        held_out=PostcardConfig(
            world=recipe.world, seed=HELD_OUT_SEED, count=recipe.held_out_pictures, size=recipe.size
        ),
        diversity=options.diversity,
        curves=options.curves,
    )
    report = evaluate_folder(
        options.model,
        world=recipe.world,
        size=recipe.size,
        recipe=recipe.name,
        judge_folder=judge,
        out=out,
        prompts=options.prompts,
        pairs=options.pairs,
        tasks=options.tasks,
        dtype=options.dtype,
        lora=options.lora,
        steps=options.num_inference_steps,
        checks=checks,
    )
    as_it_is = options.lora is None and options.num_inference_steps is None
    if as_it_is and (options.model / LEGS).is_file():
        adopt_report(recipe, options.model, out, name=options.model.resolve().name)
    if report.tasks:
        print(f"{report.readme_table()}\n")
    print(f"{report.score_table()}\n{out / 'report.md'} has the rest.")


def audit(options: Options) -> None:
    recipe = chosen_recipe(options)
    out = options.out or runs_folder(options) / "audit"
    report = audit_folder(
        options.model,
        world=recipe.world,
        size=recipe.size,
        recipe=recipe.name,
        judge_folder=chosen_judge(options),
        out=out,
        prompts=options.prompts,
        seeds_per_prompt=options.seeds,
        cells=tuple(options.cell),
    )
    print(f"{report.summary()}\n{out / 'audit.md'} has the rest.")


def chosen_judge(options: Options) -> Path:
    """The judge that is named, or that the recipe's runs have trained, or, with neither, the bundled one."""
    own = runs_folder(options) / "judge" / "final"
    return options.judge or (own if own.is_dir() else bundled_folder("judge"))


def chosen_second_judge(options: Options) -> Path | None:
    """The second judge that is named, or trained, or bundled; None without any, or if it is not wanted."""
    if options.no_second_judge:
        return None
    own, bundled = runs_folder(options) / "second_judge" / "final", MODELS / "second_judge"
    return options.second_judge or next((folder for folder in (own, bundled) if folder.is_dir()), None)


def training_sets(model: Path, recipe: Recipe) -> tuple[PostcardConfig, ...]:
    """The pictures that the legs of `model` were trained on, at the recipe's size; without legs its own."""
    legs = json.loads((model / LEGS).read_text()) if (model / LEGS).is_file() else []
    told = [
        adjusted(RECIPES[leg["recipe"]], [text for text in leg["settings"] if text.startswith(OF_SCENES)])
        for leg in legs
        if leg["recipe"] in RECIPES
    ]
    sets = [
        PostcardConfig(world=one.world, seed=one.scene_seed, count=one.pictures, size=recipe.size)
        for one in told or [recipe]
    ]
    return tuple(dict.fromkeys(sets))


COMMANDS = {"evaluate": evaluate, "audit": audit}
