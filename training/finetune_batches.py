"""Captioned pictures -> the global batch of a fine-tuning step, a function of (seed, step).

Knows nothing of losses, and of networks only how to encode with them. What never changes is encoded once and
kept on disk under a key of its content, in rows that are checked when they are read; the rest is encoded when
it is needed, each row alone, so that its bits depend on no neighbor.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldm_pipeline.text import token_limit
from training.data.cache import content_key
from training.data.row_store import RowStore, stored_rows
from training.draws import generator

LAYOUT = "(mean - shift) * scale, std * scale"
"""What a row of latents holds, in words that change when it does."""
PIXELS_AT_ONCE = 2**20
"""Of pictures that are encoded together."""
TEXTS_AT_ONCE = 32
TEXTS_REMEMBERED = 4096
"""Encoded captions kept in memory where captions come in ever new forms."""

Batch = dict[str, Tensor]


class Pictures(Protocol):
    """What is asked of a set of captioned pictures; every answer is a pure function of its arguments."""

    @property
    def key(self) -> str: ...
    @property
    def sizes(self) -> Sequence[tuple[int, int]]: ...
    def __len__(self) -> int: ...
    def bucket_of(self, index: int) -> int: ...
    def tensor(self, index: int, *, draws: torch.Generator | None = None) -> Tensor: ...
    def caption(self, index: int, *, draws: random.Random) -> str: ...
    def captions(self, index: int) -> Sequence[str]: ...
    def batch_at(self, *, seed: int, step: int, batch_size: int) -> list[int]: ...


class LatentStore:
    """Scaled posterior mean and standard deviation of pictures, [2 c, h, w] each."""

    def __init__(self, pictures: Pictures, vae: Any, *, folder: Path, vary: bool):
        """Encode all pictures that are not in `folder` yet; none where they `vary` from step to step."""
        self.pictures, self.vae, self.vary = pictures, vae, vary
        self._kept: dict[int, RowStore] = {}
        self._place: dict[int, tuple[int, int]] = {}
        members: dict[int, list[int]] = {}
        for index in range(len(pictures)):
            bucket = pictures.bucket_of(index)
            self._place[index] = (bucket, len(members.setdefault(bucket, [])))
            members[bucket].append(index)
        self.members = members
        if vary:
            return
        self.key = content_key(vae, pictures.key)
        for bucket, indices in members.items():
            height, width = pictures.sizes[bucket]

            def make(first: int, last: int, indices: list[int] = indices) -> Tensor:
                return self._encoded(torch.stack([pictures.tensor(i) for i in indices[first:last]]))

            self._kept[bucket] = stored_rows(
                folder / f"latents-{self.key}-{height}x{width}.npy",
                make,
                count=len(indices),
                batch_size=max(1, PIXELS_AT_ONCE // (height * width)),
                facts={"content": self.key, "size": [height, width], "layout": LAYOUT},
                title=f"latents {height}x{width}",
            )

    def row(self, index: int, *, draws: torch.Generator | None = None) -> Tensor:
        """[2 c, h, w] in float32 on the CPU; `draws` decides what varies."""
        if self.vary:
            return self._encoded(self.pictures.tensor(index, draws=draws)[None])[0]
        bucket, position = self._place[index]
        return self._kept[bucket].read([position])[0]

    def shape(self, index: int) -> tuple[int, int, int]:
        """[c, h, w] of a picture's latents."""
        factor = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        height, width = self.pictures.sizes[self._place[index][0]]
        return self.vae.config["latent_channels"], height // factor, width // factor

    @torch.no_grad()
    def _encoded(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self.vae.device).contiguous(memory_format=torch.channels_last)
        posterior = self.vae.encode(pixels).latent_dist
        shift = self.vae.config.get("shift_factor") or 0.0
        both = torch.cat([posterior.mean - shift, posterior.std], dim=1).float()
        if not torch.isfinite(both).all():
            raise ValueError("vae: a picture's latents are no finite numbers; load the base in float32.")
        return (both * self.vae.config["scaling_factor"]).cpu()


