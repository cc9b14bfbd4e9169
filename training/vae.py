"""Run 1: the VAE that takes pictures to latents and back, with its latent statistics folded into the weights.

Knows nothing of captions or diffusion.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_pipeline.judge import Recogniser
from training.data.cache import content_key
from training.data.postcards import Postcards
from training.draws import generator, samples_at
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.networks import VAE_FACTOR, VaeShape, build_vae
from training.pictures import picture_tensor

FOLDED_SCALING_FACTOR = 0.18215
"""Stable Diffusion's; single-file loaders and other tools fall back to it, so we make it exact."""


@dataclass(frozen=True, kw_only=True)
class VaeRun:
    """One VAE: its shape, its losses and its training."""

    fit: FitConfig
    shape: VaeShape = VaeShape()
    seed: int = 2
    crop: int = 64
    """Pixels of the square crops that most steps see."""
    whole_every: int = 8
    """Every so manieth step sees whole pictures (a quarter as many), for the picture's scale."""
    gradient_weight: float = 0.7
    """Of the L1 distance of horizontal and vertical differences, at two scales."""
    color_weight: float = 1.0
    """Of the distance of cells' mean colors. Without it purple things stayed blue and black ones dark green
    after some 80 k crops: they are few, and plain L1 weighs them by their area."""
    probe_weight: float = 1.0
    """Of the distance of each latent cell's mean color read linearly from its latent: a short way for the
    gradient that teaches the encoder colors long before the deep decoder can use them. Of the things' colors
    recogniser 1 read 0.52 after the VAE with `color_weight` alone, 0.68 after 500 more steps with both
    (0.72 before the VAE)."""
    feature_weight: float = 0.15
    """Of the distance of recogniser 1's activations."""
    kl_weight: float = 1e-6


class VaeObjective(nn.Module):
    """L1 + differences + recogniser features + KL (arXiv 1312.6114; arXiv 2112.10752, eq. 25)."""

    def __init__(self, vae: AutoencoderKL, recogniser: Recogniser, run: VaeRun):
        super().__init__()
        self.vae, self.run = vae, run
        self.recogniser = recogniser.requires_grad_(False)
        # torch would draw initial weights, which are overwritten here, from its global random state.
        self.probe = nn.utils.skip_init(nn.Conv2d, run.shape.latent_channels, 3, 1)
        nn.init.zeros_(self.probe.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.probe.bias)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        pictures = batch["pictures"]
        posterior = self.vae.encode(pictures).latent_dist  # type: ignore[union-attr]
        latents = posterior.mean + posterior.std * batch["noise"]
        decoded = self.vae.decode(latents).sample.float()  # type: ignore[union-attr]
        pixel = F.l1_loss(decoded, pictures)
        gradient = gradient_distance(decoded, pictures)
        color = color_distance(decoded, pictures)
        probe = color_distance(self.probe(latents).float(), F.avg_pool2d(pictures, VAE_FACTOR), cell=1)
        features = self._feature_distance(decoded, pictures)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        run = self.run
        loss = pixel + run.gradient_weight * gradient + run.color_weight * color
        loss = loss + run.probe_weight * probe + run.feature_weight * features + run.kl_weight * kl
        losses = {
            "pixel": pixel,
            "gradient": gradient,
            "color": color,
            "probe": probe,
            "features": features,
            "kl": kl,
        }
        return {"loss": loss, **losses}

    def _feature_distance(self, decoded: Tensor, pictures: Tensor) -> Tensor:
        """Mean over the first three stages of the L1 distance relative to the activations' own size."""
        with torch.no_grad():
            wanted = self.recogniser.features(pictures)[:3]
        got = self.recogniser.features(decoded.to(pictures.dtype))[:3]
        distances = [F.l1_loss(g, w) / (w.abs().mean() + 1e-6) for g, w in zip(got, wanted, strict=True)]
        return torch.stack([d.float() for d in distances]).mean()


def gradient_distance(first: Tensor, second: Tensor) -> Tensor:
    """L1 distance of neighboring pixels' differences, at full and half resolution."""
    total = first.new_zeros(())
    for factor in (1, 2):
        error = F.avg_pool2d(first - second, factor) if factor > 1 else first - second
        total = total + (error[..., 1:] - error[..., :-1]).abs().mean()
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return total / 2


def color_distance(first: Tensor, second: Tensor, *, cell: int = 4) -> Tensor:
    """L1 distance of the mean colors of cells: their channels, and the opponent colors red-green,
    blue-yellow."""
    error = F.avg_pool2d(first - second, cell)
    red, green, blue = error.unbind(dim=1)
    opponents = (red - green).abs().mean() + (blue - (red + green) / 2).abs().mean()
    return error.abs().mean() + opponents


