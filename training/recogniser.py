"""Run 0: recognisers that read a scene's record from its picture, for the perceptual loss and as judges.

Knows nothing of latents or captions. Recogniser 1 serves losses; recognisers 2 and 3 only judge.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_pipeline.judge import Recogniser, RecogniserConfig
from training.claims import FIELD_INDEX, FIELDS, NOT_CLAIMED, question_kind
from training.data.cache import content_key
from training.data.postcards import PART_CELL, Postcards
from training.data.records import record_codes
from training.draws import generator, samples_at
from training.loop import Batch, FitConfig, Progress, fingerprint, fit, load_averaged
from training.optim import UNSAID
from training.pictures import picture_tensor
from training.scenes.parts import CODES, NOTHING
from training.scenes.world import KINDS

T = TypeVar("T")
NOTHING_WEIGHT = 0.2
"""Of cells that belong to nothing, four of five, in the loss of parts."""
POINT_HEIGHT = 0.8
"""Where a thing is pointed at, in heights above its lower edge: a front row hides what is low."""
OPPOSITE = {"left": "right", "right": "left"}
UNTOLD = -100
"""Of a cell, in the loss of points: a thing that cannot be seen has its point there."""


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
    point_weight: float = field(default=0.0, metadata=UNSAID)
    """Of a third loss, for networks that count by pointing: which cells hold a single thing's point."""
    mirrored_share: float = field(default=0.0, metadata=UNSAID)
    """Share of the training pictures that are seen in a mirror; left is right then."""

    def __post_init__(self) -> None:
        for name in ("part_weight", "point_weight"):
            if getattr(self, name) and not self.merged:
                raise ValueError(f"{name}={getattr(self, name)}: needs a merged map; set merged, e.g. to 64.")
        if not 0 <= self.mirrored_share <= 1:
            raise ValueError(f"mirrored_share={self.mirrored_share}: is a share; choose 0 to 1.")


