"""Fine-tuning: a base and captioned pictures -> a base, adapter or word that has learned from them.

Knows nothing of files on disk or of previews: it sees latents and texts in batches. The loop is `loop.py`.
"""

# diffusers exports lazily, which pyright takes for private names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from training.attention import plain_attention
from training.bases import Base
from training.draws import generator
from training.finetune_batches import Batch, BatchSource
from training.loop import FitConfig, Progress, RunFolderError, fingerprint, fit
from training.lora import LoraShape, add_lora
from training.new_words import WordConfig, WordEmbedding, add_word
from training.targets import Prediction, noisy_batch

TEXT_PREFIX = "text_encoder."
Method = Literal["full", "lora", "textual_inversion"]


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Pictures of the class that the base draws beforehand and that the run keeps (arXiv 2208.12242)."""

    prompt: str = ""
    """Of the class, e.g. "a dog"; empty: no such pictures."""
    pictures: int = 100
    weight: float = 1.0
    """Of their loss beside the pictures' own."""

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ValueError(f"prior.pictures={self.pictures}: must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class LooksConfig:
    """How a run is looked at while it goes on; nothing of it changes a weight."""

    pictures: int = 8
    """Previews, at most."""
    validation_pictures: int = 64
    """Held-out pictures that the loss is taken over, at most."""
    steps: int | None = None
    """Denoising steps of previews; None: the base's own."""
    guidance: float | None = None
    drift_prompts: tuple[str, ...] = ("", "a street at night", "a red car", "a dog", "a house in the snow")
    """Nothing that the pictures are about; texts without commas."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRun:
    """A whole fine-tuning but for its base and its pictures."""

    name: str
    method: Method
    fit: FitConfig
    lora: LoraShape = LoraShape()
    word: WordConfig = WordConfig()
    prior: PriorConfig = PriorConfig()
    looks: LooksConfig = LooksConfig()
    seed: int = 0
    empty_share: float = 0.1
    """Share of captions replaced by the empty string, which guidance needs (arXiv 2207.12598)."""
    text_share: float = 0.0
    """The text encoder learns too, at this share of the learning rate; 0: it stays as it is."""
    snr_gamma: float | None = 5.0
    """Min-SNR weight for bases that predict noise or v (arXiv 2303.09556); none: all levels alike."""
    zero_terminal_snr: bool | None = None
    """A schedule that ends in pure noise (arXiv 2305.08891), for v; none: as the base has it."""
    noise_offset: float = 0.0
    """Share of noise that is the same all over a picture's channel, for very dark and very light pictures."""
    shift: float = 1.0
    """Of a flow model's noise levels: 1 at 128 px, 2 at 256, 3 at 512."""
    gradient_checkpointing: bool = False
    """Compute the UNet's activations twice instead of keeping them: less memory, a third slower."""

    def __post_init__(self) -> None:
        if not 0 <= self.empty_share < 1:
            raise ValueError(f"empty_share={self.empty_share}: is a share; choose from 0 to below 1.")
        if self.text_share < 0 or (self.text_share and self.method == "textual_inversion"):
            raise ValueError(
                f"text_share={self.text_share}: must be at least 0, and 0 for textual inversion, in which "
                "nothing but the word learns."
            )
        if self.snr_gamma is not None and self.snr_gamma <= 0:
            raise ValueError(f"snr_gamma={self.snr_gamma}: must be above 0, or none; 5 is usual.")

    @property
    def reads_ids(self) -> bool:
        """Whether the text encoder is part of what is trained."""
        return bool(self.text_share) or self.method == "textual_inversion"


class FinetuneObjective(nn.Module):
    """Squared error of the prediction, weighted by noise level; the same of the class, where there is one.

    With a text encoder the batch's `texts` are token ids; without, token states.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        run: FinetuneRun,
        *,
        prediction: Prediction,
        schedule: Tensor | None,
        text_encoder: CLIPTextModel | None = None,
    ):
        super().__init__()
        self.unet, self.run, self.text_encoder = unet, run, text_encoder
        self.prediction: Prediction = prediction
        self.register_buffer("schedule", schedule, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.squared_errors(batch).mean()
        if "class_latents" not in batch:
            return {"loss": loss}
        of_class = {n.removeprefix("class_"): v for n, v in batch.items() if n.startswith("class_")}
        prior = self.squared_errors(of_class).mean()
        return {"loss": loss + self.run.prior.weight * prior, "pictures": loss, "prior": prior}

    def squared_errors(self, batch: Batch) -> Tensor:
        """Weighted mean squared error of each sample, [batch]."""
        mean, std = batch["latents"].chunk(2, dim=1)
        x_0 = mean + std * batch["posterior_noise"]
        noisy = noisy_batch(
            x_0,
            batch["noise"],
            batch["uniform"],
            prediction=self.prediction,
            shift=self.run.shift,
            schedule=self.schedule,  # type: ignore[arg-type]
            snr_gamma=self.run.snr_gamma,
        )
        x_t = noisy.x_t.contiguous(memory_format=torch.channels_last)
        states = batch["texts"]
        # Activations that are computed twice must come from the same kernel both times.
        with nullcontext() if self.run.gradient_checkpointing else plain_attention(x_t.device):
            if self.text_encoder is not None:
                states = self.text_encoder(states).last_hidden_state
            predicted = self.unet(x_t, noisy.timesteps, states).sample.float()
        return noisy.weight * ((predicted - noisy.target) ** 2).mean(dim=(1, 2, 3))


def build_objective(
    run: FinetuneRun, base: Base, *, autocast: torch.dtype | None = None
) -> FinetuneObjective:
    """Make what learns of the base's own networks, which are changed in place; what does not is frozen.

    Args:
        autocast: number type that the run is computed in, None for the weights' own. Layers that do not
            learn are kept in it, in half the memory, which changes no bit of what autocast computes.
    Raises:
        ValueError: an adapter's targets or a word do not fit the base.
    """
    unet, encoder = base.pipeline.unet, base.pipeline.text_encoder
    draws = generator(run.seed, "adapters")
    if run.method == "full":
        unet.requires_grad_(True)
        encoder.requires_grad_(bool(run.text_share))
        for name, parameter in encoder.named_parameters():
            if name.startswith("text_projection"):  # of no use to the token states
                parameter.requires_grad_(False)
    elif run.method == "lora":
        add_lora(unet, run.lora, targets=run.lora.targets, draws=draws)
        if run.text_share:
            add_lora(
                encoder, run.lora, targets=run.lora.text_targets, draws=generator(run.seed, "text adapters")
            )
    else:
        add_word(base.pipeline.tokenizer, encoder, run.word)
    if run.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if autocast is not None and not (run.method == "lora" and run.lora.dora):  # it reads the sizes of weights
        for network in (unet, encoder) if run.reads_ids else (unet,):
            hold_frozen_layers(network, autocast)
    objective = FinetuneObjective(
        unet,
        run,
        prediction=base.prediction,
        schedule=base.schedule,
        text_encoder=encoder if run.reads_ids else None,
    )
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return objective


def hold_frozen_layers(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep what autocast would turn into `dtype` at every step in it, but for what learns."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            for parameter in layer.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def identity_of(run: FinetuneRun, *, base_key: str, data_key: str) -> str:
    """What decides the weights: the run but for how it is looked at, the base and the pictures."""
    return fingerprint("finetune", replace(run, looks=LooksConfig()), base_key, data_key)


def train(
    run: FinetuneRun,
    objective: FinetuneObjective,
    source: BatchSource,
    *,
    run_folder: Path,
    accelerator: Accelerator,
    base_key: str,
) -> Iterator[Progress]:
    """Train on the source's batches; yields `Progress`."""
    rank, world = accelerator.process_index, accelerator.num_processes
    config = run.fit
    if run.text_share:
        shares = ((TEXT_PREFIX, run.text_share), *config.optimizer.shares)
        config = replace(config, optimizer=replace(config.optimizer, shares=shares))
    yield from fit(
        objective,
        lambda step: source.batch_at(step, own=slice(rank, None, world)),
        config=config,
        run_folder=run_folder,
        accelerator=accelerator,
        identity=identity_of(run, base_key=base_key, data_key=source.pictures.key),
    )


def adopt(objective: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights, by name, into the parameters that learn.

    Raises:
        RunFolderError: they are of another run.
    """
    own = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
        raise RunFolderError("the checkpoint does not hold what this run trains; it was made by another.")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def word_of(objective: FinetuneObjective) -> WordEmbedding:
    """The table of the word that is learned."""
    assert objective.text_encoder is not None
    table = objective.text_encoder.get_input_embeddings()
    assert isinstance(table, WordEmbedding)
    return table
