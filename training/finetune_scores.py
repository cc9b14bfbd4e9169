"""How a fine-tuning does: held-out loss, previews, drift from the base, and whether it copies its pictures.

Knows nothing of the loop. All is measured at fixed seeds, so that two numbers differ by the weights alone.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm_pipeline.images import contact_sheet
from ldm_pipeline.pipeline import LatentDiffusionPipeline
from training.bases import Base
from training.class_pictures import decoded, drawn_latents
from training.draws import generator
from training.finetune import FinetuneObjective, FinetuneRun
from training.finetune_batches import Batch, LatentStore, Pictures, TextStore
from training.folders import deliver
from training.loop import fingerprint

VALIDATION_LEVELS = 4
ROWS_AT_ONCE = 8
COMPARED_PICTURES = 1_024
"""Training pictures that previews are compared with, at most, evenly spaced over the set."""
COMPARED_IF_ENCODED = 128
"""The same where each has to be encoded for it."""


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What is measured with: everything but the weights."""

    run: FinetuneRun
    base: Base
    texts: TextStore
    held_out: LatentStore | None
    """None where no picture is held out."""
    training: LatentStore
    prompts: tuple[str, ...]
    """Of the previews; preview i has seed i."""
    bucket: int
    """The previews are as large as its pictures."""
    autocast: torch.dtype | None = None
    """Number type that the run is computed in; None: the weights' own."""

    @property
    def size(self) -> tuple[int, int]:
        return self.training.pictures.sizes[self.bucket]

    def computing(self, objective: FinetuneObjective) -> torch.autocast:
        """The number type of the run, for networks that hold layers in it."""
        device = objective.unet.device.type
        return torch.autocast(device, self.autocast, enabled=self.autocast is not None)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at the weights."""

    values: dict[str, float]
    previews: Tensor
    """Latents, [previews, c, h, w]."""
    drift: Tensor
    """Latents of the drift prompts' pictures."""


def preview_prompts(
    given: Sequence[str], held_out: Pictures, training: Pictures, *, count: int
) -> tuple[str, ...]:
    """The given prompts, or captions of held-out pictures, or, where there are none, of training pictures."""
    if given:
        return tuple(given)
    shown = held_out if len(held_out) else training
    captions = (shown.caption(i, draws=random.Random(f"preview/{i}")) for i in range(len(shown)))
    return tuple(list(dict.fromkeys(caption for caption in captions if caption))[:count]) or ("",)


def usual_bucket(pictures: Pictures) -> int:
    """The bucket with the most pictures."""
    buckets = [pictures.bucket_of(i) for i in range(len(pictures))]
    return max(sorted(set(buckets)), key=buckets.count)


def preview_pipeline(base: Base, objective: FinetuneObjective | None) -> LatentDiffusionPipeline:
    """The base's pipeline with the networks that learn, or as it is; a quiet one."""
    parts = base.pipeline
    pipeline = LatentDiffusionPipeline(
        vae=parts.vae,
        text_encoder=(objective and objective.text_encoder) or parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=objective.unet if objective else parts.unet,
        scheduler=parts.scheduler,
    )
    pipeline.generation_defaults = parts.generation_defaults
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def look(yardstick: Yardstick, objective: FinetuneObjective, *, before: Look | None = None) -> Look:
    """Measure the weights that `objective` holds, against `before`, the base's own measures."""
    run, pipeline = yardstick.run, preview_pipeline(yardstick.base, objective)

    def drawn(texts: Sequence[str]) -> Tensor:
        with yardstick.computing(objective):
            return drawn_latents(
                pipeline,
                list(texts),
                range(len(texts)),
                size=yardstick.size,
                steps=run.looks.steps,
                guidance=run.looks.guidance,
            )

    previews, drift = drawn(yardstick.prompts), drawn(run.looks.drift_prompts)
    values: dict[str, float] = {}
    if yardstick.held_out is not None:
        values["held_out/loss"] = held_out_loss(yardstick, objective)
    if before is not None:
        values["held_out/drift"] = float((drift - before.drift).square().mean())
        values["held_out/change"] = float((previews - before.previews).square().mean())
    bank = _means(yardstick.training, yardstick.bucket)
    values["held_out/nearest_to_previews"] = float(nearest(previews, bank).median())
    if yardstick.held_out is not None and yardstick.bucket in yardstick.held_out.members:
        others = _means(yardstick.held_out, yardstick.bucket)
        values["held_out/nearest_to_held_out"] = float(nearest(others, bank).median())
    return Look(values=values, previews=previews, drift=drift)


