"""A picture -> what it shows: the recogniser, a small network with one answer per field of a record.

Knows nothing of prompts or of how pictures were made; which fields and classes exist is data in its config.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS, CONFIG = "model.safetensors", "config.json"
POSITION_FREQUENCIES = 4
HEADS = 4
"""Of the attention in a decoder's layers."""
SCENE = "scene"
"""Fields without a dot in their name (city, weather ...) belong to the whole scene."""
COUNT = "count"
"""The question that a network with `points` answers by pointing."""
MOST = 4
"""Largest number of like things that is told from its neighbors."""
NO_POINT_BIAS = 8.0
"""Of an untrained network: it points at one cell in 3,000 for each kind, so that it begins near the truth."""


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """Shape of a recogniser and the questions it answers."""

    widths: tuple[int, ...]
    """Channels of the stages; the first works at half the resolution, the second at a quarter, and so on."""
    blocks: int
    """Residual blocks in each stage."""
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    """(field name, names of its classes)."""
    merged: int = 0
    """Channels of one map at a quarter of the resolution, into which the stages from there on are merged (a
    feature pyramid, arXiv 1612.03144), for things of a few pixels; 0: the last stage is the map."""
    decoder_layers: int = 0
    """Layers in which the subjects' queries look at the map and at each other (as in arXiv 2005.12872); 0:
    each looks once, by itself."""
    points: bool = False
    """Whether it points at each single thing in the merged map (as in arXiv 1904.07850), and answers with the
    number of points in mind (the sum of a density, as in Lempitsky and Zisserman 2010)."""
    size: int = 0
    """Pixels of the side of the pictures that it has learned from: others are read scaled to that; 0: as they
    are."""

    def __post_init__(self) -> None:
        if self.points and not self.merged:
            raise ValueError("points=True: needs a merged map; set merged, e.g. to 64.")


