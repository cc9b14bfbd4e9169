"""Run 3: the latent UNet, conditioned on token states, with caption dropout for classifier-free guidance.

Knows nothing of pixels: it sees cached latents and cached token states.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from ldm_pipeline.images import contact_sheet
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from ldm_pipeline.request import GenerationDefaults
from training.attention import plain_attention
from training.data.cache import cached, content_key
from training.data.postcards import Postcards, words_key
from training.draws import generator, samples_at
from training.growth import copy_unet, grows_into
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.networks import UNetShape, build_unet
from training.parts import Parts
from training.pictures import picture_tensor
from training.scenes.caption import draw_caption
from training.targets import Prediction, matching_scheduler, noisy_batch

TEXT_PREFIX = "text_encoder."
VALIDATION_LEVELS = 8
VALIDATION_PICTURES = 96
PREVIEW_PROMPTS = (
    "Paris on a rainy day",
    "Cairo at sunset",
    "a red bus in London",
    "snow in Tokyo",
    "Venice at night",
    "two black cats in Rome on a sunny day",
    "a dog wearing a beret and a black turtleneck",
    "the Taj Mahal in fog, a yellow balloon",
)


@dataclass(frozen=True, kw_only=True)
class UNetRun:
    """One UNet: its shape, its objective and its training."""

    fit: FitConfig
    shape: UNetShape = UNetShape()
    seed: int = 4
    prediction: Prediction = "flow"
    shift: float = 1.0
    """Of the flow's noise levels; 1 at 128 px, 2 at 256."""
    empty_share: float = 0.1
    """Share of captions replaced by the empty string, for classifier-free guidance (arXiv 2207.12598).

    On top of the 8 % of captions that are drawn empty (`FORM_WEIGHTS`): at 0.1, 17 % are empty in all."""
    half_size_steps: int = 0
    """The first so many steps see latents of half the size, `half_size_batch` rows each."""
    half_size_batch: int = 128
    thing_weight: float = 1.0
    """Weight of the squared error where things stand, against 1 elsewhere, in the first `thing_weight_steps`.

    Things cover few cells, and their share of the gradient drowns in the noise of all others. A weight over
    1 makes things too likely where their place is open, so the last steps should go without."""
    thing_weight_steps: int = 0
    captions_per_picture: int = 3
    text_share: float = 0.0
    """The text encoder learns too, at this share of the UNet's learning rate; 0: it stays as it is, and its
    states are cached."""


@dataclass(frozen=True)
class LatentSet:
    """Everything the UNet sees of a data set, as memory-mapped fp16."""

    whole: NDArray[np.float16]
    """Posterior mean and standard deviation, scaled: [pictures, 2 c, h, w]."""
    half: NDArray[np.float16] | None
    """The same of the pictures at half size; None for runs that see none."""
    shares: NDArray[np.float32]
    """Share of each cell that things cover, [pictures, h, w] in [0, 1]."""
    texts: NDArray[np.float16] | NDArray[np.int16]
    """Token states [pictures, captions, 77, width]; token ids [pictures, captions, 77] for an encoder that
    learns."""
    empty: Tensor
    """The same of the empty string, [77, width] or [77]."""
    key: str


def run_name(run: UNetRun) -> str:
    """Name of the run folder: one for each kind of prediction."""
    return "unet" if run.prediction == "flow" else f"unet-{run.prediction}"


