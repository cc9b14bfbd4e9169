"""Run 0: recognisers that read a scene's record from its picture, for the perceptual loss and as judges.

Knows nothing of latents or captions. Recogniser 1 serves losses; recognisers 2 and 3 only judge.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from training.claims import FIELD_INDEX, FIELDS, NOT_CLAIMED, question_kind
from training.data.postcards import Postcards
from training.data.records import record_codes
from training.draws import generator, samples_at
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.pictures import picture_tensor
from training.scenes.parts import CODES, NOTHING
from training.scenes.world import KINDS

T = TypeVar("T")
NOTHING_WEIGHT = 0.2
"""Of cells that belong to nothing, four of five, in the loss of parts."""


@dataclass(frozen=True, kw_only=True)
class RecogniserRun:
    """One recogniser: its shape and its training."""

    fit: FitConfig
    widths: tuple[int, ...] = (24, 48, 96, 128, 160)
    blocks: int = 1
    seed: int = 1
    noise: float = 0.06
    """Largest standard deviation of the noise added to training pictures (range [-1, 1]), so that a
    reconstruction's or a sample's small defects do not derail the answers."""
    merged: int = 0
    decoder_layers: int = 0
    """Both as in `RecogniserConfig`."""
    part_weight: float = 0.0
    """Of a second loss: what each cell of 4 x 4 pixels belongs to is told from the merged map."""

    def __post_init__(self) -> None:
        if self.part_weight and not self.merged:
            raise ValueError(f"part_weight={self.part_weight}: needs a merged map; set merged, e.g. to 64.")


class RecogniserObjective(nn.Module):
    """Mean cross-entropy over the kinds of questions that are told, each over the fields that pictures tell.

    So the color of a garment, which few pictures tell, counts as much as what is absent from nearly all. With
    `part_weight`, plus so much of the cross-entropy of each cell's part.
    """

    def __init__(self, recogniser: Recogniser, *, part_weight: float = 0.0):
        super().__init__()
        self.recogniser, self.part_weight = recogniser, part_weight
        kinds = [question_kind(name) for name, _ in recogniser.config.fields]
        self.kinds = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
        if part_weight:
            self.part_head = nn.Conv2d(recogniser.config.merged, CODES, 1)
            weights = torch.ones(CODES)
            weights[NOTHING] = NOTHING_WEIGHT
            self.register_buffer("part_weights", weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`pictures` [-1, 1] [n, 3, height, width], `codes` int64 [n, fields]; with a part weight, also
        `parts` int64 [n, height/4, width/4]."""
        seen = self.recogniser.map(batch["pictures"])
        answers, codes = self.recogniser.answers(seen), batch["codes"]
        losses, asked = [], codes.new_zeros(())
        for fields in self.kinds.values():
            told = (codes[:, fields] != NOT_CLAIMED).sum()
            asked = asked + (told > 0)
            sums = [
                F.cross_entropy(answers[i].float(), codes[:, i], ignore_index=NOT_CLAIMED, reduction="sum")
                for i in fields
            ]
            losses.append(torch.stack(sums).sum() / told.clamp(min=1))
        read = torch.stack(losses).sum() / asked.clamp(min=1)
        if not self.part_weight:
            return {"loss": read}
        parts = F.cross_entropy(
            self.part_head(seen).float(), batch["parts"], weight=self.get_buffer("part_weights")
        )
        return {"loss": read + self.part_weight * parts, "read": read, "parts": parts}


def build_recogniser(run: RecogniserRun) -> Recogniser:
    """An untrained recogniser; its initial weights are a function of `run.seed`."""
    return _seeded(
        run,
        lambda: Recogniser(
            RecogniserConfig(
                widths=run.widths,
                blocks=run.blocks,
                fields=FIELDS,
                merged=run.merged,
                decoder_layers=run.decoder_layers,
            )
        ),
    )


def build_objective(run: RecogniserRun) -> RecogniserObjective:
    """Of an untrained recogniser; a function of `run.seed` too."""
    recogniser = build_recogniser(run)
    return _seeded(run, lambda: RecogniserObjective(recogniser, part_weight=run.part_weight))