class RecogniserObjective(nn.Module):
    """Mean cross-entropy over the kinds of questions that are told, each over the fields that pictures tell.

    So the color of a garment, which few pictures tell, counts as much as what is absent from nearly all. With
    `part_weight`, plus so much of the cross-entropy of each cell's part; with `point_weight`, plus so much of
    that of each cell's point, over the number of points.
    """

    def __init__(self, recogniser: Recogniser, *, part_weight: float = 0.0, point_weight: float = 0.0):
        super().__init__()
        self.recogniser, self.part_weight, self.point_weight = recogniser, part_weight, point_weight
        kinds = [question_kind(name) for name, _ in recogniser.config.fields]
        self.kinds = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
        if part_weight:
            self.part_head = nn.Conv2d(recogniser.config.merged, CODES, 1)
            weights = torch.ones(CODES)
            weights[NOTHING] = NOTHING_WEIGHT
            self.register_buffer("part_weights", weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`pictures` [-1, 1] [n, 3, height, width], `codes` int64 [n, fields]; with a part weight, also
        `parts`, with a point weight also `points`, both int64 [n, height/4, width/4]."""
        seen = self.recogniser.map(batch["pictures"])
        answers, codes = self.recogniser.answers(seen), batch["codes"]
        kinds, asked = [], codes.new_zeros(())
        for fields in self.kinds.values():
            told = (codes[:, fields] != NOT_CLAIMED).sum()
            asked = asked + (told > 0)
            sums = [
                F.cross_entropy(answers[i].float(), codes[:, i], ignore_index=NOT_CLAIMED, reduction="sum")
                for i in fields
            ]
            kinds.append(torch.stack(sums).sum() / told.clamp(min=1))
        read = torch.stack(kinds).sum() / asked.clamp(min=1)
        losses, loss = {"read": read}, read
        if self.part_weight:
            losses["parts"] = F.cross_entropy(
                self.part_head(seen).float(), batch["parts"], weight=self.get_buffer("part_weights")
            )
            loss = loss + self.part_weight * losses["parts"]
        if self.point_weight:
            points = F.cross_entropy(
                self.recogniser.point_logits(seen).float(),
                batch["points"],
                ignore_index=UNTOLD,
                reduction="sum",
            )
            losses["points"] = points / (batch["points"] > 0).sum().clamp(min=1)
            loss = loss + self.point_weight * losses["points"]
        return {"loss": loss, **losses} if len(losses) > 1 else {"loss": loss}


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
                points=run.point_weight > 0,
            )
        ),
    )


def build_objective(run: RecogniserRun, *, initial: Recogniser | None = None) -> RecogniserObjective:
    """Of an untrained recogniser, or of one that goes on from `initial`; a function of `run.seed` too.

    Raises:
        ValueError: `initial` has another shape (but it need not point), or answers other questions.
    """
    recogniser = build_recogniser(run)
    if initial is not None:
        copy_recogniser(initial, recogniser)
    return _seeded(
        run,
        lambda: RecogniserObjective(recogniser, part_weight=run.part_weight, point_weight=run.point_weight),
    )


@torch.no_grad()
def copy_recogniser(old: Recogniser, new: Recogniser) -> None:
    """Load `old` into `new`, which may point where `old` does not: then its answers stay what they were.

    Raises:
        ValueError: they differ in anything else, or `old` points and `new` does not.
    """
    shapes = [asdict(network.config) for network in (old, new)]
    differing = [name for name in shapes[0] if shapes[0][name] != shapes[1][name] and name != "size"]
    if differing and (differing != ["points"] or old.config.points):
        raise ValueError(
            f"--init-from: not the recipe's network (other {', '.join(differing)}); name another folder, or "
            "change the recipe with --set."
        )
    weights = old.state_dict()
    hidden = new.hidden.weight.new_zeros(new.hidden.weight.shape)
    hidden[:, : weights["hidden.weight"].shape[1]] = weights["hidden.weight"]
    new.load_state_dict({**weights, "hidden.weight": hidden}, strict=not differing)


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


def all_points(postcards: Postcards) -> list[Int64[Tensor, "points 3"]]:
    """Of each picture: row and column of its things' points among cells of 4 x 4 pixels, and what is there.

    That is 1 + the kind's place among the kinds, in the alphabet's order as in `Recogniser.counted`, or
    `UNTOLD` for a thing that cannot be seen.
    """
    cells, kinds = postcards.config.size // PART_CELL, sorted(KINDS)
    found = []
    for scene, sight in postcards:
        rows = [
            (
                min(max(int((thing.y - POINT_HEIGHT * thing.height) * cells / 1000), 0), cells - 1),
                min(max(int(thing.x * cells / 1000), 0), cells - 1),
                1 + kinds.index(thing.kind) if visible else UNTOLD,
            )
            for thing, visible in zip(scene.things, sight.things_seen, strict=True)
        ]
        found.append(torch.tensor(rows, dtype=torch.int64).reshape(-1, 3))
    return found


def point_map(points: Sequence[Int64[Tensor, "points 3"]], cells: int) -> Int64[Tensor, "n cells cells"]:
    """What each cell holds the point of: 0 nothing; else as in `all_points`. What can be seen goes first."""
    maps = torch.zeros(len(points), cells, cells, dtype=torch.int64)
    for number, of_picture in enumerate(points):
        for row, column, what in sorted(of_picture.tolist(), key=lambda point: point[2]):
            maps[number, row, column] = what
    return maps


def mirror(batch: Batch, chosen: Tensor) -> None:
    """Turn the `chosen` rows of a batch, bool [n], left for right, what is asked of them too; in place."""
    for name in ("pictures", "parts", "points"):
        if name in batch:
            batch[name][chosen] = batch[name][chosen].flip(-1)
    codes = batch["codes"].clone()
    for name, classes in FIELDS:
        if question_kind(name) == "side":
            turned = torch.tensor(
                [*(classes.index(OPPOSITE.get(side, side)) for side in classes), NOT_CLAIMED]
            )
            codes[chosen, FIELD_INDEX[name]] = turned[codes[chosen, FIELD_INDEX[name]]]
    batch["codes"] = codes


def train(
    run: RecogniserRun,
    postcards: Postcards,
    *,
    run_folder: Path,
    accelerator: Accelerator,
    initial: Recogniser | None = None,
) -> Iterator[Progress]:
    """Train on rendered scenes, from `initial` on where it is given; yields `Progress`."""
    codes = all_codes(postcards)
    points = all_points(postcards) if run.point_weight else []

    def batch_at(step: int) -> Batch:
        indices = samples_at(run.seed, step, batch_size=run.fit.batch_size, count=len(postcards))
        pictures = picture_tensor(postcards.images(indices.tolist()))
        draws = generator(run.seed, "noise", step)
        strength = torch.rand(len(indices), 1, 1, 1, generator=draws) * run.noise
        pictures = pictures + strength * torch.randn(pictures.shape, generator=draws)
        batch = {"pictures": pictures.contiguous(memory_format=torch.channels_last), "codes": codes[indices]}
        if run.part_weight:
            batch["parts"] = torch.from_numpy(postcards.parts(indices.tolist())).long()
        if run.point_weight:
            cells = pictures.shape[2] // PART_CELL
            batch["points"] = point_map([points[i] for i in indices.tolist()], cells)
        if run.mirrored_share:
            mirror(batch, torch.rand(len(indices), generator=draws) < run.mirrored_share)
        return batch

    objective = build_objective(run, initial=initial)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start = () if initial is None else (content_key(initial),)
    identity = fingerprint("recogniser", run, postcards.config.key, len(postcards), *start)
    yield from fit(
        objective, batch_at, config=run.fit, run_folder=run_folder, accelerator=accelerator, identity=identity
    )


def trained_recogniser(run: RecogniserRun, run_folder: Path, *, size: int) -> Recogniser:
    """The averaged weights of a run's newest checkpoint, ready to read; it learned from `size` pixels."""
    recogniser = build_recogniser(run)
    recogniser.config = replace(recogniser.config, size=size)
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
