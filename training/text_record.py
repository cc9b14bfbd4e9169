"""Run 2b: a trained text encoder learns, from words alone, to tell more of what captions claim.

Knows nothing of pictures, latents or the UNet. Warm legs use it before the UNet goes on with the encoder:
CLIP's pictures cost most of its time, and rare claims (a side, the color of a garment) need many captions.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import CLIPTextModel

from training.attention import plain_attention
from training.claims import ABSENT, FIELDS, NOT_CLAIMED, class_counts, encode_claims, question_kind
from training.clip_objective import RecordHead, record_loss
from training.data.cache import content_key
from training.data.postcards import words_key
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.scenes.caption import Caption, draw_caption
from training.scenes.claims import Sight
from training.scenes.scene import sample_scene
from training.scenes.world import World
from training.text_tower import PADDING_MULTIPLE
from training.tokenizer import Bpe

ENCODER_PREFIX = "text_encoder."
SCORED_CAPTIONS = 2_000


@dataclass(frozen=True, kw_only=True)
class TextRun:
    """How a text encoder goes on learning."""

    fit: FitConfig
    seed: int = 5
    whole_every: int = 4
    """Every so manieth step sees all 77 tokens, so that padding is trained; others, the longest caption."""
    anchor_weight: float = 1.0
    """Of the mean squared change of the token states, so that a UNet that knows them need not start anew."""


class TextObjective(nn.Module):
    """`loss` = `record` + anchor_weight * `anchor`.

    `record` is the negative log-likelihood of what a caption claims, in nats a caption, as in CLIP's.
    """

    def __init__(self, text_encoder: CLIPTextModel, *, anchor_weight: float):
        super().__init__()
        self.text_encoder = copy.deepcopy(text_encoder).requires_grad_(True)
        self.start = copy.deepcopy(text_encoder).requires_grad_(False)
        self.head = RecordHead(class_counts(), width=text_encoder.config.hidden_size)
        self.anchor_weight = anchor_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`ids` int64 [n, tokens]; `end` int64 [n], where each row ends; `claims` int64 [n, fields]."""
        with plain_attention(batch["ids"].device):
            states = self.text_encoder(batch["ids"]).last_hidden_state
            with torch.no_grad():
                before = self.start(batch["ids"]).last_hidden_state
        with torch.autocast(states.device.type, enabled=False):
            readings = self.head(states.float(), batch["end"])
            record = record_loss(readings, batch["claims"], class_counts=self.head.class_counts)
            anchor = (states.float() - before.float()).square().mean()
        return {"loss": record + self.anchor_weight * anchor, "record": record, "anchor": anchor}


def word_batch(
    world: World, tokenizer: Bpe, *, stream: int, first: int, count: int, seed: int, whole: bool
) -> Batch:
    """Captions of scenes `first` ... of a stream, as if all of each could be seen; no picture is drawn."""
    drawn = [_caption(world, stream, first + i, seed=seed) for i in range(count)]
    ids = tokenizer.encode([caption.text for caption in drawn])
    end = torch.eq(ids, tokenizer.end).int().argmax(dim=1)
    if not whole:
        ids = ids[:, : -(-(int(end.max()) + 1) // PADDING_MULTIPLE) * PADDING_MULTIPLE]
    claims = torch.from_numpy(np.stack([encode_claims(caption.truth) for caption in drawn]))
    return {"ids": ids, "end": end, "claims": claims}


def _caption(world: World, stream: int, index: int, *, seed: int) -> Caption:
    scene = sample_scene(stream, index, world)
    return draw_caption(scene, Sight.everything(scene), seed=seed)


def train(
    run: TextRun,
    world: World,
    tokenizer: Bpe,
    text_encoder: CLIPTextModel,
    *,
    scene_seed: int,
    run_folder: Path,
    accelerator: Accelerator,
) -> Iterator[Progress]:
    """Train on captions of stream `scene_seed`, each drawn once; yields `Progress`."""
    rows = run.fit.batch_size

    def batch_at(step: int) -> Batch:
        whole = step % run.whole_every == 0
        return word_batch(
            world, tokenizer, stream=scene_seed, first=step * rows, count=rows, seed=run.seed, whole=whole
        )

    objective = TextObjective(text_encoder, anchor_weight=run.anchor_weight)
    origin = content_key(text_encoder)
    identity = fingerprint("text", run, tokenizer.merges, origin, scene_seed, world, words_key())
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


@torch.no_grad()
def score(objective: nn.Module, world: World, tokenizer: Bpe, *, scene_seed: int) -> dict[str, float]:
    """Shares in [0, 1] of the claims in another stream's captions that the attending probe reads, by kind."""
    assert isinstance(objective, TextObjective)
    device = next(objective.parameters()).device
    sums: dict[str, list[int]] = {}
    for first in range(0, SCORED_CAPTIONS, 100):
        batch = word_batch(world, tokenizer, stream=scene_seed, first=first, count=100, seed=0, whole=False)
        batch = {name: value.to(device) for name, value in batch.items()}
        states = objective.text_encoder(batch["ids"]).last_hidden_state.float()
        scores = objective.head(states, batch["end"]).attended
        for field, part in enumerate(scores.split(list(class_counts()), dim=1)):
            claimed = batch["claims"][:, field]
            kind = question_kind(FIELDS[field][0])
            asked = claimed != NOT_CLAIMED
            if kind.endswith("present"):
                asked &= claimed != ABSENT
            entry = sums.setdefault(kind, [0, 0])
            entry[0] += int((part.argmax(dim=1) == claimed)[asked].sum())
            entry[1] += int(asked.sum())
    return {f"held_out/{name}": right / told for name, (right, told) in sums.items() if told}


def trained_encoder(text_encoder: CLIPTextModel, run: TextRun, run_folder: Path) -> CLIPTextModel:
    """The averaged weights of the run's newest checkpoint, in a copy of `text_encoder`."""
    objective = TextObjective(text_encoder, anchor_weight=run.anchor_weight)
    load_averaged(objective.text_encoder, run_folder, prefix=ENCODER_PREFIX)
    return objective.text_encoder.eval().requires_grad_(False)
