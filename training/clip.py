"""Run 2: a tokenizer and a CLIP trained on postcards and their captions; its text tower conditions the UNet.

Knows nothing of latents. Losses are in `clip_objective.py`, the network and its export in `text_tower.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional as F

from training.claims import ABSENT, FIELD_INDEX, NOT_CLAIMED, class_counts, encode_claims, field_names
from training.clip_objective import ClipObjective, evaluate_clip
from training.data.postcards import Postcards, words_key
from training.data.records import record_codes
from training.draws import generator, samples_at
from training.folders import deliver
from training.loop import Batch, FitConfig, Progress, RunFolderError, fingerprint, fit, load_averaged
from training.parts import write_known_words
from training.pictures import picture_tensor
from training.scenes.caption import Caption, captions, draw_caption, wrong_captions
from training.scenes.world import World
from training.text_tower import build_clip, export_text_encoder, without_padding
from training.tokenizer import Bpe, read_tokenizer, train_tokenizer, write_transformers_tokenizer

TOKENIZER_CAPTIONS = 20_000
"""Captions that the encoding is trained on."""
TOKENIZER_KEY = "trained_on.txt"
"""In the tokenizer's folder: the fingerprint of what it was trained on."""
SCORED_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class ClipRun:
    """One CLIP: its shape and its training."""

    fit: FitConfig
    vocab_size: int = 2048
    width: int = 192
    layers: int = 6
    heads: int = 6
    image_size: int = 64
    """Pixels that the vision tower sees; pictures are reduced to it."""
    wrong_captions: int = 1
    """Hard negatives of each picture in a batch; each costs as much as its caption; every step draws
    others."""
    whole_every: int = 4
    """Every so manieth step sees all 77 tokens, so that padding is trained; others, the longest caption."""
    record_weight: float = 0.5
    seed: int = 3


def prepare_tokenizer(run: ClipRun, postcards: Postcards, *, run_folder: Path) -> Bpe:
    """Train the encoding on captions of `postcards`, or open it where it already lies in the run's folder.

    One of other captions or another size is trained anew.

    Raises:
        RunFolderError: it should be trained anew, but checkpoints know the old one.
    """
    folder = run_folder / "tokenizer"
    key = fingerprint("tokenizer", run.vocab_size, postcards.config.key, len(postcards), words_key())
    mark = folder / TOKENIZER_KEY
    if mark.is_file() and mark.read_text().strip() == key:
        return read_tokenizer(folder)
    if folder.exists() and any((run_folder / "checkpoints").glob("step-*")):
        raise RunFolderError(
            f"run folder {run_folder} was made with a tokenizer of other captions or another vocab_size; "
            "choose another --runs folder, or delete this one."
        )

    def write(new: Path) -> None:
        count = min(TOKENIZER_CAPTIONS, 4 * len(postcards))
        texts = [
            draw_caption(
                postcards.scene(i % len(postcards)), postcards.sight(i % len(postcards)), seed=i
            ).text
            for i in range(count)
        ]
        write_transformers_tokenizer(train_tokenizer(texts, vocab_size=run.vocab_size), new)
        (new / TOKENIZER_KEY).write_text(key + "\n")

    deliver(folder, write)
    return read_tokenizer(folder)


def initial_clip(run: ClipRun, tokenizer: Bpe | None = None) -> CLIP:
    """An untrained CLIP, a function of `run.seed`; without a tokenizer, of the recipe's vocabulary size."""
    size = tokenizer.vocabulary_size if tokenizer else run.vocab_size
    return build_clip(
        vocab_size=size, eos_token_id=size - 1, seed=run.seed, width=run.width, layers=run.layers,
        heads=run.heads, image_size=run.image_size,
    )  # fmt: skip


def build_objective(run: ClipRun, tokenizer: Bpe) -> ClipObjective:
    clip = initial_clip(run, tokenizer)
    return ClipObjective(clip, class_counts=class_counts(), record_weight=run.record_weight)


