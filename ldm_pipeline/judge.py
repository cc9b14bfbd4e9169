"""A picture -> what it shows: the recogniser, a small network with one answer per field of a scene's record.

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
COLUMNS = 3
"""The head sees the left, middle and right third of the picture apart, so that sides can be told."""


@dataclass(frozen=True, kw_only=True)
class RecogniserConfig:
    """Shape of a recogniser and the questions it answers."""

    widths: tuple[int, ...]
    """Channels of the stages; the first works at half, the second at a quarter of the resolution, and so on."""
    blocks: int
    """Residual blocks in each stage."""
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    """(field name, names of its classes)."""


class Recogniser(nn.Module):
    """A residual network (arXiv 1512.03385) with group norm (arXiv 1803.08494) and one linear answer per field."""

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = config
        inputs = (3, *config.widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_Down(i, o), *(_Residual(o) for _ in range(config.blocks)))
            for i, o in zip(inputs, config.widths, strict=True)
        )
        self.class_counts = [len(classes) for _, classes in config.fields]
        self.hidden = nn.Linear(2 * COLUMNS * config.widths[-1], 512)
        self.answers = nn.Linear(512, sum(self.class_counts))

    def features(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Activations after each stage for pictures in [-1, 1]; what a perceptual loss compares."""
        activations: list[Tensor] = []
        x = pictures
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations

    def embedding(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 512"]:
        """The last hidden layer: features for distances between sets of pictures."""
        last = self.features(pictures)[-1]
        columns = (1, COLUMNS)
        pooled = torch.cat(
            [F.adaptive_avg_pool2d(last, columns), F.adaptive_max_pool2d(last, columns)], dim=1
        )
        return F.silu(self.hidden(pooled.flatten(1)))

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch classes"], ...]:
        """Logits of each field, in the order of `config.fields`, for pictures in [-1, 1]."""
        return self.answers(self.embedding(pictures)).split(self.class_counts, dim=1)

    @torch.no_grad()
    def read(self, pictures: Float[Tensor, "batch 3 height width"]) -> "Reading":
        """The most likely class of every field and its probability."""
        probabilities = [logits.float().softmax(dim=1).max(dim=1) for logits in self(pictures)]
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
        network = cls(RecogniserConfig(widths=tuple(raw["widths"]), blocks=raw["blocks"], fields=fields))
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
