"""Run 1: the VAE that takes pictures to latents and back, with its latent statistics folded into the weights.

Knows nothing of captions or diffusion.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from training.growth import copy_vae, grows_into
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.networks import VAE_FACTOR, VaeShape, build_vae
from training.optim import UNSAID
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
    thing_weight: float = field(default=1.0, metadata=UNSAID)
    """Weight of a pixel where things stand, against 1 elsewhere: they cover few pixels, and are looked at."""
    probe_cells: int = field(default=1, metadata=UNSAID)
    """The probe reads so many mean colors of a latent cell in each direction, instead of one; at most 8."""
    latent_noise: float = field(default=0.0, metadata=UNSAID)
    """Largest standard deviation of noise added to the latents before decoding, in units of theirs, so that
    a UNet's small errors are decoded into small errors. Drawn evenly from 0 on, for each picture."""
    anchor_weight: float = field(default=0.0, metadata=UNSAID)
    """Warm legs: of the mean squared change of scaled latents, in the channels that the start had, so that a
    UNet that knows them need not start anew."""

    def __post_init__(self) -> None:
        if self.probe_cells < 1 or VAE_FACTOR % self.probe_cells:
            raise ValueError(f"probe_cells={self.probe_cells}: choose 1, 2, 4 or {VAE_FACTOR}.")


class VaeObjective(nn.Module):
    """L1 + differences + recogniser features + KL (arXiv 1312.6114; arXiv 2112.10752, eq. 25)."""

    def __init__(
        self, vae: AutoencoderKL, recogniser: Recogniser, run: VaeRun, *, start: AutoencoderKL | None = None
    ):
        """`start`: the VAE that a warm leg came from, which the anchor holds on to."""
        super().__init__()
        self.vae, self.run = vae, run
        self.recogniser = recogniser.requires_grad_(False)
        self.start = copy.deepcopy(start).requires_grad_(False) if start and run.anchor_weight else None
        colors = 3 * run.probe_cells**2
        # torch would draw initial weights, which are overwritten here, from its global random state.
        self.probe = nn.utils.skip_init(nn.Conv2d, run.shape.latent_channels, colors, 1)
        nn.init.zeros_(self.probe.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.probe.bias)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`pictures` [-1, 1] [n, 3, height, width]; `noise` and `disturbance`, [n, c, height/8, width/8], are
        added to the latents in units of the posterior's and of the latents' spread; `weights`, [n, 1, height,
        width], of pixels."""
        pictures, weights, run = batch["pictures"], batch["weights"], self.run
        posterior = self.vae.encode(pictures).latent_dist  # type: ignore[union-attr]
        latents = posterior.mean + posterior.std * batch["noise"]
        spread = latents.detach().float().std(dim=(0, 2, 3), keepdim=True)
        disturbed = latents + spread * batch["disturbance"]
        decoded = self.vae.decode(disturbed).sample.float()  # type: ignore[union-attr]
        pixel = weighted_mean((decoded - pictures).abs(), weights)
        gradient = gradient_distance(decoded, pictures, weights=weights)
        color = color_distance(decoded, pictures, weights=weights)
        side = VAE_FACTOR // run.probe_cells
        read = F.pixel_shuffle(self.probe(latents).float(), run.probe_cells)
        probe = color_distance(
            read, F.avg_pool2d(pictures, side), cell=1, weights=F.avg_pool2d(weights, side)
        )
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        losses = {"pixel": pixel, "gradient": gradient, "color": color, "probe": probe, "kl": kl}
        loss = pixel + run.gradient_weight * gradient + run.color_weight * color
        loss = loss + run.probe_weight * probe + run.kl_weight * kl
        if run.feature_weight:
            losses["features"] = self._feature_distance(decoded, pictures)
            loss = loss + run.feature_weight * losses["features"]
        if self.start is not None:
            losses["anchor"] = self._change(posterior.mean, pictures)
            loss = loss + run.anchor_weight * losses["anchor"]
        return {"loss": loss, **losses}

    def _change(self, means: Tensor, pictures: Tensor) -> Tensor:
        """Mean squared difference of scaled latents from those of the start, in the channels it has."""
        assert self.start is not None
        with torch.no_grad():
            before = self.start.encode(pictures).latent_dist.mean.float()  # type: ignore[union-attr]
        change = means[:, : before.shape[1]].float() - before
        return (change * FOLDED_SCALING_FACTOR).square().mean()

    def _feature_distance(self, decoded: Tensor, pictures: Tensor) -> Tensor:
        """Mean over the first three stages of the L1 distance relative to the activations' own size."""
        with torch.no_grad():
            wanted = self.recogniser.features(pictures)[:3]
        got = self.recogniser.features(decoded.to(pictures.dtype))[:3]
        distances = [F.l1_loss(g, w) / (w.abs().mean() + 1e-6) for g, w in zip(got, wanted, strict=True)]
        return torch.stack([d.float() for d in distances]).mean()