def caption_batch(
    run: ClipRun, postcards: Postcards, indices: list[int], tokenizer: Bpe, *, seed: int
) -> Batch:
    """Pictures, one caption of each, wrong captions, and what the captions claim and share."""
    drawn = [
        draw_caption(postcards.scene(i), postcards.sight(i), seed=seed + n) for n, i in enumerate(indices)
    ]
    wrong = [
        _wrong_texts(postcards, i, caption, count=run.wrong_captions, seed=seed + n)
        for n, (i, caption) in enumerate(zip(indices, drawn, strict=True))
    ]
    claims = np.stack([encode_claims(caption.truth) for caption in drawn])
    records = np.stack([record_codes(postcards.scene(i), postcards.sight(i)) for i in indices])
    pictures = picture_tensor(postcards.images(indices))
    if pictures.shape[-1] != run.image_size:
        pictures = F.interpolate(pictures, size=run.image_size, mode="area")
    rows = len(indices)
    ids = tokenizer.encode([caption.text for caption in drawn] + [text for texts in wrong for text in texts])
    return {
        "pictures": pictures.contiguous(memory_format=torch.channels_last),
        "ids": ids[:rows],
        "negative_ids": ids[rows:].unflatten(0, (rows, run.wrong_captions)),
        "claims": torch.from_numpy(claims),
        "also_true": also_true(claims, records),
        "row": torch.arange(rows),
    }


def also_true(claims: np.ndarray, records: np.ndarray) -> Tensor:
    """bool [pictures, captions]: whether every claim of caption j holds, or may hold, of picture i."""
    present = np.array([name.endswith(".present") for name in FIELD_INDEX])
    silent = (claims == NOT_CLAIMED) | (present & (claims == ABSENT))
    holds = (claims[None] == records[:, None]) | (records[:, None] == NOT_CLAIMED)
    return torch.from_numpy((silent[None] | holds).all(axis=2))


def _wrong_texts(postcards: Postcards, index: int, caption: Caption, *, count: int, seed: int) -> list[str]:
    """`count` wrong captions, drawn with replacement; for an empty caption, of a full one."""
    scene, sight = postcards.scene(index), postcards.sight(index)
    world = postcards.config.world
    found = wrong_captions(scene, caption, world=world)
    if not found:
        full = captions(scene, sight, form="full", paraphrases=1)[0]
        found = wrong_captions(scene, full, world=world)
    order = torch.randint(0, len(found), (count,), generator=generator(seed, "wrong", index)).tolist()
    return [found[i].text for i in order]


def train(
    run: ClipRun, postcards: Postcards, tokenizer: Bpe, *, run_folder: Path, accelerator: Accelerator
) -> Iterator[Progress]:
    """Train on pictures and captions; yields `Progress`."""

    def batch_at(step: int) -> Batch:
        indices = samples_at(run.seed, step, batch_size=run.fit.batch_size, count=len(postcards)).tolist()
        batch = caption_batch(run, postcards, indices, tokenizer, seed=step * run.fit.batch_size)
        if step % run.whole_every:
            batch["ids"] = without_padding(objective.clip, batch["ids"])
        return batch

    objective = build_objective(run, tokenizer)
    identity = fingerprint("clip", run, tokenizer.merges, postcards.config.key, len(postcards), words_key())
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def score(run: ClipRun, objective: nn.Module, held_out: Postcards, tokenizer: Bpe) -> dict[str, float]:
    """Share of wrong captions told from true ones, and of the claims read back from the token states."""
    assert isinstance(objective, ClipObjective)
    chosen = [
        i for i in range(len(held_out)) if draw_caption(held_out.scene(i), held_out.sight(i), seed=i).text
    ]
    device = next(objective.parameters()).device
    batches = (
        {
            name: value.to(device)
            for name, value in caption_batch(run, held_out, [i], tokenizer, seed=i).items()
        }
        for i in chosen[:SCORED_PICTURES]
    )
    scores = evaluate_clip(objective, batches, field_names=field_names())
    told = {f.name: f.correct / f.claimed for f in scores.fields if f.claimed}
    named = {name: told[name] for name in ("city", "weather", "time") if name in told}
    return {"held_out/swaps": scores.swap_accuracy, "held_out/record": scores.record_accuracy} | {
        f"held_out/{name}": value for name, value in named.items()
    }


def export(run: ClipRun, tokenizer: Bpe, *, world: World, run_folder: Path, folder: Path) -> None:
    """Write `text_encoder` and `tokenizer` folders (with the words of `world`) below `folder`."""
    objective = build_objective(run, tokenizer)
    load_averaged(objective, run_folder)
    encoder = export_text_encoder(
        objective.clip, bos_token_id=tokenizer.vocabulary_size - 2, pad_token_id=tokenizer.end
    )
    encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
    write_transformers_tokenizer(tokenizer, folder / "tokenizer")
    write_known_words(folder / "tokenizer", world)