def train(
    run: VaeRun,
    postcards: Postcards,
    recogniser: Recogniser,
    *,
    initial: Path | None = None,
    run_folder: Path,
    accelerator: Accelerator,
) -> Iterator[Progress]:
    """Train on crops of rendered scenes; yields `Progress`. `initial` is a VAE folder to start warm from."""
    size = postcards.config.size

    def batch_at(step: int) -> Batch:
        whole = size <= run.crop or step % run.whole_every == run.whole_every - 1
        side = size if whole else run.crop
        rows = run.fit.batch_size
        if whole:
            rows = min(rows, max(1, rows * run.crop**2 // size**2))
        indices = samples_at(run.seed, step, batch_size=run.fit.batch_size, count=len(postcards))[:rows]
        draws = generator(run.seed, "crop", step)
        corners = torch.randint(0, size - side + 1, (rows, 2), generator=draws).tolist()
        images = postcards.images(indices.tolist())
        pictures = torch.stack(
            [picture_tensor(i[y : y + side, x : x + side]) for i, (y, x) in zip(images, corners, strict=True)]
        )
        shape = (rows, run.shape.latent_channels, side // 8, side // 8)
        noise = torch.randn(shape, generator=draws)
        return {"pictures": pictures.contiguous(memory_format=torch.channels_last), "noise": noise}

    vae = initial_vae(run, initial)
    origin = [] if initial is None else [content_key(vae)]
    objective = VaeObjective(vae, recogniser, run)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = fingerprint("vae", run, content_key(recogniser), postcards.config.key, len(postcards), *origin)
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def warm_folder(pipeline: Path) -> Path:
    """The VAE's folder in a pipeline folder; FileNotFoundError if it holds none."""
    if not (pipeline / "vae" / "config.json").is_file():
        raise FileNotFoundError(f"--init-from {pipeline}: no vae/config.json there; name a pipeline folder.")
    return pipeline / "vae"


def initial_vae(run: VaeRun, initial: Path | None = None) -> AutoencoderKL:
    """An untrained VAE, a function of `run.seed`, or the weights in the folder `initial`.

    Raises:
        ValueError: the weights in the folder have another shape than the run's.
    """
    if initial is not None:
        vae = AutoencoderKL.from_pretrained(
            initial, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
        )
        with torch.device("meta"):
            wanted = build_vae(run.shape)
        shapes = [{name: p.shape for name, p in network.named_parameters()} for network in (vae, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{initial} has another shape than the recipe's VAE; choose the recipe it was made by."
            )
        return vae
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(run.seed, "vae").get_state())
        return build_vae(run.shape)


def trained_vae(run: VaeRun, run_folder: Path) -> AutoencoderKL:
    """The averaged weights of the run's newest checkpoint, latent statistics not yet folded in."""
    vae = initial_vae(run)
    load_averaged(vae, run_folder, prefix="vae.")
    return vae.eval().requires_grad_(False)


@dataclass(frozen=True)
class LatentStatistics:
    """Per-channel mean and standard deviation of a VAE's latents, [channels]."""

    mean: Tensor
    std: Tensor


@torch.no_grad()
def latent_statistics(vae: AutoencoderKL, pictures: Iterator[Tensor]) -> LatentStatistics:
    """Over batches of pictures [-1, 1]: of sampled latents, so the posterior's variance counts too."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in pictures:
        posterior = vae.encode(batch).latent_dist  # type: ignore[union-attr]
        total = total + posterior.mean.double().sum(dim=(0, 2, 3))
        squares = squares + (posterior.mean.double() ** 2 + posterior.var.double()).sum(dim=(0, 2, 3))
        count += posterior.mean[:, 0].numel()
    mean = total / count
    return LatentStatistics(mean=mean.float(), std=(squares / count - mean**2).sqrt().float())


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, statistics: LatentStatistics) -> None:
    """Change the two 1x1 convolutions so that latents x 0.18215 have mean 0 and deviation 1 per channel.

    Exact: `quant_conv` gives (z - mean) / (0.18215 std) and `post_quant_conv` undoes it, so pictures stay.
    """
    scale = statistics.std * FOLDED_SCALING_FACTOR
    channels = len(scale)
    encode, decode = vae.quant_conv, vae.post_quant_conv
    assert encode is not None and encode.bias is not None and decode is not None and decode.bias is not None
    encode.weight[:channels] /= scale[:, None, None, None]
    encode.bias[:channels] = (encode.bias[:channels] - statistics.mean) / scale
    encode.bias[channels:] -= 2 * scale.log()  # rows of the log variance
    decode.bias += decode.weight[:, :, 0, 0] @ statistics.mean
    decode.weight *= scale[None, :, None, None]


def psnr(decoded: Tensor, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, mean over pictures in [-1, 1] (peak 2)."""
    errors = ((decoded.clamp(-1, 1) - pictures) ** 2).mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4 / errors.clamp(min=math.ulp(1.0)))).mean())


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Pictures through the posterior's mean and back, clamped to [-1, 1]."""
    parts = []
    for part in pictures.split(32):
        latents = vae.encode(part.to(vae.device)).latent_dist.mean  # type: ignore[union-attr]
        parts.append(vae.decode(latents).sample.to(pictures.device))  # type: ignore[union-attr]
    return torch.cat(parts).clamp(-1, 1)
