"""A runs folder of the smoke recipe as its trainings would leave it, with weights drawn from fixed seeds.

Knows nothing of what is tested with it. Nothing is trained, so it is written in a second.
"""

import json
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from tests import tiny
from training.checkpoint import save_checkpoint
from training.networks import build_unet, build_vae
from training.parts import KNOWN_WORDS, keep_parts
from training.recipes import SMOKE
from training.tokenizer import train_tokenizer, write_transformers_tokenizer
from training.unet import run_name

CAPTIONS = ("paris on a rainy day", "a red umbrella in cairo", "two dogs at night", "sunny paris, a blue dog")
STEPS = {"recogniser": 40, "vae": 40, "clip": 30, "unet": 40}
STARTED = 1_700_000_000.0
"""Unix seconds of the first log line; lines follow each other in `SECONDS_PER_LINE`."""
SECONDS_PER_LINE = 36.0


def write_runs(runs: Path, *, unet_seed: int = 3) -> Path:
    """Write logs of all parts, the UNet's checkpoint and the parts beside it; gives the recipe's folder."""
    folder = runs / SMOKE.name
    for part, steps in STEPS.items():
        write_log(folder / part, steps=steps)
    write_finished(runs / "finished")
    finished = runs / "finished"
    keep_parts(
        folder / run_name(SMOKE.unet) / "parts",
        vae=finished / "vae",
        text_encoder=finished / "text_encoder",
        tokenizer=finished / "tokenizer",
    )
    write_unet_checkpoint(folder / run_name(SMOKE.unet), seed=unet_seed)
    return folder


def write_finished(folder: Path) -> None:
    """Write a VAE, a text encoder and a tokenizer of the smoke recipe's shapes below `folder`."""
    vae = build_vae(SMOKE.vae.shape)
    tiny.randomize(vae, 2)
    vae.save_pretrained(folder / "vae")
    bpe = train_tokenizer(list(CAPTIONS) * 3, vocab_size=SMOKE.clip.vocab_size)
    write_transformers_tokenizer(bpe, folder / "tokenizer")
    words = sorted({word.strip(",") for caption in CAPTIONS for word in caption.split()})
    (folder / "tokenizer" / KNOWN_WORDS).write_text("".join(f"{word}\n" for word in words))
    config = CLIPTextConfig(
        vocab_size=bpe.vocabulary_size,
        hidden_size=SMOKE.clip.width,
        intermediate_size=4 * SMOKE.clip.width,
        num_hidden_layers=SMOKE.clip.layers,
        num_attention_heads=SMOKE.clip.heads,
        projection_dim=SMOKE.clip.width,
        hidden_act="gelu",
        bos_token_id=bpe.end - 1,
        eos_token_id=bpe.end,
        pad_token_id=bpe.end,
    )
    text_encoder = CLIPTextModel(config)
    tiny.randomize(text_encoder, 1)
    text_encoder.save_pretrained(folder / "text_encoder")


def write_unet_checkpoint(run_folder: Path, *, seed: int, step: int = STEPS["unet"]) -> None:
    """Write the averaged weights alone, under the names that the loop gives them."""
    width, channels = SMOKE.clip.width, SMOKE.vae.shape.latent_channels
    unet = build_unet(SMOKE.unet.shape, latent_channels=channels, text_width=width)
    tiny.randomize(unet, seed)
    tensors = {f"average.unet.{name}": weight.detach() for name, weight in unet.named_parameters()}
    # Other values, so that a reader who takes the raw weights is found out.
    tensors |= {
        name.replace("average.", "model.", 1): torch.zeros_like(value) for name, value in tensors.items()
    }
    save_checkpoint(run_folder, step=step, tensors=tensors, facts={"identity": "x", "average_steps": step})


def write_log(run_folder: Path, *, steps: int) -> None:
    """Write `metrics.jsonl`: a training line every ten steps, a held-out line halfway and at the end."""
    run_folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, float]] = []
    for step in range(10, steps + 1, 10):
        lines.append({"step": step, "train/loss": 1.0 / step})
        if step in (steps // 20 * 10, steps):
            lines.append({"step": step, "held_out/true": 5.0 / step, "held_out/empty": 6.0 / step})
    timed = [{"time": STARTED + SECONDS_PER_LINE * i, **line} for i, line in enumerate(lines)]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timed))