class UNetObjective(nn.Module):
    """Squared error of the prediction, weighted by noise level and by `importance`, [batch, h, w].

    With a text encoder, which then learns too, the batch's `texts` are token ids; without, token states.
    """

    def __init__(
        self, unet: UNet2DConditionModel, run: UNetRun, *, text_encoder: CLIPTextModel | None = None
    ):
        super().__init__()
        self.unet, self.run, self.text_encoder = unet, run, text_encoder

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.squared_errors(batch).mean()}

    def squared_errors(self, batch: Batch) -> Tensor:
        """Weighted mean squared error of each sample, [batch]."""
        mean, std = batch["latents"].chunk(2, dim=1)
        x_0 = mean + std * batch["posterior_noise"]
        run = self.run
        noisy = noisy_batch(x_0, batch["noise"], batch["uniform"], prediction=run.prediction, shift=run.shift)
        x_t = noisy.x_t.contiguous(memory_format=torch.channels_last)
        states = batch["texts"]
        if self.text_encoder is not None:
            with plain_attention(states.device):
                states = self.text_encoder(states).last_hidden_state
        predicted = self.unet(x_t, noisy.timesteps, states).sample.float()
        errors = ((predicted - noisy.target) ** 2).mean(dim=1)
        return noisy.weight * (batch["importance"] * errors).mean(dim=(1, 2))


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Scaled posterior mean and standard deviation [batch, 2 c, h/8, w/8] of pictures in [-1, 1]."""
    posterior = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist  # type: ignore[union-attr]
    return torch.cat([posterior.mean, posterior.std], dim=1).float() * vae.config["scaling_factor"]


@torch.no_grad()
def encode_states(text_encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Token states [batch, 77, width] as the pipeline computes them (no attention mask)."""
    return text_encoder(ids).last_hidden_state


def build_latent_set(run: UNetRun, postcards: Postcards, parts: Parts, *, folder: Path) -> LatentSet:
    """Encode what is missing of pictures and captions; the file names carry the content behind them."""
    vae, text_encoder, tokenizer = parts.vae, parts.text_encoder, parts.tokenizer
    vae_key = content_key(vae, postcards.config.key, len(postcards))
    text_key = content_key(
        text_encoder, postcards.config.key, len(postcards), run.captions_per_picture, run.seed
    )
    autocast = torch.autocast("cpu", torch.bfloat16)

    def latents(first: int, last: int, factor: int) -> Tensor:
        pictures = picture_tensor(postcards.images(list(range(first, last))))
        if factor > 1:
            pictures = nn.functional.avg_pool2d(pictures, factor)
        return encode_latents(vae, pictures)

    def ids(first: int, last: int) -> Tensor:
        texts = [
            draw_caption(postcards.scene(i), postcards.sight(i), seed=run.seed * 1000 + n).text
            for i in range(first, last)
            for n in range(run.captions_per_picture)
        ]
        return tokenizer.encode(texts).unflatten(0, (last - first, run.captions_per_picture))

    def states(first: int, last: int) -> Tensor:
        with autocast:
            encoded = encode_states(text_encoder, ids(first, last).flatten(0, 1))
        return encoded.unflatten(0, (last - first, run.captions_per_picture))

    count, empty_ids = len(postcards), tokenizer.encode([""])
    if run.text_share:
        name, make, kind = "ids", ids, torch.int16
    else:
        name, make, kind = "states", states, torch.float16
    texts = folder / f"{name}-{text_key}-{words_key()}.npy"
    return LatentSet(
        whole=cached(
            folder / f"latents-{vae_key}.npy", lambda a, b: latents(a, b, 1), count=count, title="latents"
        ),
        half=cached(
            folder / f"half-{vae_key}.npy", lambda a, b: latents(a, b, 2), count=count, title="half size"
        )
        if run.half_size_steps
        else None,
        texts=cached(texts, make, count=count, title="captions", dtype=kind),
        shares=postcards.thing_shares(list(range(count))),
        empty=(empty_ids if run.text_share else encode_states(text_encoder, empty_ids))[0],
        key=f"{vae_key}-{text_key}-{words_key()}",
    )