def look_at_base(yardstick: Yardstick, objective: FinetuneObjective, *, base_key: str, folder: Path) -> Look:
    """The base's own measures, kept in `folder`; `objective` must not have learned yet."""
    prompts = [yardstick.prompts, list(yardstick.size), yardstick.training.pictures.key]
    key = fingerprint("base", yardstick.run, base_key, prompts)
    path = folder / "measures.safetensors"
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            if facts["key"] == key:
                values = json.loads(facts["values"])
                return Look(
                    values=values, previews=file.get_tensor("previews"), drift=file.get_tensor("drift")
                )
    objective.eval()
    first = look(yardstick, objective)

    def write(new: Path) -> None:
        new.mkdir(parents=True)
        facts = {"key": key, "values": json.dumps(first.values)}
        save_file({"previews": first.previews, "drift": first.drift}, new / path.name, metadata=facts)

    deliver(folder, write)
    return first


def sheet(yardstick: Yardstick, latents: Tensor) -> Image.Image:
    """The previews as one picture."""
    return contact_sheet(decoded(yardstick.base.pipeline, latents), columns=4)


@torch.no_grad()
def held_out_loss(yardstick: Yardstick, objective: FinetuneObjective) -> float:
    """Mean loss over held-out pictures at fixed noise levels, fixed noise and fixed captions."""
    store = yardstick.held_out
    assert store is not None
    count = min(len(store.pictures), yardstick.run.looks.validation_pictures)
    chosen = set(range(count))
    total, device = 0.0, objective.unet.device
    for indices in store.members.values():
        own = [index for index in indices if index in chosen]
        for first in range(0, len(own), ROWS_AT_ONCE):
            for level in range(VALIDATION_LEVELS):
                batch = _validation_batch(yardstick, own[first : first + ROWS_AT_ONCE], level)
                batch = {name: value.to(device) for name, value in batch.items()}
                with yardstick.computing(objective):
                    total += float(objective.squared_errors(batch).sum())
    return total / (count * VALIDATION_LEVELS)


def _validation_batch(yardstick: Yardstick, indices: Sequence[int], level: int) -> Batch:
    store, run = yardstick.held_out, yardstick.run
    assert store is not None
    captions = [store.pictures.caption(i, draws=random.Random(f"held out/{i}")) for i in indices]
    if run.method == "textual_inversion":
        captions = [run.word.spelled_out(caption) for caption in captions]
    texts = yardstick.texts.ids(captions) if run.reads_ids else yardstick.texts.states(captions)
    shape = store.shape(indices[0])

    def noise(purpose: str) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator(0, purpose, i)) for i in indices])

    place = torch.full((len(indices),), (level + 0.5) / VALIDATION_LEVELS)
    return {
        "latents": torch.stack([store.row(i) for i in indices]),
        "texts": texts,
        "posterior_noise": noise("held-out posterior"),
        "noise": noise("held-out noise"),
        "uniform": torch.stack([place, torch.ones_like(place)], dim=1),
    }


def _means(store: LatentStore, bucket: int) -> Tensor:
    """Latents of pictures of a bucket, [pictures, c, h, w], without their spread."""
    members, most = store.members[bucket], COMPARED_IF_ENCODED if store.vary else COMPARED_PICTURES
    chosen = members[:: -(-len(members) // most)]
    rows = torch.stack([store.row(index) for index in chosen])
    return rows.chunk(2, dim=1)[0]


def nearest(latents: Tensor, bank: Tensor) -> Tensor:
    """Mean squared difference of each of `latents` [n, c, h, w] to the nearest of `bank` [m, c, h, w]."""
    distances = torch.cdist(latents.flatten(1).double(), bank.flatten(1).double())
    return (distances.min(dim=1).values.square() / latents[0].numel()).float()


def copying(values: Mapping[str, float]) -> str:
    """One sentence on the distances to the nearest training picture."""
    if "held_out/nearest_to_held_out" not in values:
        return "Whether it copies was not measured: no picture of the previews' size is held out."
    own, others = values["held_out/nearest_to_previews"], values["held_out/nearest_to_held_out"]
    share = own / others if others else float("inf")
    finding = "it may be copying: look at both" if share < 0.5 else "no sign of copying"
    return (
        f"Previews are {own:.3f} from their nearest training picture (median squared latent difference), "
        f"held-out pictures {others:.3f}: {share:.2f} times as far; {finding}."
    )
