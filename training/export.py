"""Joins the runs into one pipeline folder in the standard diffusers layout, with a model card.

Knows nothing of training; what it writes opens in `diffusers.StableDiffusionPipeline` too.
"""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from ldm_pipeline.folder import model_hash, write_json, write_old_text_encoder_keys
from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.clip import KNOWN_WORDS
from training.loop import averaged_weights
from training.recipes import Recipe
from training.targets import matching_scheduler
from training.tokenizer import read_tokenizer
from training.unet import run_name, trained_unet

LARGEST_SHARD = "14MB"
LEGS = "training_legs.json"
"""Beside the weights: every leg that went into them, oldest first."""


def export_pipeline(
    recipe: Recipe, runs: Path, *, out: Path, base: Path | None = None
) -> Path:
    """Write fp16 safetensors, scheduler, tokenizer, defaults and model card to `out`.

    Args:
        base: the pipeline folder that the UNet started warm from; its legs are carried on.
    Raises:
        FileNotFoundError: a part is not trained yet. FileExistsError: `out` holds something else than a pipeline.
    """
    if out.exists() and any(out.iterdir()) and not (out / "model_index.json").exists():
        raise FileExistsError(
            f"--out {out}: holds something else than a pipeline folder; choose an empty one."
        )
    folder, unet_run = runs / recipe.name, run_name(recipe.unet)
    _, step = averaged_weights(folder / unet_run)
    earlier = json.loads((base / LEGS).read_text()) if base else []
    tokenizer_folder = folder / "clip" / "final" / "tokenizer"
    vae = AutoencoderKL.from_pretrained(folder / "vae" / "final", use_safetensors=True)
    text_encoder = CLIPTextModel.from_pretrained(
        folder / "clip" / "final" / "text_encoder", use_safetensors=True
    )
    unet = trained_unet(
        recipe.unet, folder / unet_run, latent_channels=vae.config["latent_channels"],
        text_width=text_encoder.config.hidden_size,
    )  # fmt: skip
    pipe = LatentDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=read_tokenizer(tokenizer_folder).transformers,
        unet=unet,
        scheduler=matching_scheduler(recipe.unet.prediction),
    ).to(torch.float16)
    shutil.rmtree(out, ignore_errors=True)
    pipe.save_pretrained(out, safe_serialization=True, max_shard_size=LARGEST_SHARD)
    write_old_text_encoder_keys(out)
    shutil.copy(tokenizer_folder / KNOWN_WORDS, out / "tokenizer" / KNOWN_WORDS)
    write_json(out / "generation_defaults.json", generation_defaults(recipe))
    (out / LEGS).write_text(
        json.dumps([*earlier, leg_facts(recipe, folder, unet_run, step)], indent=1) + "\n"
    )
    write_model_card(recipe, out)
    return out


def export_judge(recipe: Recipe, runs: Path, *, out: Path) -> Path:
    """Copy recogniser 2's fp16 weights and config to `out`."""
    Recogniser.load(runs / recipe.name / "judge" / "final").save(out)
    return out


def generation_defaults(recipe: Recipe) -> dict[str, Any]:
    """What `pipe(prompt)` uses when a setting is not given."""
    return {
        "num_inference_steps": 14,
        "guidance_scale": 4.0,
        "height": recipe.size,
        "width": recipe.size,
    }


def leg_facts(recipe: Recipe, folder: Path, unet_run: str, step: int) -> dict[str, Any]:
    """Samples seen and hours of each part, from the runs' own logs."""
    parts = {}
    for part in ("recogniser", "vae", "clip", unet_run):
        lines = [json.loads(line) for line in (folder / part / "metrics.jsonl").read_text().splitlines()]
        timed = [line for line in lines if "samples_per_second" in line]
        parts[part] = {
            "steps": lines[-1]["step"],
            "hours": round(_busy_seconds([line["time"] for line in lines]) / 3600, 2),
            "samples_per_second": round(timed[-1]["samples_per_second"], 1) if timed else None,
        }
    samples = _unet_samples(recipe, step)
    return {"date": date.today().isoformat(), "recipe": recipe.name, "unet_samples": samples, "parts": parts}