class TextStore:
    """Texts to what the network is given: token ids [77], or, of an encoder that stays as it is, states."""

    def __init__(self, tokenizer: Any, text_encoder: Any):
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self.limit = token_limit(tokenizer, text_encoder)
        self._rows: RowStore | None = None
        self._positions: dict[str, int] = {}
        self._remembered: OrderedDict[str, Tensor] = OrderedDict()

    def keep(self, texts: Iterable[str], *, folder: Path) -> None:
        """Encode what is not in `folder` yet; for texts that come again and again."""
        distinct = sorted({*texts, ""})
        self._positions = {text: position for position, text in enumerate(distinct)}
        key = content_key(self.text_encoder, *distinct)
        self._rows = stored_rows(
            folder / f"states-{key}.npy",
            lambda first, last: self._encoded(distinct[first:last]),
            count=len(distinct),
            batch_size=TEXTS_AT_ONCE,
            facts={"content": key},
            title="captions",
        )

    def states(self, texts: Sequence[str]) -> Tensor:
        """Token states [texts, 77, width] in float32, through float16 as they are kept on disk."""
        return torch.stack([self._state(text) for text in texts]).float()

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [texts, 77], as the pipeline makes them."""
        found = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.limit,
            truncation=True,
            return_tensors="pt",
        )
        return found.input_ids

    def is_cut(self, text: str) -> bool:
        """Whether a text is too long for the encoder, so that its end is not read."""
        return len(self.tokenizer(text).input_ids) > self.limit

    def _state(self, text: str) -> Tensor:
        if self._rows is not None and text in self._positions:
            return self._rows.read([self._positions[text]])[0].half()
        if text not in self._remembered:
            self._remembered[text] = self._encoded([text])[0].half()
            if len(self._remembered) > TEXTS_REMEMBERED:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(text)
        return self._remembered[text]

    @torch.no_grad()
    def _encoded(self, texts: Sequence[str]) -> Tensor:
        ids = self.ids(texts).to(self.text_encoder.device)
        return self.text_encoder(ids).last_hidden_state.float().cpu()


@dataclass(frozen=True, kw_only=True)
class ClassPictures:
    """What the base draws for a class of things, to be kept while one of them is learned."""

    latents: NDArray[Any]
    """[pictures, c, h, w]."""
    prompt: str


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """All that batches are made of."""

    pictures: Pictures
    latents: LatentStore
    texts: TextStore
    seed: int
    batch_size: int
    as_ids: bool
    """Texts as token ids, for a text encoder that learns."""
    empty_share: float = 0.0
    noise_offset: float = 0.0
    class_pictures: ClassPictures | None = None
    spelling: Any = str
    """Last change to a caption, text to text."""

    def batch_at(self, step: int, *, own: slice = slice(None)) -> Batch:
        """The global batch of a step.

        Every draw of every row is made in every process. Rows outside of `own` are left empty where filling
        them would take a network.
        """
        rows = self.batch_size
        indices = self.pictures.batch_at(seed=self.seed, step=step, batch_size=rows)
        draws = generator(self.seed, "finetune", step)
        dropped = (torch.rand(rows, generator=draws) < self.empty_share).tolist()
        captions = [
            self.spelling(self.pictures.caption(index, draws=random.Random(f"{self.seed}/{step}/{row}")))
            for row, index in enumerate(indices)
        ]
        captions = ["" if drop else caption for drop, caption in zip(dropped, captions, strict=True)]
        shape = (rows, *self.latents.shape(indices[0]))
        mine = set(range(rows)[own]) if self.latents.vary or not self.as_ids else set(range(rows))
        latents = torch.zeros(rows, 2 * shape[1], *shape[2:])
        for row, index in enumerate(indices):
            if row in mine:
                latents[row] = self.latents.row(index, draws=generator(self.seed, "view", step, row))
        batch = {
            "latents": latents,
            "texts": self._texts(captions, mine),
            "posterior_noise": torch.randn(shape, generator=draws),
            "noise": self._noise(shape, draws),
            "uniform": _stratified(torch.rand(rows, 2, generator=draws)),
        }
        return batch | (self._class_rows(step, mine) if self.class_pictures is not None else {})

    def _class_rows(self, step: int, mine: set[int]) -> Batch:
        """As many rows of the class, under names that begin with `class_`."""
        assert self.class_pictures is not None
        kept, draws = self.class_pictures.latents, generator(self.seed, "class", step)
        chosen = torch.randint(0, len(kept), (self.batch_size,), generator=draws).tolist()
        mean = torch.from_numpy(np.stack([kept[i] for i in chosen])).float()
        return {
            "class_latents": torch.cat([mean, torch.zeros_like(mean)], dim=1),
            "class_texts": self._texts([self.class_pictures.prompt] * self.batch_size, mine),
            "class_posterior_noise": torch.zeros_like(mean),
            "class_noise": self._noise(tuple(mean.shape), draws),
            "class_uniform": _stratified(torch.rand(self.batch_size, 2, generator=draws)),
        }

    def _texts(self, captions: Sequence[str], mine: set[int]) -> Tensor:
        if self.as_ids:
            return self.texts.ids(captions)
        return self.texts.states([text if row in mine else "" for row, text in enumerate(captions)])

    def _noise(self, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
        noise = torch.randn(shape, generator=draws)
        if self.noise_offset:
            noise = noise + self.noise_offset * torch.randn(*shape[:2], 1, 1, generator=draws)
        return noise


def _stratified(uniform: Tensor) -> Tensor:
    """Spread the first column over equal bins of [0, 1), for a steadier loss (arXiv 2107.00630)."""
    rows = len(uniform)
    return torch.stack([(torch.arange(rows) + uniform[:, 0]) / rows, uniform[:, 1]], dim=1)