class Recogniser(nn.Module):
    """A residual network (arXiv 1512.03385) with group norm (arXiv 1803.08494) and one answer per field.

    Fields are named `subject.question`: "dog.color" asks for the dog's color, "dog.scarf.color" its scarf's.
    Each subject looks at the picture with a query of its own (attention pooling), and all subjects share the
    heads of equal questions, so that what is learned about the colors of cars serves cats too.
    """

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = config
        inputs = (3, *config.widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_Down(i, o), *(_Residual(o) for _ in range(config.blocks)))
            for i, o in zip(inputs, config.widths, strict=True)
        )
        width = config.merged or config.widths[-1]
        if config.merged:
            self.laterals = nn.ModuleList(nn.Conv2d(w, width, 1) for w in config.widths[1:])
            self.smooth = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()
            )
        asked = [(name.rpartition(".")[0] or SCENE, name.rpartition(".")[2]) for name, _ in config.fields]
        self.subjects = sorted({subject for subject, _ in asked})
        self.places = nn.Parameter(0.02 * torch.randn(1, 2 * POSITION_FREQUENCIES * 2, width))
        self.queries = nn.Parameter(torch.randn(len(self.subjects), width) * width**-0.5)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(
                width, HEADS, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.decoder_layers)
        )
        self.counted = [s for s in self.subjects if (s, COUNT) in asked] if config.points else []
        if config.points:
            self.points = nn.Conv2d(width, 1 + len(self.counted), 1)
            nn.init.normal_(self.points.weight, std=0.01)
            nn.init.zeros_(self.points.bias)  # type: ignore[arg-type]
            self.points.bias.data[0] = NO_POINT_BIAS  # type: ignore[union-attr, index]
        self.hidden = nn.Linear(3 * width + (1 + MOST if config.points else 0), width)
        self.heads = nn.ModuleDict()
        self._asked: list[tuple[int, str]] = []
        for (subject, question), (_, classes) in zip(asked, config.fields, strict=True):
            head = f"{question}_{len(classes)}"
            if head not in self.heads:
                self.heads[head] = nn.Linear(width, len(classes))
            self._asked.append((self.subjects.index(subject), head))

    def features(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Activations after each stage for pictures in [-1, 1]; what a perceptual loss compares."""
        activations: list[Tensor] = []
        x = pictures
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations

    def map(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """What the queries look at: a quarter of the resolution where stages are merged."""
        stages = self.features(pictures)
        if not self.config.merged:
            return stages[-1]
        merged = self.laterals[-1](stages[-1])
        for lateral, stage in zip(reversed(self.laterals[:-1]), reversed(stages[1:-1]), strict=True):
            merged = lateral(stage) + F.interpolate(merged, size=stage.shape[2:], mode="nearest")
        return self.smooth(merged)

    def embedding(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch subjects features"]:
        """What each subject's query found: features for answers and for distances between pictures."""
        return self._found(self.map(self.at_own_size(pictures)))

    def at_own_size(self, pictures: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Pictures whose shorter side is `config.size`, so that things are as large as it knows them."""
        height, width = pictures.shape[2:]
        if not self.config.size or min(height, width) == self.config.size:
            return pictures
        scale = self.config.size / min(height, width)
        sides = (round(height * scale), round(width * scale))
        return F.interpolate(pictures, sides, mode="bicubic", antialias=True).clamp(-1, 1)

    def point_logits(
        self, seen: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch kinds rows columns"]:
        """Of a network with `points`: logits of "no point" and of each of `counted`, for each cell."""
        return self.points(seen)

    def _numbers(self, seen: Tensor) -> Tensor:
        """How near the number of each subject's points is to 0 ... `MOST`, [batch, subjects, 1 + MOST]."""
        number = self.point_logits(seen).float().softmax(dim=1)[:, 1:].sum(dim=(2, 3))
        near = torch.exp(-4 * (number[..., None] - torch.arange(1 + MOST, device=number.device)) ** 2)
        places = [self.subjects.index(subject) for subject in self.counted]
        numbers = near.new_zeros(len(near), len(self.subjects), 1 + MOST)
        numbers[:, places] = near
        return numbers

    def _found(self, seen: Tensor) -> Tensor:
        tokens = seen.flatten(2).transpose(1, 2)
        tokens = tokens + _positions(seen.shape[2], seen.shape[3]).to(tokens) @ self.places[0]
        queries = self.queries.expand(len(tokens), -1, -1).to(tokens)
        if self.config.decoder_layers:
            found = queries
            for layer in self.decoder:
                found = layer(found, tokens)
        else:
            scores = (tokens @ self.queries.T * tokens.shape[-1] ** -0.5).softmax(dim=1)
            found = scores.transpose(1, 2) @ tokens
        overall = tokens.mean(dim=1, keepdim=True).expand_as(found)
        known = [found, overall, queries]
        if self.config.points:
            known.append(self._numbers(seen).to(found))
        return F.silu(self.hidden(torch.cat(known, dim=2)))

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch classes"], ...]:
        """Logits of each field, in the order of `config.fields`, for pictures in [-1, 1]."""
        return self.answers(self.map(pictures))

    def answers(
        self, seen: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, "batch classes"], ...]:
        """`forward`, from `map(pictures)` on."""
        found = self._found(seen)
        return tuple(self.heads[head](found[:, subject]) for subject, head in self._asked)

    @torch.no_grad()
    def read(self, pictures: Float[Tensor, "batch 3 height width"]) -> "Reading":
        """The most likely class of every field and its probability, for pictures of any one size."""
        answers = self(self.at_own_size(pictures))
        probabilities = [logits.float().softmax(dim=1).max(dim=1) for logits in answers]
        return Reading(
            fields=self.config.fields,
            classes=torch.stack([p.indices for p in probabilities], dim=1),
            confidence=torch.stack([p.values for p in probabilities], dim=1),
        )

    def save(self, folder: Path) -> None:
        """Write config and fp16 weights."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1))
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "Recogniser":
        """Open what `save` wrote, as fp32 in evaluation mode.

        Raises:
            FileNotFoundError: the folder holds no recogniser.
        """
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"folder={folder}: no {CONFIG} of a recogniser there; train or name one.")
        raw = json.loads((folder / CONFIG).read_text())
        fields = tuple((name, tuple(classes)) for name, classes in raw["fields"])
        shape = {name: raw[name] for name in ("merged", "decoder_layers", "points", "size") if name in raw}
        config = RecogniserConfig(widths=tuple(raw["widths"]), blocks=raw["blocks"], fields=fields, **shape)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten, are drawn globally
            network = cls(config)
        network.load_state_dict({k: v.float() for k, v in load_file(folder / WEIGHTS).items()})
        return network.eval()


@dataclass(frozen=True)
class Reading:
    """What a batch of pictures shows."""

    fields: Sequence[tuple[str, tuple[str, ...]]]
    classes: Tensor
    """int64 [batch, fields]."""
    confidence: Tensor
    """Probability of that class, [batch, fields]."""

    def of(self, field: str) -> list[str]:
        """The class names of one field, a picture each."""
        names = [name for name, _ in self.fields]
        if field not in names:
            raise ValueError(f"field={field!r}: the judge has no such field; choose from {', '.join(names)}.")
        index = names.index(field)
        return [self.fields[index][1][c] for c in self.classes[:, index].tolist()]


def _positions(height: int, width: int) -> Tensor:
    """Sines and cosines of each cell's place, [height width, 4 frequencies], alike at every resolution."""
    waves = []
    for count in (height, width):
        place = (torch.arange(count) + 0.5) / count
        angles = place[:, None] * torch.pi * torch.arange(1, POSITION_FREQUENCIES + 1)
        waves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows, columns = waves
    return torch.cat([rows.repeat_interleave(width, dim=0), columns.repeat(height, 1)], dim=1)


class _Down(nn.Module):
    """Halves the resolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class _Residual(nn.Module):
    """x + conv(silu(norm(conv(x))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.norm(self.first(x))))
