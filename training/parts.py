"""The finished parts that a UNet is trained on, kept in its run folder, so that they can never be mixed up.

Knows nothing of how they were trained. A UNet is worth nothing without the VAE and text encoder that it saw.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from training.folders import deliver
from training.scenes.phrases import vocabulary
from training.scenes.world import World
from training.tokenizer import Bpe, read_tokenizer

KNOWN_WORDS = "known_words.txt"
LEGS = "training_legs.json"
"""Beside the weights: every leg that went into a pipeline folder, oldest first."""
OWN_RUNS = {"vae": "vae_run.json", "text": "text_run.json"}
"""Among kept parts: steps, hours and scores of a warm leg's own run of the VAE and of the text encoder."""


@dataclass(frozen=True)
class Parts:
    """What stands between pictures or captions and the UNet, in fp32 and frozen."""

    folder: Path
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: Bpe

    @property
    def earlier_legs(self) -> Path | None:
        """The legs of the pipeline that this one started warm from."""
        path = self.folder / LEGS
        return path if path.is_file() else None

    @property
    def own_runs(self) -> dict[str, dict[str, Any]]:
        """What is known of the runs that taught a warm leg's VAE ("vae") and text encoder ("text")."""
        paths = {part: self.folder / name for part, name in OWN_RUNS.items()}
        return {part: json.loads(path.read_text()) for part, path in paths.items() if path.is_file()}


def write_known_words(tokenizer: Path, world: World) -> None:
    """Write the words that captions of `world` can hold into a tokenizer's folder, one a line."""
    (tokenizer / KNOWN_WORDS).write_text("".join(f"{word}\n" for word in vocabulary(world)), encoding="utf-8")


def keep_parts(
    folder: Path,
    *,
    vae: Path,
    text_encoder: Path,
    tokenizer: Path,
    legs: Path | None = None,
    own_runs: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> None:
    """Copy the parts to `folder`, whole or not at all; where some lie there already, they stay.

    `own_runs`: as in `Parts.own_runs`.
    """

    def copy(new: Path) -> None:
        new.mkdir(parents=True)
        for name, source in (("vae", vae), ("text_encoder", text_encoder), ("tokenizer", tokenizer)):
            shutil.copytree(source, new / name)
        if legs is not None:
            shutil.copy(legs, new / LEGS)
        for part, facts in own_runs.items():
            (new / OWN_RUNS[part]).write_text(json.dumps(facts, indent=1))

    if not folder.is_dir():
        deliver(folder, copy)


def load_parts(folder: Path) -> Parts:
    """Open what `keep_parts` copied.

    Raises:
        FileNotFoundError: nothing was kept there; the UNet has not been started.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; run `python -m training unet` with this recipe first.")
    vae = AutoencoderKL.from_pretrained(
        folder / "vae", use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
    )
    return Parts(
        folder=folder,
        vae=vae.eval().requires_grad_(False),
        text_encoder=load_text_encoder(folder / "text_encoder"),
        tokenizer=read_tokenizer(folder / "tokenizer"),
    )


def load_text_encoder(folder: Path) -> CLIPTextModel:
    """In fp32 and frozen."""
    encoder = CLIPTextModel.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
    )
    return encoder.eval().requires_grad_(False)
