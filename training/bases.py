"""A name, a folder or a single file -> the model that fine-tuning starts from, with its facts.

Knows nothing of what is trained on it.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from ldm_pipeline.loading import load_pipeline
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.schedulers import is_flow
from training.targets import TRAIN_TIMESTEPS, Prediction

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}


@dataclass(frozen=True)
class Base:
    """A pipeline in float32 on the CPU, frozen, and what its network was taught to predict."""

    name: str
    pipeline: LatentDiffusionPipeline
    prediction: Prediction
    schedule: Tensor | None
    """alpha-bar of each timestep, [1000]; None for flow models."""

    @property
    def factor(self) -> int:
        """Pixels that sides of pictures must be multiples of: the VAE's and the UNet's halvings together.

        Of those of the UNet, which can do without, only so many that sides still come in eight sizes: wide
        steps would leave most shapes of small pictures out.
        """
        levels = len(self.pipeline.unet.config.block_out_channels)
        steps = [self.pipeline.vae_scale_factor * 2**halvings for halvings in range(levels)]
        return max([step for step in steps if 8 * step <= self.resolution], default=steps[0])

    @property
    def resolution(self) -> int:
        """Pixels of the side of the pictures that it draws by itself."""
        side = self.pipeline.generation_defaults.height
        return side or self.pipeline.vae_scale_factor * self.pipeline.unet.config.sample_size


def open_base(
    name: str | None, *, prediction: str | None = None, zero_terminal_snr: bool | None = None
) -> Base:
    """Open what `load_pipeline` opens: safetensors and stock components only.

    Args:
        name: None for the bundled model; a bundled model's name, a folder, a `.safetensors` file.
        prediction: "epsilon" or "v", for a single file of Stable Diffusion 2.x, which does not tell.
        zero_terminal_snr: train on a schedule that ends in pure noise (arXiv 2305.08891); None: as the base
            does. Previews and delivered folders then draw on it too.
    Raises:
        ValueError: it cannot be opened, lacks a part, or predicts what this training has no target for.
    """
    if prediction is not None:
        if name is None or not Path(name).is_file():
            raise ValueError(f"--prediction {prediction}: is for single files; a folder tells by itself.")
        kind = "v_prediction" if prediction == "v" else prediction
        pipeline = LatentDiffusionPipeline.from_single_file(name, prediction_type=kind, dtype=torch.float32)
    else:
        pipeline = load_pipeline(name, device="cpu", dtype="float32")
    shown = name or "the bundled model"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if getattr(pipeline, part) is None:
            raise ValueError(f"--base {shown}: has no {part}; choose a whole pipeline.")
    channels = (pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels)
    if channels[0] != channels[1]:
        raise ValueError(
            f"--base {shown}: its UNet reads {channels[0]} channels and its VAE gives {channels[1]}; "
            "UNets made for inpainting are not trained here: choose a text-to-image model."
        )
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        network.requires_grad_(False)
    _refuse_dropout(pipeline, shown)
    if is_flow(pipeline.scheduler):
        if zero_terminal_snr:
            raise ValueError(f"zero_terminal_snr=true: {shown} is a flow model, which ends in noise anyway.")
        return Base(shown, pipeline, "flow", None)
    return _diffusion_base(shown, pipeline, zero_terminal_snr=zero_terminal_snr)


def _diffusion_base(shown: str, pipeline: Any, *, zero_terminal_snr: bool | None) -> Base:
    config = pipeline.scheduler.config
    if config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise ValueError(
            f"--base {shown}: predicts {config['prediction_type']!r}; flow, epsilon and v can be trained."
        )
    kind = PREDICTIONS[config.get("prediction_type", "epsilon")]
    if config["num_train_timesteps"] != TRAIN_TIMESTEPS:
        raise ValueError(f"--base {shown}: has {config['num_train_timesteps']} timesteps, not 1000.")
    if zero_terminal_snr and kind == "epsilon":
        raise ValueError(
            f"zero_terminal_snr=true: {shown} predicts noise, which tells nothing where all is noise; "
            "it takes a base that predicts v."
        )
    zero = bool(config.get("rescale_betas_zero_snr")) if zero_terminal_snr is None else zero_terminal_snr
    noising = DDPMScheduler.from_config(config, rescale_betas_zero_snr=zero)
    if zero:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
        )
    assert isinstance(noising, DDPMScheduler)
    schedule = noising.alphas_cumprod.clone()
    assert math.isfinite(float(schedule.sum()))
    return Base(shown, pipeline, kind, schedule)


def _refuse_dropout(pipeline: Any, shown: str) -> None:
    """Dropout draws from the global random state, so that no run could be resumed exactly."""
    networks = (pipeline.unet, pipeline.text_encoder)
    layers = [layer for network in networks for layer in network.modules()]
    config = pipeline.text_encoder.config
    if (
        any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in layers)
        or config.attention_dropout
    ):
        raise ValueError(f"--base {shown}: has dropout in its networks; set it to 0 in their config.json.")