def _seeded(run: RecogniserRun, build: Callable[[], T]) -> T:
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(run.seed, "recogniser").get_state())
        return build()


def all_codes(postcards: Postcards) -> Tensor:
    """Record codes int64 [pictures, fields] of a whole set."""
    return torch.from_numpy(np.stack([record_codes(scene, sight) for scene, sight in postcards]))


def small_codes(postcards: Postcards) -> Tensor:
    """Like `all_codes`, but only presence and color of kinds whose things are smaller than the set's median.

    Size is the area of a thing as drawn, by its height and its kind's proportions, hidden parts included.
    """
    sizes = [[thing.height**2 * KINDS[thing.kind].width / KINDS[thing.kind].height for thing in scene.things]
             for scene, _ in postcards]  # fmt: skip
    median = float(np.median([size for of_scene in sizes for size in of_scene] or [0.0]))
    codes = all_codes(postcards)
    small = torch.full_like(codes, NOT_CLAIMED)
    for row, ((scene, _), of_scene) in enumerate(zip(postcards, sizes, strict=True)):
        for kind in {thing.kind for thing in scene.things}:
            pairs = zip(scene.things, of_scene, strict=True)
            if max(size for thing, size in pairs if thing.kind == kind) < median:
                fields = [FIELD_INDEX[f"{kind}.present"], FIELD_INDEX[f"{kind}.color"]]
                small[row, fields] = codes[row, fields]
    return small


def train(
    run: RecogniserRun, postcards: Postcards, *, run_folder: Path, accelerator: Accelerator
) -> Iterator[Progress]:
    """Train on rendered scenes; yields `Progress`."""
    codes = all_codes(postcards)

    def batch_at(step: int) -> Batch:
        indices = samples_at(run.seed, step, batch_size=run.fit.batch_size, count=len(postcards))
        pictures = picture_tensor(postcards.images(indices.tolist()))
        draws = generator(run.seed, "noise", step)
        strength = torch.rand(len(indices), 1, 1, 1, generator=draws) * run.noise
        pictures = pictures + strength * torch.randn(pictures.shape, generator=draws)
        batch = {"pictures": pictures.contiguous(memory_format=torch.channels_last), "codes": codes[indices]}
        if run.part_weight:
            batch["parts"] = torch.from_numpy(postcards.parts(indices.tolist())).long()
        return batch

    objective = build_objective(run).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = fingerprint("recogniser", run, postcards.config.key, len(postcards))
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def trained_recogniser(run: RecogniserRun, run_folder: Path) -> Recogniser:
    """The averaged weights of a run's newest checkpoint, ready to read pictures."""
    recogniser = build_recogniser(run)
    load_averaged(recogniser, run_folder, prefix="recogniser.")
    return recogniser.eval().requires_grad_(False)


@torch.no_grad()
def field_accuracy(recogniser: Recogniser, pictures: Tensor, codes: Tensor) -> dict[str, tuple[int, int]]:
    """Right answers and questions of each field, for pictures [-1, 1] [n, 3, height, width]."""
    device = next(recogniser.parameters()).device
    right = torch.zeros(len(FIELDS), dtype=torch.int64)
    told = torch.zeros(len(FIELDS), dtype=torch.int64)
    for first in range(0, len(pictures), 64):
        classes = recogniser.read(pictures[first : first + 64].to(device)).classes.cpu()
        truth = codes[first : first + 64]
        right += ((classes == truth) & (truth != NOT_CLAIMED)).sum(dim=0)
        told += (truth != NOT_CLAIMED).sum(dim=0)
    return {name: (int(right[i]), int(told[i])) for i, (name, _) in enumerate(FIELDS)}


def group_accuracy(counts: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Shares in [0, 1] by kind of question: city, weather, time, present, color, count, side, garment ..."""
    sums: dict[str, list[int]] = {}
    for name, (right, told) in counts.items():
        entry = sums.setdefault(question_kind(name), [0, 0])
        entry[0] += right
        entry[1] += told
    return {kind: right / told for kind, (right, told) in sums.items() if told}