def weighted_mean(errors: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of [n, c, h, w], each place weighted by `weights`, [n, 1, h, w], or all alike."""
    if weights is None:
        return errors.mean()
    return (errors * weights).mean() / weights.mean()


def gradient_distance(first: Tensor, second: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """L1 distance of neighboring pixels' differences, at full and half resolution."""
    total = first.new_zeros(())
    error = first - second
    for factor in (1, 2):
        if factor > 1:
            error = F.avg_pool2d(error, factor)
            weights = weights if weights is None else F.avg_pool2d(weights, factor)
        across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
        total = total + weighted_mean(across.abs(), weights if weights is None else weights[..., 1:])
        total = total + weighted_mean(down.abs(), weights if weights is None else weights[..., 1:, :])
    return total / 2


def color_distance(first: Tensor, second: Tensor, *, cell: int = 4, weights: Tensor | None = None) -> Tensor:
    """L1 distance of the mean colors of cells: their channels, and the opponent colors red-green,
    blue-yellow."""
    error = F.avg_pool2d(first - second, cell)
    weights = weights if weights is None else F.avg_pool2d(weights, cell)
    red, green, blue = error.split(1, dim=1)
    opponents = (red - green).abs() + (blue - (red + green) / 2).abs()
    return weighted_mean(error.abs(), weights) + weighted_mean(opponents, weights)


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
        shape = (rows, run.shape.latent_channels, side // VAE_FACTOR, side // VAE_FACTOR)
        noise = torch.randn(shape, generator=draws)
        return {
            "pictures": pictures.contiguous(memory_format=torch.channels_last),
            "noise": noise,
            "disturbance": disturbance(run.latent_noise, shape, draws=draws),
            "weights": thing_weights(
                postcards, indices.tolist(), corners, side=side, weight=run.thing_weight
            ),
        }

    vae = initial_vae(run, initial)
    start = opened(initial) if initial is not None and run.anchor_weight else None
    origin = [] if initial is None else [content_key(vae)]
    objective = VaeObjective(vae, recogniser, run, start=start)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = fingerprint("vae", run, content_key(recogniser), postcards.config.key, len(postcards), *origin)
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def disturbance(largest: float, shape: tuple[int, ...], *, draws: torch.Generator) -> Tensor:
    """Noise [n, c, h, w], of a standard deviation drawn evenly from 0 to `largest` for each of the n."""
    if not largest:
        return torch.zeros(shape)
    levels = largest * torch.rand(shape[0], 1, 1, 1, generator=draws)
    return levels * torch.randn(shape, generator=draws)


def thing_weights(
    postcards: Postcards, indices: list[int], corners: list[list[int]], *, side: int, weight: float
) -> Tensor:
    """Of the pixels of crops at `corners` (y, x): 1, `weight` where things stand; [n, 1, side, side]."""
    if weight == 1:
        return torch.ones(len(indices), 1, side, side)
    shares = torch.from_numpy(postcards.thing_shares(indices))
    pixels = shares.repeat_interleave(VAE_FACTOR, dim=1).repeat_interleave(VAE_FACTOR, dim=2)
    cut = [p[y : y + side, x : x + side] for p, (y, x) in zip(pixels, corners, strict=True)]
    return 1 + (weight - 1) * torch.stack(cut)[:, None]


def warm_folder(pipeline: Path) -> Path:
    """The VAE's folder in a pipeline folder; FileNotFoundError if it holds none."""
    if not (pipeline / "vae" / "config.json").is_file():
        raise FileNotFoundError(f"--init-from {pipeline}: no vae/config.json there; name a pipeline folder.")
    return pipeline / "vae"


def opened(folder: Path) -> AutoencoderKL:
    """A saved VAE, in fp32."""
    return AutoencoderKL.from_pretrained(
        folder, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
    )


def initial_vae(run: VaeRun, initial: Path | None = None) -> AutoencoderKL:
    """An untrained VAE, a function of `run.seed`, or the weights in the folder `initial`.

    Where these have fewer latent channels than the run's, the others begin as random projections.

    Raises:
        ValueError: the weights in the folder have another shape than the run's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(run.seed, "vae").get_state())
        vae = build_vae(run.shape)
    if initial is None:
        return vae
    old = opened(initial)
    if not grows_into(old, vae):
        raise ValueError(
            f"{initial} has another shape than the recipe's VAE; choose the recipe it was made by."
        )
    copy_vae(old, vae)
    return vae


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
