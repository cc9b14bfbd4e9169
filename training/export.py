"""Joins the runs into one pipeline folder in the standard diffusers layout, with a model card.

Knows nothing of training; what it writes opens in `diffusers.StableDiffusionPipeline` too.
"""

import json
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from ldm_pipeline.folder import write_json, write_old_text_encoder_keys
from ldm_pipeline.judge import Recogniser
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.clip import KNOWN_WORDS
from training.loop import averaged_weights
from training.model_card import LEGS, write_model_card
from training.recipes import Recipe
from training.targets import matching_scheduler
from training.tokenizer import read_tokenizer
from training.unet import run_name, trained_unet

LARGEST_SHARD = "14MB"


def export_pipeline(
    recipe: Recipe, runs: Path, *, out: Path, base: Path | None = None, notes: Sequence[str] = ()
) -> Path:
    """Write fp16 safetensors, scheduler, tokenizer, defaults and model card to the folder `out`.

    Args:
        base: the pipeline folder that the UNet started warm from; its legs are carried on.
        notes: what the logs do not tell about this leg, for the model card.
    Raises:
        FileNotFoundError: a part is not trained yet.
        FileExistsError: `out` holds something else than a pipeline.
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
        json.dumps([*earlier, {**leg_facts(recipe, folder, step=step), "notes": list(notes)}], indent=1)
        + "\n"
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


def leg_facts(recipe: Recipe, folder: Path, *, step: int) -> dict[str, Any]:
    """Steps, hours and held-out scores of each part, and the UNet's learning curve, from the runs' logs."""
    unet_run = run_name(recipe.unet)
    parts: dict[str, dict[str, Any]] = {}
    curve: list[list[float]] = []
    for part in ("recogniser", "vae", "clip", unet_run):
        lines = [json.loads(line) for line in (folder / part / "metrics.jsonl").read_text().splitlines()]
        scored = [line for line in lines if any(name.startswith("held_out/") for name in line)]
        parts[part] = {
            "steps": lines[-1]["step"],
            "hours": round(_busy_seconds([line["time"] for line in lines]) / 3600, 2),
            "held_out": {k.removeprefix("held_out/"): v for k, v in scored[-1].items() if "/" in k},
        }
        if part == unet_run:
            curve = [
                [
                    line["step"],
                    unet_samples(recipe, line["step"]),
                    line["held_out/true"],
                    line["held_out/empty"],
                ]
                for line in scored
            ]
    return {
        "date": date.today().isoformat(),
        "recipe": recipe.name,
        "unet_samples": unet_samples(recipe, step),
        "parts": parts,
        "curve": curve,
    }


def _busy_seconds(times: list[float]) -> float:
    """Wall-clock seconds between log lines, leaving out gaps of over ten minutes between sessions."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return sum(gap for gap in gaps if 0 < gap < 600)


def unet_samples(recipe: Recipe, step: int) -> int:
    """Pictures that the UNet has seen after `step` steps, those of half size included."""
    half = min(step, recipe.unet.half_size_steps)
    return half * recipe.unet.half_size_batch + (step - half) * recipe.unet.fit.batch_size
