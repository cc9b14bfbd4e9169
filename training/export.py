"""Joins the runs into one pipeline folder in the standard diffusers layout, with a model card.

Knows nothing of training; what it writes opens in `diffusers.StableDiffusionPipeline` too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ldm_pipeline.judge import WEIGHTS, Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.folders import deliver
from training.loop import averaged_weights
from training.model_card import write_model_card
from training.parts import LEGS, load_parts, write_known_words
from training.recipes import RECIPES, Recipe
from training.settings import differences
from training.targets import matching_scheduler
from training.unet import run_name, trained_text_encoder, trained_unet

LARGEST_SHARD = "14MB"


def export_pipeline(recipe: Recipe, runs: Path, *, out: Path, notes: Sequence[str] = ()) -> Path:
    """Write fp16 safetensors, scheduler, tokenizer, defaults and model card to the folder `out`.

    What lies there already is replaced once the new folder is whole.

    Args:
        notes: what the logs do not tell about this leg, for the model card.
    Raises:
        FileNotFoundError: a part is not trained yet.
        FileExistsError: `out` holds something else than a pipeline.
    """
    if _holds_something_else(out, "model_index.json"):
        raise FileExistsError(
            f"--out {out}: holds something else than a pipeline folder; choose an empty one."
        )
    run_folder = runs / recipe.name / run_name(recipe.unet)
    parts = load_parts(run_folder / "parts")
    earlier = json.loads(parts.earlier_legs.read_text()) if parts.earlier_legs else []
    _, step = averaged_weights(run_folder)
    unet = trained_unet(
        recipe.unet,
        run_folder,
        latent_channels=parts.vae.config["latent_channels"],
        text_width=parts.text_encoder.config.hidden_size,
    )
    pipe = LatentDiffusionPipeline(
        vae=parts.vae,
        text_encoder=trained_text_encoder(recipe.unet, run_folder, parts.text_encoder),
        tokenizer=parts.tokenizer.transformers,
        unet=unet,
        scheduler=matching_scheduler(recipe.unet.prediction),
    ).to(torch.float16)
    pipe.generation_defaults = replace(recipe.sampling, height=recipe.size, width=recipe.size)
    leg = leg_facts(recipe, runs / recipe.name, step=step, warm=bool(earlier), own_runs=parts.own_runs)

    def write(folder: Path) -> None:
        pipe.save_pretrained(folder, safe_serialization=True, max_shard_size=LARGEST_SHARD)
        write_known_words(folder / "tokenizer", recipe.world)
        (folder / LEGS).write_text(json.dumps([*earlier, {**leg, "notes": list(notes)}], indent=1) + "\n")
        write_model_card(recipe, folder, name=out.name)

    deliver(out, write)
    return out


def export_judge(recipe: Recipe, runs: Path, *, out: Path) -> Path:
    """Copy recogniser 2's fp16 weights and config to `out`, in place of a judge that lies there.

    Raises:
        FileNotFoundError: it is not trained yet.
        FileExistsError: `out` holds something else than a judge.
    """
    if _holds_something_else(out, WEIGHTS):
        raise FileExistsError(f"--judge-out {out}: holds something else than a judge; choose an empty one.")
    deliver(out, Recogniser.load(runs / recipe.name / "judge" / "final").save)
    return out


def _holds_something_else(folder: Path, mark: str) -> bool:
    return folder.exists() and any(folder.iterdir()) and not (folder / mark).exists()


def leg_facts(
    recipe: Recipe,
    folder: Path,
    *,
    step: int,
    warm: bool,
    own_runs: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Steps, hours and held-out scores of each part, and the UNet's learning curve, from the runs' logs.

    A warm leg trains nothing but the UNet, perhaps after `own_runs` of VAE and text encoder, and sees no
    pictures of half size.
    """
    unet_run = run_name(recipe.unet)
    settings = differences(RECIPES[recipe.name], recipe)
    if warm:
        recipe = replace(recipe, unet=replace(recipe.unet, half_size_steps=0))
    parts: dict[str, dict[str, Any]] = dict(own_runs)
    for part in (unet_run,) if warm else ("recogniser", "vae", "clip", unet_run):
        parts[part] = part_facts(folder / part)
    curve = [
        [line["step"], unet_samples(recipe, line["step"]), line["held_out/true"], line["held_out/empty"]]
        for line in _scored(_log(folder / unet_run))
    ]
    return {
        "date": date.today().isoformat(),
        "recipe": recipe.name,
        "settings": settings,
        "warm": warm,
        "unet_samples": unet_samples(recipe, step),
        "parts": parts,
        "curve": curve,
    }


def part_facts(folder: Path) -> dict[str, Any]:
    """Steps, hours and last held-out scores of one run, from its log."""
    lines = _log(folder)
    scored = _scored(lines)
    return {
        "steps": lines[-1]["step"],
        "hours": round(_busy_seconds([line["time"] for line in lines]) / 3600, 2),
        "held_out": {k.removeprefix("held_out/"): v for k, v in scored[-1].items() if "/" in k}
        if scored
        else {},
    }


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _scored(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if any(name.startswith("held_out/") for name in line)]


def _busy_seconds(times: list[float]) -> float:
    """Wall-clock seconds between log lines, leaving out gaps of over ten minutes between sessions."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return sum(gap for gap in gaps if 0 < gap < 600)


def unet_samples(recipe: Recipe, step: int) -> int:
    """Pictures that the UNet has seen after `step` steps, those of half size included."""
    half = min(step, recipe.unet.half_size_steps)
    return half * recipe.unet.half_size_batch + (step - half) * recipe.unet.fit.batch_size