def _busy_seconds(times: list[float]) -> float:
    """Wall-clock seconds between log lines, leaving out gaps of over ten minutes between sessions."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return sum(gap for gap in gaps if 0 < gap < 600)


def _unet_samples(recipe: Recipe, step: int) -> int:
    half = min(step, recipe.unet.half_size_steps)
    return half * recipe.unet.half_size_batch + (step - half) * recipe.unet.fit.batch_size


def write_model_card(recipe: Recipe, out: Path) -> None:
    """Write `README.md`: data, recipe, legs, measured scores and limits. Scores come from `report.json` beside it."""
    world = recipe.world
    legs = json.loads((out / LEGS).read_text())
    report = out / "report.md"
    scores = (
        report.read_text() if report.exists() else "Not evaluated yet: run `python -m training evaluate`.\n"
    )
    sizes = {
        part: sum(f.stat().st_size for f in (out / part).glob("*.safetensors")) / 1e6
        for part in ("unet", "vae", "text_encoder")
    }
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        "---",
        f"# {out.name}: postcards, trained from nothing",
        "",
        "Draws small postcards of cities in all weathers. Every weight was trained by this repository's own commands",
        "on pictures that it renders itself (`training/scenes/`), so there is no third-party data and no licence to ask.",
        "",
        "## What it knows",
        "",
        f"- cities: {', '.join(world.cities)}",
        f"- weathers: {', '.join(world.weathers)}; times: {', '.join(world.times)}; styles: {', '.join(world.styles)}",
        f"- things: {', '.join(world.kinds)} in {', '.join(world.colors)}; one to four of a kind; left, center, right",
        "- dogs and cats may wear a beret, a scarf or a turtleneck",
        "- one style and a part of the world only where the lists above say so; other words draw a warning.",
        "",
        "Held out of training, to test composition: see `HELD_OUT_*` in `training/scenes/world.py`.",
        "In about 60 % of rainy scenes somebody carries an umbrella that the caption does not name"
        " (`CORRELATIONS` in the same file lists every built-in correlation).",
        "",
        "## Parts",
        "",
        "| part | class | MB (fp16) |",
        "| --- | --- | --- |",
        f"| unet | UNet2DConditionModel {recipe.unet.shape.channels} | {sizes['unet']:.1f} |",
        f"| vae | AutoencoderKL {recipe.vae.shape.channels}, f8, {recipe.vae.shape.latent_channels} channels "
        f"| {sizes['vae']:.1f} |",
        f"| text_encoder | CLIPTextModel, width {recipe.clip.width}, {recipe.clip.layers} layers "
        f"| {sizes['text_encoder']:.1f} |",
        "",
        f"Weights' content hash: `{model_hash(out)}`",
        "",
        "## How it was trained",
        "",
        f"Recipe `{recipe.name}`, prediction `{recipe.unet.prediction}`, {recipe.pictures:,} pictures of "
        f"{recipe.size} px. To train it again:",
        "",
        "```",
        *(
            f"python -m training {part} --recipe {recipe.name}"
            for part in ("recogniser", "vae", "clip", "unet")
        ),
        f"python -m training export --recipe {recipe.name} --out FOLDER",
        "```",
        "",
        "| leg | date | UNet samples | part: steps, hours |",
        "| --- | --- | --- | --- |",
        *(
            f"| {n} | {leg['date']} | {leg['unet_samples']:,} | "
            + "; ".join(
                f"{part}: {facts['steps']:,}, {facts['hours']}" for part, facts in leg["parts"].items()
            )
            + " |"
            for n, leg in enumerate(legs, 1)
        ),
        "",
        "## Scores",
        "",
        scores.rstrip(),
        "",
        "## Limits",
        "",
        "It knows nothing beyond the lists above: no people but umbrella carriers, no text, no faces, no photographs.",
        "Its pictures are drawings made by a computer; say so where you show them.",
        "",
    ]
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")