def training_batch(run: UNetRun, data: LatentSet, step: int) -> Batch:
    """The global batch of a step: half-size latents first, whole ones later; a function of (seed, step)."""
    half = step < run.half_size_steps
    rows = run.half_size_batch if half else run.fit.batch_size
    stream = "half" if half else "whole"
    indices = samples_at(run.seed, step, batch_size=rows, count=len(data.whole)).tolist()
    draws = generator(run.seed, stream, step)
    variants = torch.randint(0, data.texts.shape[1], (rows,), generator=draws).tolist()
    dropped = torch.rand(rows, generator=draws) < run.empty_share
    texts = torch.from_numpy(np.stack([data.texts[i, v] for i, v in zip(indices, variants, strict=True)])).to(
        data.empty.dtype
    )
    texts[dropped] = data.empty
    cache = data.half if half else data.whole
    assert cache is not None, "half_size_steps without half-size latents"
    latents = torch.from_numpy(np.stack([cache[i] for i in indices])).float()
    shape = (rows, latents.shape[1] // 2, *latents.shape[2:])
    importance = torch.ones(rows, *latents.shape[2:])
    if step < run.thing_weight_steps:
        shares = torch.from_numpy(data.shares[indices])
        height, width = latents.shape[2:]
        importance += (run.thing_weight - 1) * nn.functional.adaptive_avg_pool2d(shares, (height, width))
    return {
        "latents": latents,
        "texts": texts,
        "importance": importance,
        "posterior_noise": torch.randn(shape, generator=draws),
        "noise": torch.randn(shape, generator=draws),
        "uniform": stratified(torch.rand(rows, 2, generator=draws)),
    }


def stratified(uniform: Tensor) -> Tensor:
    """Spread the first column over equal bins of [0, 1), for a steadier loss (arXiv 2107.00630)."""
    rows = len(uniform)
    spread = (torch.arange(rows) + uniform[:, 0]) / rows
    return torch.stack([spread, uniform[:, 1]], dim=1)


def train(
    run: UNetRun,
    data: LatentSet,
    *,
    initial: Path | None = None,
    text_encoder: CLIPTextModel | None = None,
    run_folder: Path,
    accelerator: Accelerator,
) -> Iterator[Progress]:
    """Train on cached latents; yields `Progress`. `initial` is a UNet folder to start warm from.

    `text_encoder` is where one that learns starts; it is copied. ValueError if `text_share` is set without.
    """
    learner = learning_encoder(run, text_encoder)
    width = learner.config.hidden_size if learner is not None else data.texts.shape[-1]
    unet = initial_unet(run, initial, latent_channels=data.whole.shape[1] // 2, text_width=width)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        # In turns, 2026-11-21 (tests/benchmarks/unet_attention.py): 49-51 samples/s against 41 with the fused
        # kernel on two Zen 5 cores, 40 against 34 on two Xeon cores. In fp32, the faster there, 57 and 58.
        unet.set_attn_processor(AttnProcessor())
    objective = UNetObjective(unet, run, text_encoder=learner)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    origin = content_key(unet) if initial is not None else "nothing"
    identity = fingerprint("unet", run, data.key, origin)

    def batch_at(step: int) -> Batch:
        return training_batch(run, data, step)

    config = run.fit
    if learner is not None:
        shares = ((TEXT_PREFIX, run.text_share), *config.optimizer.shares)
        config = replace(config, optimizer=replace(config.optimizer, shares=shares))
    yield from fit(
        objective, batch_at, config=config, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def learning_encoder(run: UNetRun, start: CLIPTextModel | None) -> CLIPTextModel | None:
    """A copy of `start` whose weights learn; None for runs in which it stays as it is."""
    if not run.text_share:
        return None
    if start is None:
        raise ValueError(f"text_share={run.text_share} without text_encoder: give the one to start from.")
    return copy.deepcopy(start).requires_grad_(True)


def initial_unet(
    run: UNetRun, initial: Path | None, *, latent_channels: int, text_width: int
) -> UNet2DConditionModel:
    """An untrained UNet, a function of `run.seed`, or the weights in the folder `initial`."""
    if initial is not None:
        return _warm_unet(run, initial, latent_channels=latent_channels, text_width=text_width)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(run.seed, "unet").get_state())
        return build_unet(run.shape, latent_channels=latent_channels, text_width=text_width)


def _warm_unet(run: UNetRun, initial: Path, *, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    if not (initial / "config.json").is_file():
        raise FileNotFoundError(f"{initial} holds no UNet; name a pipeline folder.")
    old = UNet2DConditionModel.from_pretrained(
        initial, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
    )
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten, are drawn globally
        unet = build_unet(run.shape, latent_channels=latent_channels, text_width=text_width)
    if not grows_into(old, unet):
        raise ValueError(
            f"{initial} has another shape than the recipe's UNet; choose the recipe it was made by."
        )
    copy_unet(old, unet)
    return unet


def trained_unet(
    run: UNetRun, run_folder: Path, *, latent_channels: int, text_width: int
) -> UNet2DConditionModel:
    """The averaged weights of the run's newest checkpoint."""
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten, are drawn globally
        unet = build_unet(run.shape, latent_channels=latent_channels, text_width=text_width)
    load_averaged(unet, run_folder, prefix="unet.")
    return unet.eval().requires_grad_(False)


def trained_text_encoder(run: UNetRun, run_folder: Path, start: CLIPTextModel) -> CLIPTextModel:
    """The text encoder that belongs to the UNet: what the run made of `start`, or `start` if it stayed."""
    learner = learning_encoder(run, start)
    if learner is None:
        return start
    load_averaged(learner, run_folder, prefix=TEXT_PREFIX)
    return learner.eval().requires_grad_(False)


@torch.no_grad()
def validation_loss(
    objective: UNetObjective, data: LatentSet, *, conditioning: Literal["true", "empty"] = "true"
) -> float:
    """Mean loss over `VALIDATION_PICTURES` of a held-out set at fixed noise levels and fixed noise."""
    rows = min(VALIDATION_PICTURES, len(data.whole))
    draws = generator(0, "validation")
    latents = torch.from_numpy(np.array(data.whole[:rows])).float()
    shape = (rows, latents.shape[1] // 2, *latents.shape[2:])
    noise, posterior_noise = torch.randn(shape, generator=draws), torch.randn(shape, generator=draws)
    texts = torch.from_numpy(np.array(data.texts[:rows, 0])).to(data.empty.dtype)
    if conditioning == "empty":
        texts = data.empty.expand_as(texts)
    total = 0.0
    for level in range(VALIDATION_LEVELS):
        uniform = torch.stack(
            [torch.full((rows,), (level + 0.5) / VALIDATION_LEVELS), torch.ones(rows)], dim=1
        )
        for part in torch.arange(rows).split(64):
            batch = {"latents": latents[part], "texts": texts[part], "noise": noise[part],
                     "posterior_noise": posterior_noise[part], "uniform": uniform[part],
                     "importance": torch.ones(len(part), *shape[2:])}  # fmt: skip
            batch = {name: value.to(objective.unet.device) for name, value in batch.items()}
            total += float(objective.squared_errors(batch).sum())
    return total / (rows * VALIDATION_LEVELS)


@torch.no_grad()
def preview(
    run: UNetRun, objective: UNetObjective, parts: Parts, *, size: int, sampling: GenerationDefaults
) -> Image.Image:
    """The same eight prompts with the same seeds each time, drawn by the real pipeline."""
    pipe = LatentDiffusionPipeline(
        vae=parts.vae,
        text_encoder=objective.text_encoder or parts.text_encoder,
        tokenizer=parts.tokenizer.transformers,
        unet=objective.unet,
        scheduler=matching_scheduler(run.prediction),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.generation_defaults = sampling
    prompts = list(PREVIEW_PROMPTS)
    seeds = list(range(len(prompts)))
    drawn = pipe(prompts, seed=seeds, height=size, width=size, exact=False).images
    assert isinstance(drawn, list)
    return contact_sheet(drawn, columns=4)
