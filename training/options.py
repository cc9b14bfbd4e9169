"""What the words of a command line stand for: recipe, folders, sets of postcards, and the accelerator.

Knows nothing of their spelling (`__main__.py`) or of what the parts do (`commands.py`).
"""

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from training import unet as unet_run
from training.data.postcards import PostcardConfig, Postcards, render_postcards
from training.loop import FitConfig
from training.processes import OTHER_WAY
from training.recipes import RECIPES, Recipe
from training.settings import adjusted

HELD_OUT_SEED = 2
"""Stream of the scenes that validation sees."""
JUDGE_STREAMS = {"judge": 201, "second_judge": 202}
"""Streams of scenes that judges are trained on."""
JUDGING_SEEDS = range(2, 100)
"""Streams that no training draws from: validation's, evaluation's and those of judges to come."""

Options = argparse.Namespace


def chosen_recipe(options: Options) -> Recipe:
    """The named recipe with what `--set` says.

    Raises ValueError if there is no such recipe (its message lists them), field or value.
    """
    if options.recipe not in RECIPES:
        raise ValueError(f"--recipe {options.recipe}: unknown; choose from {', '.join(RECIPES)}.")
    recipe = adjusted(RECIPES[options.recipe], options.set)
    if recipe.name != options.recipe:
        raise ValueError(f"--set name={recipe.name}: a recipe keeps its name; choose another --runs folder.")
    return recipe


def chosen_unet(recipe: Recipe, options: Options) -> unet_run.UNetRun:
    return replace(recipe.unet, prediction=options.prediction) if options.prediction else recipe.unet


def with_steps(fit: FitConfig, options: Options) -> FitConfig:
    if options.steps is None:
        return fit
    if options.steps < 1:
        raise ValueError(f"--steps {options.steps}: must be at least 1.")
    return replace(fit, total_steps=options.steps)


def runs_folder(options: Options) -> Path:
    return options.runs / options.recipe


def training_stream(recipe: Recipe) -> int:
    """The stream of the training scenes; ValueError if it is one for judging."""
    if recipe.scene_seed < 0 or recipe.scene_seed in JUDGING_SEEDS:
        raise ValueError(
            f"--set scene_seed={recipe.scene_seed}: streams {JUDGING_SEEDS.start} to "
            f"{JUDGING_SEEDS.stop - 1} are for judging only; choose 0, 1 or from {JUDGING_SEEDS.stop}."
        )
    return recipe.scene_seed


def training_postcards(options: Options) -> Postcards:
    recipe = chosen_recipe(options)
    config = PostcardConfig(
        world=recipe.world, seed=training_stream(recipe), count=recipe.pictures, size=recipe.size
    )
    return render_postcards(config, options.runs / "data")


def judge_postcards(options: Options) -> tuple[Postcards, Postcards]:
    """What the judge that `options.part` names is trained and scored on."""
    recipe = chosen_recipe(options)
    config = PostcardConfig(
        world=recipe.judged_world,
        seed=JUDGE_STREAMS[options.part],
        count=recipe.judged_pictures,
        size=recipe.size,
    )
    held_out = replace(
        config, seed=HELD_OUT_SEED, count=max(recipe.held_out_pictures, recipe.judged_pictures // 15)
    )
    root = options.runs / "data"
    return render_postcards(config, root), render_postcards(held_out, root)


def held_out_postcards(options: Options) -> Postcards:
    recipe = chosen_recipe(options)
    config = PostcardConfig(
        world=recipe.world, seed=HELD_OUT_SEED, count=recipe.held_out_pictures, size=recipe.size
    )
    return render_postcards(config, options.runs / "data")


def finished(folder: Path, part: str) -> Path:
    """Raises FileNotFoundError that names the command if the part is not trained."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing; run `python -m training {part}` with this recipe first."
        )
    return folder


def based_on(folder: Path) -> Path:
    """Raises FileNotFoundError unless `folder`, of `--init-from`, is a pipeline's."""
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"--init-from {folder}: no model_index.json there; name a pipeline folder.")
    return folder


def accelerator_of(options: Options) -> Accelerator:
    """On CUDA where it is found; in the chosen precision, or that of `accelerate launch`, or bf16.

    Raises:
        ValueError: fp16 or FSDP on a CPU, FSDP for another part than fine-tuning, or DeepSpeed.
    """
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    precision = options.precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or "bf16"
    cuda = torch.cuda.is_available()
    if precision not in ("bf16", "fp16", "no"):
        raise ValueError(f"mixed precision {precision}: unknown here; choose --precision bf16 or no.")
    if precision == "fp16" and not cuda:
        raise ValueError("mixed precision fp16: runs on CUDA only; choose --precision bf16 or no.")
    if _launched_with("DEEPSPEED"):
        raise ValueError(f"accelerate launch with DeepSpeed: its state is not saved here; {OTHER_WAY}")
    if _launched_with("FSDP"):
        if not cuda:
            raise ValueError(
                "accelerate launch with FSDP on a CPU: it would start unconnected copies; use a GPU, or "
                "torchrun without FSDP."
            )
        if options.part != "finetune":
            raise ValueError(
                f"accelerate launch with FSDP: {options.part} looks at whole networks on the way; "
                "launch it without FSDP."
            )
    return Accelerator(mixed_precision=precision, cpu=not cuda)


def _launched_with(engine: str) -> bool:
    """Whether `accelerate launch` was told to use it."""
    return os.environ.get(f"ACCELERATE_USE_{engine}", "false").lower() == "true"
